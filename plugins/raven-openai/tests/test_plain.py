"""The short way of metering agrees with the long one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raven_openai import taps
from raven_openai.plain import read_plain
from raven_openai.taps import Metering, WholeTap

COUNTS = st.integers(-2, 40) | st.none() | st.just(10**9)
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "odd"]), COUNTS, max_size=3
)
USAGE = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS},
    optional={
        "prompt_tokens_details": DETAILS | st.none(),
        "completion_tokens_details": DETAILS,
        "odd": COUNTS,
    },
)
CHOICE = st.fixed_dictionaries({"finish_reason": st.sampled_from(["stop", "eos", "", None])})
REPLY = st.fixed_dictionaries(
    {"usage": USAGE, "choices": st.lists(CHOICE)},
    optional={"error": st.none() | st.just({"message": "no"}), "object": st.just("chat.completion")},
)


def whole(text: bytes) -> Any:
    tap = WholeTap(Metering(b"{}"))
    tap.feed(text)
    return tap.close()


@given(reply=REPLY)
def test_both_ways_read_the_same(reply: dict[str, Any]) -> None:
    """Whatever the short way understands, the long way reads to the same figures."""
    text = msgspec.json.encode(reply)
    short = read_plain(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taps, "read_plain", lambda _text: None)
        long = whole(text)
    assert short is None or short == long
    assert whole(text) == long


def test_the_usual_reply_takes_the_short_way() -> None:
    """OpenAI's own shape is understood without a search."""
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    tally = read_plain(msgspec.json.encode({"id": "x", "choices": choices, "usage": counts}))
    assert tally is not None
    assert tally.usage is not None
    assert (tally.usage.total_tokens, tally.finish_reason) == (7, "stop")
