"""The errors of the estimates are measured on every recorded exchange, published, and within bounds."""

from __future__ import annotations

import os
import re
import statistics
from pathlib import Path

import pytest
from raven_meter import records

from .estimates import Measured, measure, table
from .recordings import load_all

README = Path(__file__).parents[2] / "plugins" / "raven-meter" / "README.md"
PLACE = re.compile(r"(?<=<!-- estimates -->\n).*?(?=\n<!-- /estimates -->)", re.DOTALL)
# What a prompt's bytes cannot tell: what a vendor's own tools read, files and caches named by an id.
FETCHED = re.compile(
    "server-tools|caching|document|websearch|codeinterp|citations|image-generation|vision|file|image|multimodal"
)


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    if not load_all():
        reason = "no recorded exchanges; name their folder in RAVEN_RECORDED"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return measure()


def test_the_published_errors_are_the_measured_ones(measured: list[Measured]) -> None:
    """The table in the README of raven-meter; RAVEN_WRITE=1 writes it anew."""
    text = README.read_text()
    wanted = table(measured)
    if os.environ.get("RAVEN_WRITE"):
        README.write_text(PLACE.sub(lambda _: wanted, text))
    found = PLACE.search(README.read_text())
    assert found is not None
    assert found[0] == wanted


def test_the_bytes_of_a_crashed_stream_are_counted_by_what_is_usual(measured: list[Measured]) -> None:
    """The constants are the medians, within a tenth."""
    for streaming, used in ((True, records._STREAM_BYTES_PER_TOKEN), (False, records._WHOLE_BYTES_PER_TOKEN)):
        ratios = [one.raw / one.reported for one in measured if one.streaming == streaming]
        assert len(ratios) > 100
        assert statistics.median(ratios) == pytest.approx(used, rel=0.1)


def test_an_answer_is_never_counted_for_much_more_than_it_was(measured: list[Measured]) -> None:
    """Whoever leaves a stream pays for words that were seen: half of the answers are counted too low, since
    tokens of hidden reasoning are not seen, and nine in ten at most a half too high.
    """
    ratios = sorted(one.counted / one.reported for one in measured if one.counted is not None)
    assert ratios[len(ratios) // 2] <= 1
    assert ratios[int(len(ratios) * 0.9)] <= 1.5


def test_the_bound_of_a_prompt_holds_for_what_its_bytes_tell(measured: list[Measured]) -> None:
    """For nine prompts in ten, where the vendor reads nothing that is not in the request."""
    told = [one for one in measured if one.bound and one.prompt and not FETCHED.search(one.id)]
    assert len(told) > 200
    low = [one for one in told if one.prompt > one.bound]  # type: ignore[operator]
    assert len(low) <= len(told) * 0.1, [one.id for one in low]
