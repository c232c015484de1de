"""T22, T23, T25, T27–T29, T31, T32, T37: streams that are cut, odd, silent, endless or left."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Outcome, Stage, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.sse import EventReader, encode_event

from .conftest import Case
from .wire import Wire, ask, chat, post

DONE = b"data: [DONE]\n\n"
ASKED = {"include_usage": True}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def events(body: bytes) -> list[bytes]:
    """The data of each event."""
    reader = EventReader()
    return [event.data for event in [*reader.feed(body), *reader.close()] if event.data is not None]


def last_error(body: bytes) -> dict[str, Any]:
    """The error that a stream ends with; asserts that no [DONE] is there."""
    assert b"[DONE]" not in body
    error: dict[str, Any] = msgspec.json.decode(events(body)[-1])["error"]
    return error


async def direct(upstream: MockUpstream, model: str) -> bytes:
    """What the provider itself sends for a stream that asks for usage."""
    before = list(upstream.seen)
    body = (await ask(upstream.origin, post(chat(model, stream=True, stream_options=ASKED)))).body
    upstream.seen[:] = before  # not the gateway's doing
    return body


class Readers:
    """What a guardrail, a logger and a token counter would read: the text of each event."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage:
        return _Reading(self.texts)


class _Reading:
    def __init__(self, texts: list[str]) -> None:
        self.reader = EventReader()
        self.texts = texts

    def feed(self, data: bytes) -> bytes:
        for event in self.reader.feed(data):
            self.texts.append((event.data or b"").decode("utf-8", "replace"))
        return data

    def close(self) -> bytes:
        return b""


@pytest.mark.parametrize("watched", [False, True])
async def test_t22_text_in_single_bytes_is_never_seen_in_halves(case: Case, watched: bool) -> None:
    """你好🙂 one byte a write: the client's bytes are the provider's, and readers see no U+FFFD."""
    readers = Readers()
    await case.start(*([readers] if watched else []))
    wanted = await direct(case.upstream, "fx-bytes")
    reply = await case.chat("mock/fx-bytes", stream=True, stream_options=ASKED)
    assert sha(reply.body) == sha(wanted)
    assert "你好🙂" in reply.body.decode()
    assert "\ufffd" not in "".join(readers.texts)
    usage = (await case.last()).usage
    assert usage is not None
    assert not usage.estimated
    if watched:
        assert any("你好🙂" in text for text in readers.texts)


@pytest.mark.parametrize("model", ["fx-crlf", "fx-cr", "fx-mixed-ends", "fx-comments", "any"])
async def test_t23_line_ends_do_not_change_what_is_metered_or_sent(case: Case, model: str) -> None:
    """Events may end in LF, CRLF or CR, cut anywhere: same usage, and the bytes pass unchanged."""
    await case.start()
    wanted = await direct(case.upstream, model)
    reply = await case.chat(f"mock/{model}", stream=True, stream_options=ASKED)
    assert reply.is_whole
    assert sha(reply.body) == sha(wanted)
    ended = await case.last()
    usage = [msgspec.json.decode(data)["usage"] for data in events(wanted) if b'"usage":{' in data]
    assert ended.outcome is Outcome.COMPLETED
    assert ended.usage is not None
    assert (ended.usage.prompt_tokens, ended.usage.completion_tokens) == (
        usage[0]["prompt_tokens"],
        usage[0]["completion_tokens"],
    )


@pytest.mark.parametrize("model", ["fx-crlf", "fx-cr", "fx-mixed-ends"])
async def test_t23_the_usage_chunk_is_hidden_whatever_ends_its_lines(case: Case, model: str) -> None:
    """A usage chunk that only the gateway asked for is taken out, with any kind of line end."""
    await case.start()
    body = (await case.chat(f"mock/{model}", stream=True)).body
    assert all(msgspec.json.decode(data)["choices"] for data in events(body) if data != b"[DONE]")
    assert events(body)[-1] == b"[DONE]"
    assert ((await case.last()).usage or pytest.fail("not metered")).completion_tokens > 0


async def test_t25_a_line_of_3_mib_passes(case: Case) -> None:
    """An event with an image of 3 MiB is forwarded unchanged."""
    await case.start()
    wanted = await direct(case.upstream, "fx-huge")
    assert len(wanted) > 3 * 2**20
    reply = await case.chat("mock/fx-huge", stream=True, stream_options=ASKED)
    assert sha(reply.body) == sha(wanted)
    assert (await case.last()).outcome is Outcome.COMPLETED


async def test_t25_an_event_over_the_limit_ends_the_stream(case: Case) -> None:
    """Over `max_event_bytes` the stream ends in an error event and a cut, at once."""
    await case.start(config={"max_event_bytes": 2**20})
    began = time.monotonic()
    reply = await case.chat("mock/fx-huge", stream=True)
    assert time.monotonic() - began < 5
    assert not reply.is_whole
    assert len(reply.body) < 2 * 2**20
    assert last_error(reply.body)["code"] == "upstream_error"
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


