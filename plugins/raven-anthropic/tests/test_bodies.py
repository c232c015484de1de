"""Thinking that another vendor made does not stand in the way of the rest of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_anthropic.bodies import build_body

from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]


def body(*blocks: Any, **fields: Any) -> bytes:
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": list(blocks)}]
    question = {
        "model": "m",
        "max_tokens": 9,
        "messages": [*turns, {"role": "user", "content": "R"}],
        **fields,
    }
    return msgspec.json.encode(question).replace(b'"model":', b'"model" : ')


OURS = {"type": "thinking", "thinking": "hm", "signature": "sig"}
TEXT = {"type": "text", "text": 'He said "raven:x" and "signature":"" to me'}
FOREIGN = [
    {"type": "thinking", "thinking": "hm", "signature": "raven:google:signature::s"},
    {"type": "thinking", "thinking": "hm", "signature": ""},
    {"type": "redacted_thinking", "data": "raven:openai:data:rs:x"},
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_another_vendor_thought_is_left_out(foreign: Any, make_exchange: Make) -> None:
    """And nothing else; a turn that was nothing but that goes with it."""
    exchange = make_exchange(body(foreign, OURS, TEXT))
    assert build_body(exchange, signs_thinking=True) == body(OURS, TEXT)
    assert build_body(exchange, signs_thinking=False) == exchange.body
    left = msgspec.json.decode(build_body(make_exchange(body(foreign)), signs_thinking=True))
    assert [turn["role"] for turn in left["messages"]] == ["user", "user"]


def test_what_only_speaks_of_it_stays_byte_for_byte(make_exchange: Make) -> None:
    for blocks in ([OURS, TEXT], [{"type": "thinking", "signature": 7}, TEXT], [7, TEXT]):
        exchange = make_exchange(body(*blocks))
        assert build_body(exchange, signs_thinking=True) == exchange.body


def test_it_goes_together_with_an_alias(make_exchange: Make) -> None:
    exchange = make_exchange(body(FOREIGN[0], TEXT), model="claude-x")
    assert build_body(exchange, signs_thinking=True) == body(TEXT).replace(b'"m"', b'"claude-x"')
