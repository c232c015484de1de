"""The tables of `make conformance`, and that those in the documents are of today's recordings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from .cases import cases
from .scoreboard import full_tables, short_table, write_block
from .upstreams import ALL_FACES, find_route

_HERE = Path(__file__).parent
_CELLS = {("chat", "openai", "error"): [1, 2], ("messages", "openai", "error"): [3, 3]}
_REQUESTS = {("openai.chat", "gemini"): Counter(sent=2, refused=1)}


def test_a_table_counts() -> None:
    """Passed and all stand in each cell; what was not tried stays empty."""
    lines = full_tables(_CELLS, _REQUESTS).splitlines()
    assert lines[2] == "| openai | error | | 1/2 | | 3/3 | | | |"
    assert lines[-1] == "| openai.chat | 2 sent, 1 refused |"
    short = short_table(_CELLS, _REQUESTS)
    assert "| **all** | | 1/2 | | 3/3 | | | |" in short
    assert short.endswith("2 valid, 1 refused with a reason.")


def test_a_block_is_replaced(tmp_path: Path) -> None:
    """Only what stands between the markers changes; a document without them is refused."""
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- conformance -->\nold\n<!-- /conformance -->\nafter\n")
    write_block(document, "new")
    assert document.read_text() == "before\n<!-- conformance -->\n\nnew\n\n<!-- /conformance -->\nafter\n"
    document.write_text("no markers\n")
    with pytest.raises(ValueError, match="block"):
        write_block(document, "new")


def test_the_documents_are_of_these_recordings() -> None:
    """The tables count each exchange; `RAVEN_CONFORMANCE=write make conformance` renews them."""
    if not cases():
        pytest.skip("no recordings")
    expected = [
        sum(find_route(case, face) is not None for case in (*cases(), *cases(errors=True)))
        for face in ALL_FACES
    ]
    for path, row in (
        (_HERE / "README.md", r"^\| all \|(.*)$"),
        (_HERE.parents[1] / "README.md", r"\*\*all\*\* \|(.*)$"),
    ):
        found = re.search(row, path.read_text(), re.MULTILINE)
        assert found, f"{path} has no table"
        totals = [int(total) for total in re.findall(r"\d+/(\d+)", found[1])]
        assert totals[1:5] == expected