# -- streams that break off ---------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["fx-no-done", "fx-short", "fx-close-delimited-no-done", "fx-chunk-cut", "fx-reset-mid"]
)
@pytest.mark.parametrize("asked", [False, True])
async def test_t27_stream_without_done(case: Case, model: str, asked: bool) -> None:
    """A stream without its [DONE] ends in an error event and a cut connection; what came is billed."""
    await case.start()
    options = {"stream_options": ASKED} if asked else {}
    reply = await case.chat(f"mock/{model}", stream=True, **options)
    if model == "fx-short":  # it has its [DONE]; only the framing says that more was to come
        assert not reply.is_whole
        assert events(reply.body)[-1].startswith(b'{"error"')
    else:
        assert reply.status == 200
        assert not reply.is_whole
        assert last_error(reply.body)["type"] == "upstream_error"
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    assert ended.status == 200
    assert ended.usage is not None
    assert ended.usage.completion_tokens > 0


async def test_t27_the_error_event_stands_alone(case: Case) -> None:
    """Cut in the middle of an event, the error still is an event of its own."""
    await case.start()
    half = b'data: {"choices":[{"index":0,"delta":{"content":"Hel'
    case.upstream.reply(chunks=[half], headers={"Content-Type": "text/event-stream"}, end="cut")
    reply = await case.chat(stream=True, stream_options=ASKED)
    assert reply.body.startswith(half)
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


async def test_t28_a_reset_before_the_first_byte_is_a_502(case: Case) -> None:
    """A reset before any byte is an error reply with its own status."""
    await case.start()
    for model in ("fx-reset", "fx-close"):
        case.refused(await case.stream(model), 502, code="upstream_error")


# -- usage --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}])
async def test_t29_usage_is_metered_without_the_client_seeing_it(
    case: Case, options: dict[str, Any] | None
) -> None:
    """Who did not ask for usage sees no `choices: []` chunk, and is metered exactly all the same."""
    await case.start()
    reply = await case.chat(stream=True, stream_options=options)
    assert b'"choices":[]' not in reply.body
    assert reply.body.endswith(DONE)
    sent = case.upstream.seen[0].json["stream_options"]
    assert sent == {**(options or {}), "include_usage": True}
    usage = (await case.last()).usage
    assert usage is not None
    assert not usage.estimated
    assert usage.completion_tokens > 0


async def test_t29_who_asked_sees_exactly_one_usage_chunk(case: Case) -> None:
    """The client's own `include_usage` passes through: one usage chunk, and the body untouched."""
    await case.start()
    raw = post(chat("mock/any", stream=True, stream_options=ASKED))
    reply = await case.ask(raw)
    assert reply.body.count(b'"choices":[]') == 1
    sent = case.upstream.seen[0].body
    assert sent == raw.partition(b"\r\n\r\n")[2].replace(b"mock/any", b"any")


@pytest.mark.parametrize("asked", [False, True])
async def test_t29_a_provider_that_refuses_the_option_is_asked_once_more(case: Case, asked: bool) -> None:
    """A 400 about an option that was ours is retried without it, once; the client's own is passed on."""
    await case.start()
    options = {"stream_options": ASKED} if asked else {}
    reply = await case.chat("mock/fx-refuse-stream-options", stream=True, **options)
    if asked:
        case.refused(reply, 400, param="stream_options")
        assert len(case.upstream.seen) == 1
    else:
        assert reply.body.endswith(DONE)
        assert ["stream_options" in seen.json for seen in case.upstream.seen] == [True, False]
        usage = (await case.last()).usage
        assert usage is not None
        assert usage.estimated


# -- clients that leave -------------------------------------------------------------------


async def leave_after_three_chunks(case: Case, model: str) -> None:
    async with await case.wire() as wire:
        await wire.send(post(chat(f"mock/{model}", stream=True)))
        await wire.head()
        for _ in range(3):
            assert await wire.chunk()


async def test_t31_a_client_that_leaves_closes_the_provider(case: Case) -> None:
    """Leaving after 3 chunks closes the upstream socket within 1 s, and leaks no slot of the pool."""
    limit = 3
    await case.start()
    case.gateways[-1].gateway.pipeline.upstreams["mock"].max_connections = limit
    for _ in range(limit + 1):
        await leave_after_three_chunks(case, "fx-endless")
        await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
        assert case.upstream.seen[-1].closed_early
    began = time.monotonic()
    assert (await case.chat()).status == 200
    assert time.monotonic() - began < 1.0
    ended = await case.settle()
    assert [one.outcome for one in ended] == [Outcome.CANCELLED] * (limit + 1) + [Outcome.COMPLETED]
    assert all(one.usage is not None and one.usage.completion_tokens > 0 for one in ended)


async def test_t31_a_reset_by_the_client_does_the_same(case: Case) -> None:
    """A client that resets its connection is a client that left."""
    await case.start()
    wire = await case.wire()
    await wire.send(post(chat("mock/fx-endless", stream=True)))
    await wire.head()
    wire.abort()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
    assert (await case.last()).outcome is Outcome.CANCELLED


