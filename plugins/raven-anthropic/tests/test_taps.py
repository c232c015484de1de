"""Metering of streams that pass: what the full reader finds, for a fraction of its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_anthropic import PROVIDER_SIDE
from raven_anthropic.taps import StreamTap

from raven_proxy.exchange import Exchange
from raven_proxy.metering import EventTap
from raven_proxy.providers import Tally

Make = Callable[..., Exchange]
QUESTION = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
START = {
    "type": "message_start",
    "message": {"id": "m", "model": "c", "usage": {"input_tokens": 9, "output_tokens": 1}},
}
OPEN = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
SAY = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": 'Say "type":"error" \\ ü'},
}
CLOSE = {"type": "content_block_stop", "index": 0}
USED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
STOP = {"type": "message_stop"}
FAIL = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
CALL = {
    "type": "content_block_start",
    "index": 1,
    "content_block": {"type": "tool_use", "id": "a", "name": "t"},
}


def frames(*events: Any, end: bytes = b"\n") -> bytes:
    pieces = (
        b"event: %b%bdata: %b%b%b" % (e["type"].encode(), end, msgspec.json.encode(e), end, end)
        for e in events
    )
    return b"".join(pieces)


def run(tap: Any, data: bytes, size: int) -> Tally:
    for start in range(0, len(data), size):
        tap.feed(data[start : start + size])
    return tap.close()  # type: ignore[no-any-return]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "events",
    [
        [START, OPEN, *[SAY] * 400, CLOSE, USED, STOP],
        [START, OPEN, SAY, CLOSE, CALL, {**CLOSE, "index": 1}, USED, STOP],
        [START, OPEN, SAY, USED],
        [START, OPEN, SAY, FAIL],
        [FAIL],
        [],
    ],
)
def test_it_finds_what_the_full_reader_finds(events: list[Any], end: bytes, make_exchange: Make) -> None:
    """Whatever the line ends and the reads; an end that was only quoted is none."""
    data, exchange = frames(*events, end=end), make_exchange(QUESTION)
    expected = run(EventTap(exchange, PROVIDER_SIDE.open_reader()), data, len(data) or 1)
    for size in (1, 7, 1460, len(data) or 1):
        tally = run(StreamTap(exchange, PROVIDER_SIDE.open_reader()), data, size)
        assert (tally.finish_reason, tally.complete, tally.error) == (
            expected.finish_reason, expected.complete, expected.error,
        )  # fmt: skip
        assert (tally.usage is None, expected.usage is None) == (False, False)
        if not expected.usage.estimated:  # type: ignore[union-attr]
            assert tally.usage == expected.usage


def test_a_stream_that_breaks_off_is_billed_by_its_words(make_exchange: Make) -> None:
    data = frames(START, OPEN, *[{**SAY, "delta": {"type": "text_delta", "text": "x" * 40}}] * 10)
    for size in (13, len(data)):
        tally = run(StreamTap(make_exchange(QUESTION), PROVIDER_SIDE.open_reader()), data, size)
        assert tally.usage is not None
        assert (tally.usage.completion_tokens, tally.usage.estimated, tally.complete) == (100, True, False)


def test_an_error_of_another_shape_is_found(make_exchange: Make) -> None:
    for data in (b'event: error\ndata: {"message":"No"}\n\n', b'data: {"error":{"message":"No"}}\n\n'):
        tally = run(StreamTap(make_exchange(QUESTION), PROVIDER_SIDE.open_reader()), frames(START) + data, 9)
        assert tally.error == "No"
