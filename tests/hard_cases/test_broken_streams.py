"""T27, T28: streams that end before they are complete."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import Outcome
from raven_proxy.mock import MockUpstream
from raven_proxy.sse import encode_event

from .conftest import Case
from .streams import ASKED, events, last_error
from .wire import chat, post


@pytest.mark.parametrize(
    "model", ["fx-no-done", "fx-close-delimited-no-done", "fx-chunk-cut", "fx-reset-mid"]
)
@pytest.mark.parametrize("asked", [False, True])
async def test_t27_stream_without_done(case: Case, model: str, asked: bool) -> None:
    """A stream without its [DONE] ends in an error event and a cut connection; what came is billed."""
    await case.start()
    options = {"stream_options": ASKED} if asked else {}
    reply = await case.chat(f"mock/{model}", stream=True, **options)
    assert reply.status == 200
    assert not reply.is_whole
    assert last_error(reply.body)["type"] == "upstream_error"
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    assert ended.status == 200
    assert ended.usage is not None
    assert ended.usage.completion_tokens > 0


@pytest.mark.parametrize("asked", [False, True])
async def test_t27_a_stream_that_has_its_done_is_complete(case: Case, asked: bool) -> None:
    """After [DONE] no error event follows, even if the provider's framing announced more."""
    await case.start()
    options = {"stream_options": ASKED} if asked else {}
    reply = await case.chat("mock/fx-short", stream=True, **options)
    assert reply.is_whole
    assert events(reply.body)[-1] == b"[DONE]"
    assert (await case.last()).outcome is Outcome.COMPLETED


async def test_t27_the_error_event_stands_alone(case: Case) -> None:
    """Cut in the middle of an event: whole events are there; half a one, which nobody can read, is not."""
    await case.start()
    whole = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
    half = b'data: {"choices":[{"index":0,"delta":{"content":"lo'
    head = {"Content-Type": "text/event-stream"}
    case.upstream.reply(chunks=[whole + half[:9], half[9:]], headers=head, end="cut")
    reply = await case.chat(stream=True, stream_options=ASKED)
    assert reply.body.startswith(whole)
    assert half not in reply.body
    assert last_error(reply.body)["request_id"] == reply.headers["x-request-id"]
    await case.settle()


async def test_t27_a_head_without_a_body_is_no_empty_success(case: Case) -> None:
    """A stream that ends before its first byte is a 502, or an error event if its head is out already."""
    await case.start()
    fields: dict[str, Any] = {"headers": {"Content-Type": "text/event-stream"}, "chunks": []}
    for end in ("keep-alive", "cut", "reset"):
        case.upstream.reply(end=end, **fields)
        reply = await case.stream("any")
        if reply.status == 200:
            assert not reply.is_whole
            assert last_error(reply.body)["code"] == "upstream_error"
        else:
            case.refused(reply, 502, code="upstream_error")


async def test_t27_bytes_of_another_kind_get_no_event_mixed_in(case: Case) -> None:
    """Audio that breaks off is cut where it broke: an error event would be noise in it."""
    await case.start()
    sound = b"\xff\xfb\x90\x44" * 1000
    case.upstream.reply(chunks=[sound], headers={"Content-Type": "audio/mpeg"}, end="cut")
    reply = await case.ask(post({"model": "tts", "input": "hi", "voice": "alloy"}, "/v1/mock/audio/speech"))
    assert (reply.status, reply.is_whole) == (200, False)
    assert reply.body == sound
    assert (await case.last()).outcome is Outcome.TRUNCATED


async def test_t27_http_1_0_clients_can_tell(case: Case) -> None:
    """Without chunks a cut would look complete: an HTTP/1.0 client gets the error event, or a reset."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(chat("mock/fx-no-done", stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
        reply = await wire.reply()
    assert "transfer-encoding" not in reply.headers
    last_error(reply.body)
    await case.settle()


@pytest.mark.parametrize("model", ["fx-reset-mid", "fx-error-event", "fx-bad-json"])
async def test_t28_a_failure_after_200_is_never_retried(case: Case, model: str) -> None:
    """After the first byte there is one attempt, one status line, and the bill for what came."""
    second = MockUpstream()
    async with second:
        case.upstreams = [case.upstream, second]
        targets = [f"mock/{model}", "mock2/any"]
        await case.start(config={"models": [{"name": "two", "targets": targets}]})
        async with await case.wire() as wire:
            await wire.send(post(chat("two", stream=True)))
            reply = await wire.reply()
            if not reply.is_whole:
                assert await wire.rest() == b""
        assert reply.status == 200
        assert reply.body.count(b"HTTP/1.1") == 0
        assert len(case.upstream.seen) == 1
        assert second.seen == []
        ended = await case.last()
        assert ended.usage is not None
        assert ended.usage.completion_tokens > 0
        if model == "fx-error-event":
            assert msgspec.json.decode(events(reply.body)[-1])["error"]["code"] == "overloaded"
            assert ended.outcome is Outcome.TRUNCATED
            assert b"[DONE]" not in reply.body
        elif model == "fx-bad-json":  # relayed as it came: same dialect, same bytes
            assert reply.body.count(b'"delta": \n\n') == 1
        else:
            last_error(reply.body)
            assert ended.outcome is Outcome.TRUNCATED


async def test_t28_an_error_event_of_another_kind_is_relayed_and_noted(case: Case) -> None:
    """`event: error` inside a stream passes, and the record says that the reply is not complete."""
    await case.start()
    said = encode_event(b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', b"error")
    first = b'data: {"choices":[{"index":0,"delta":{"content":"Hello there"}}]}\n\n'
    case.upstream.reply(chunks=[first, said], headers={"Content-Type": "text/event-stream"})
    reply = await case.stream("any")
    assert reply.body == first + said
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    assert ended.error == "Busy"
    assert ended.usage is not None
    assert ended.usage.estimated


async def test_t28_an_error_under_a_200_is_relayed_and_noted(case: Case) -> None:
    """A whole reply that is an error under a 200: the provider's bytes, and a record that says so."""
    await case.start()
    reply = await case.chat("mock/fx-error-event")
    assert (reply.status, reply.json()["error"]["code"]) == (200, "overloaded")
    ended = await case.last()
    assert ended.outcome is Outcome.UPSTREAM_ERROR
    assert ended.error == "The server is overloaded"
    assert len(case.upstream.seen) == 1


async def test_t28_a_reset_before_the_first_byte_is_a_502(case: Case) -> None:
    """A reset before any byte is an error reply with its own status."""
    await case.start()
    for model in ("fx-reset", "fx-close"):
        case.refused(await case.stream(model), 502, code="upstream_error")
