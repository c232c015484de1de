"""What Claude streams comes out of Amazon's frames as Anthropic's own events, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy.errors import UpstreamRefused
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.testing import run_stage

from .conftest import MESSAGES_BODY as BODY
from .conftest import Recording, chunk, frame

Make = Callable[..., Exchange]
FRAMES = ReplyHead(200, {"content-type": "application/vnd.amazon.eventstream"})
SSE = ReplyHead(200, {"content-type": "text/event-stream"})
JSON = ReplyHead(200, {"content-type": "application/json"})

# -- replies -------------------------------------------------------------------------

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüß dich"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {
        "type": "message_stop",
        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 7},
    },
]
STREAM = b"".join([chunk(event) for event in EVENTS])


def opened(exchange: Exchange, provider: Any, head: ReplyHead = FRAMES) -> Any:
    provider.build_request(exchange)
    exchange.head = head
    return provider.open_translator(exchange, head)


def test_a_stream_is_unpacked_at_every_cut(make_messages: Make, provider: Any) -> None:
    out = run_stage(lambda: opened(make_messages(), provider), STREAM)
    assert out == b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in EVENTS
    )


def test_a_stream_is_metered_by_its_dialects_own_reader(make_messages: Make, provider: Any) -> None:
    stage = opened(make_messages(), provider)
    stage.feed(STREAM)
    stage.close()
    tally = stage.tap.close()
    assert (tally.usage.completion_tokens, tally.finish_reason, tally.complete, tally.error) == (
        7,
        "stop",
        True,
        None,
    )
    assert stage.content_type == "text/event-stream"
    broken = opened(make_messages(), provider)
    broken.feed(STREAM[:-40])
    assert broken.tap.close().complete is False


def test_recorded_streams_are_unpacked_byte_for_byte(
    make_messages: Make, provider: Any, recordings: list[Recording]
) -> None:
    found = [one for one in recordings if one.surface == "bedrock.invoke" and one.streaming]
    assert len(found) >= 6
    for recording in found:
        out = opened(make_messages(), provider).feed(recording.body())
        lines = re.findall(rb"event: (\w+)\ndata: ([^\n]+)\n\n", out)
        sent = [line[5:].strip() for line in recording.response["body"].encode().split(b"\n") if line]
        assert [msgspec.json.decode(data) for _, data in lines] == [msgspec.json.decode(one) for one in sent]
        assert all(msgspec.json.decode(data)["type"].encode() == name for name, data in lines)


def test_a_fault_in_a_stream_is_the_dialects_error_event(make_messages: Make, provider: Any) -> None:
    fault = frame("throttlingException", {"message": "Too many tokens."}, "exception")
    stage = opened(make_messages(), provider)
    out = stage.feed(STREAM[:60]) + stage.feed(STREAM[60:-100] + b"")
    assert out
    stage = opened(make_messages(), provider)
    out = stage.feed(chunk(EVENTS[0]) + fault + STREAM)
    assert out.startswith(b"event: message_start\n")
    assert b'error: {"error":{"type":"rate_limit_error"' in out
    assert out.count(b"event:") == 1
    assert stage.feed(STREAM) == b""
    assert stage.tap.close().error == "Too many tokens."


def test_a_fault_before_the_first_event_is_a_proper_error(make_messages: Make, provider: Any) -> None:
    stage = opened(make_messages(), provider)
    with pytest.raises(UpstreamRefused) as caught:
        stage.feed(frame("validationException", {"message": "No."}, "exception"))
    assert caught.value.status == 400


@pytest.mark.parametrize("place", [9, 30, -2])
def test_corrupt_frames_are_an_error_and_not_text(make_messages: Make, provider: Any, place: int) -> None:
    damaged = bytearray(STREAM)
    damaged[place] ^= 1
    stage = opened(make_messages(), provider)
    if place < 0:
        assert b"cannot be read" in stage.feed(bytes(damaged))
    else:
        with pytest.raises(UpstreamRefused):
            stage.feed(bytes(damaged))


def test_a_stream_that_came_unpacked_gets_its_event_lines(make_messages: Make, provider: Any) -> None:
    data = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in EVENTS)
    out = run_stage(lambda: opened(make_messages(), provider, SSE), data)
    assert out == run_stage(lambda: opened(make_messages(), provider), STREAM)


def test_a_whole_reply_passes_untouched(make_messages: Make, provider: Any) -> None:
    exchange = make_messages(BODY.replace(b"true", b"false"))
    assert opened(exchange, provider, JSON) is None
    tap = provider.open_usage_tap(exchange, JSON)
    tap.feed(b'{"usage":{"output_tokens":7}}')
    assert tap.close().usage.completion_tokens == 7