async def test_t31_a_stream_may_be_drained_for_its_usage(case: Case) -> None:
    """With `on_disconnect = "drain"` the provider is read to its end, and the usage is its own."""
    await case.start(principal=msgspec.structs.replace(ADMINISTRATOR, on_disconnect="drain"))
    await leave_after_three_chunks(case, "fx-paced-20")
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    assert not case.upstream.seen[0].closed_early
    assert ended.usage is not None
    assert not ended.usage.estimated
    assert (await case.chat()).status == 200
    assert case.upstream.connections_opened == 1


@pytest.mark.parametrize(("model", "status"), [("fx-silent", 499), ("fx-stall", 200), ("fx-slow-20", 499)])
@pytest.mark.parametrize("stream", [False, True])
async def test_t32_a_client_that_leaves_a_silent_provider(
    case: Case, model: str, status: int, stream: bool
) -> None:
    """A departure is noticed while nothing comes: upstream closed within 1 s, logged as 499, no error."""
    await case.start()
    wire = await case.wire()
    await wire.send(post(chat(f"mock/{model}", stream=stream)))
    await case.upstream.wait_until(lambda: case.upstream.seen)
    if model == "fx-stall" and stream:
        await wire.head()
    await asyncio.sleep(0.05)
    await wire.close()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    assert ended.status == (status if stream else 499)
    assert [line["level"] for line in case.log] == ["info"]
    assert case.events("exchange")[0]["status"] == ended.status


# -- time ---------------------------------------------------------------------------------


async def test_t37_a_slow_stream_survives_many_idle_limits(case: Case) -> None:
    """The idle limit is per chunk: a stream several limits long, with a token now and then, survives."""
    await case.start(config={"idle_timeout_s": 0.25, "first_byte_timeout_s": 0.5})
    began = time.monotonic()
    reply = await case.stream("fx-paced-50")
    assert time.monotonic() - began > 0.75
    assert reply.body.endswith(DONE)


@pytest.mark.parametrize("stream", [False, True])
async def test_t37_silence_over_the_idle_limit_ends_the_stream(case: Case, stream: bool) -> None:
    """Silence longer than `idle_timeout_s` is an error event; for a whole reply a 504."""
    await case.start(config={"idle_timeout_s": 0.2})
    reply = await case.chat("mock/fx-stall", stream=stream)
    if stream:
        assert not reply.is_whole
        assert last_error(reply.body)["code"] == "upstream_timeout"
    else:
        case.refused(reply, 504, code="upstream_timeout")
    await case.settle()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


async def test_t37_silence_before_the_head_is_a_504(case: Case) -> None:
    """A provider that never answers is a 504 after `first_byte_timeout_s`."""
    await case.start(config={"first_byte_timeout_s": 0.2})
    case.refused(await case.stream("fx-silent"), 504, code="upstream_timeout")
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


@pytest.mark.parametrize(
    ("setting", "code"),
    [({"total_timeout_s": 0.4}, "upstream_timeout"), ({"max_stream_bytes": 100_000}, "upstream_error")],
)
async def test_t37_an_endless_stream_is_cut(case: Case, setting: dict[str, Any], code: str) -> None:
    """A stream without end is cut at `total_timeout_s` or `max_stream_bytes`, with an error event."""
    await case.start(config=setting)
    began = time.monotonic()
    reply = await case.stream("fx-endless")
    assert time.monotonic() - began < 5
    assert not reply.is_whole
    assert last_error(reply.body)["code"] == code
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    assert ended.usage is not None
    assert ended.usage.completion_tokens > 0


async def test_t37_a_client_that_does_not_read_holds_the_provider_back(case: Case) -> None:
    """An unread stream stops the provider, is not taken for its silence, and ends after `send_timeout_s`."""
    await case.start(config={"send_timeout_s": 0.6, "idle_timeout_s": 0.3})
    piece = b"data: " + b"x" * 65536 + b"\n\n"
    case.upstream.script(
        ScriptedReply(chunks=[piece], repeat=True, headers={"Content-Type": "text/event-stream"})
    )
    wire = await Wire.open(case.url, limit=2**16)
    await wire.send(post(chat(stream=True)))
    await wire.head()
    began = time.monotonic()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=10)
    assert time.monotonic() - began > 0.5
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    # What fits into the buffers of the sockets on the way, and not what a fast provider can send.
    assert ended.produced_bytes < 64 * 2**20
    await wire.close()


async def test_t37_keep_alive_comments_come_in_silence_alone(case: Case) -> None:
    """With `keepalive_s` a silent stream gets comments between events, and its data stay what they were."""
    await case.start(config={"keepalive_s": 0.05})
    wanted = await direct(case.upstream, "any")
    chunks: list[bytes | float] = [wanted, 0.3]
    case.upstream.reply(chunks=chunks, headers={"Content-Type": "text/event-stream"})
    reply = await case.chat(stream=True, stream_options=ASKED)
    assert b": keep-alive\n\n" in reply.body
    assert reply.body.replace(b": keep-alive\n\n", b"") == wanted
