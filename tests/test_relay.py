"""The relay: bytes as they come, bounded by the slower side, and an honest end."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Outcome, Principal, Reply, Stage, hookimpl
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter
from raven_proxy.mock import MockUpstream, ScriptedReply

from .hard_cases.wire import Wire, chat, post

EVENTS = [
    b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}]}\n\n' % n
    for n in range(5)
]
FINISH = b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = {"Content-Type": "text/event-stream"}


class Recorder:
    """Keeps how every exchange ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Outcome, int, int]] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.ended.append((exchange.outcome, exchange.status, exchange.produced_bytes))


def stream(chunks: list[Any], **fields: Any) -> ScriptedReply:
    return ScriptedReply(chunks=chunks, headers=SSE, **fields)


ASK = post(chat(stream=True, stream_options={"include_usage": True}))


async def test_events_go_out_as_they_come_in(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven(upstreams=[upstream])
    upstream.script(stream([EVENTS[0], 0.15, EVENTS[1], 0.15, FINISH, DONE]))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK)
        status, headers = await wire.head()
        assert status == 200
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await wire.chunk() == EVENTS[0]
        assert loop.time() - began < 0.1
        assert await wire.chunk() == EVENTS[1]
        assert loop.time() - began > 0.1
        rest = b""
        while piece := await wire.chunk():
            rest += piece
        assert rest == FINISH + DONE
        await wire.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.reply()).status == 200


async def test_a_client_without_chunks_gets_a_stream_that_the_close_ends(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    upstream.script(stream([*EVENTS, FINISH, DONE]))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        reply = await wire.reply()
        assert "transfer-encoding" not in reply.headers
        assert reply.body == b"".join([*EVENTS, FINISH, DONE])


async def test_large_and_odd_streams_arrive_byte_for_byte(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    odd = (
        b": comment\r\n\r\nevent: x\rdata: "
        + "你好🙂".encode()
        + b"\r\r"
        + b"data: "
        + b"x" * 3_000_000
        + b"\n\n"
    )
    body = odd + b"".join(EVENTS) * 200 + FINISH + DONE
    pieces = [body[i : i + 65_000] for i in range(0, len(body), 65_000)]
    upstream.script(stream([*[odd[i : i + 1] for i in range(40)], body[40:]]), stream(list(pieces)))
    for _ in range(2):
        async with await Wire.open(gateway.url) as wire:
            await wire.send(ASK)
            reply = await wire.reply()
            assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


async def test_a_client_that_does_not_read_holds_the_provider_back(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config={"send_timeout_s": 30})
    big = b"data: " + b"x" * 65_500 + b"\n\n"
    upstream.script(stream([*[big] * 800, FINISH, DONE]))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    host, port = gateway.url.removeprefix("http://").split(":")
    await loop.sock_connect(sock, (host, int(port)))
    with sock:
        await loop.sock_sendall(sock, ASK)
        await asyncio.sleep(0.7)
        (connection,) = upstream._open
        assert upstream.seen[0].ended_at is None
        size = 0
        while piece := await asyncio.wait_for(loop.sock_recv(sock, 2**20), 10):
            size += len(piece)
            if piece.endswith(b"0\r\n\r\n"):
                break
        assert size > 800 * 65_500
        del connection


async def test_a_client_that_does_not_read_in_time_is_let_go(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream], config={"send_timeout_s": 0.3})
    upstream.script(stream([b"data: " + b"x" * 65_500 + b"\n\n"] * 10, repeat=True))
    async with await Wire.open(gateway.url, limit=1024) as wire:
        await wire.send(ASK)
        await upstream.wait_until(lambda: recorder.ended, 5)
    assert recorder.ended[0][0] is Outcome.CANCELLED
    await upstream.wait_until(lambda: upstream.connections == 0)


async def test_a_client_that_leaves_takes_the_provider_along(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    for script in (stream([EVENTS[0], 60]), stream([*EVENTS, 0.01], repeat=True)):
        upstream.script(script)
        async with await Wire.open(gateway.url) as wire:
            await wire.send(ASK)
            await wire.head()
            assert await wire.chunk()
        await upstream.wait_until(lambda: upstream.connections == 0, 1.0)
    await upstream.wait_until(lambda: len(recorder.ended) == 2)
    assert {ended[0] for ended in recorder.ended} == {Outcome.CANCELLED}
    assert all(produced >= len(EVENTS[0]) for _, _, produced in recorder.ended)


async def test_a_key_may_have_the_rest_read_for_its_usage(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    recorder = Recorder()
    principal: Principal = msgspec.structs.replace(ADMINISTRATOR, on_disconnect="drain")
    gateway = await raven([recorder], upstreams=[upstream], principal=principal)
    upstream.script(stream([EVENTS[0], 0.3, EVENTS[1], FINISH, DONE]))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK)
        await wire.head()
        assert await wire.chunk()
    await upstream.wait_until(lambda: recorder.ended)
    assert recorder.ended[0][0] is Outcome.CANCELLED
    assert recorder.ended[0][2] == len(EVENTS[0] + EVENTS[1] + FINISH + DONE)
    assert not upstream.seen[0].closed_early


RAW = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
RAW += b"%x\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0])
BROKEN = {
    "a reset": stream([EVENTS[0], 0.02], end="reset"),
    "a cut": stream([EVENTS[0], 0.02], end="cut"),
    "a cut inside an event": stream([EVENTS[0], EVENTS[1][:20], 0.02], end="cut"),
    "no [DONE]": stream([EVENTS[0], 0.02]),
    "broken chunks": ScriptedReply(framing="raw", end="cut", chunks=[RAW, 0.02, b"zz\r\n"]),
    "an endless event": stream([EVENTS[0], 0.02, b"data: " + b"x" * 9000]),
    "too many bytes": stream([EVENTS[0], 0.02, EVENTS[1]], repeat=True),
    "silence": stream([EVENTS[0], 60]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_stream_that_cannot_go_on_ends_with_an_error_event_and_no_done(
    raven: GatewayStarter, upstream: MockUpstream, kind: str
) -> None:
    recorder = Recorder()
    limits = {"max_event_bytes": 8000, "max_stream_bytes": 20_000, "idle_timeout_s": 0.3}
    gateway = await raven([recorder], upstreams=[upstream], config=limits)
    upstream.script(BROKEN[kind])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK)
        reply = await wire.reply()
        assert not reply.is_whole  # the chunked body has no end, so no client takes it for whole
        assert await wire.rest() == b""
    assert reply.body.startswith(EVENTS[0])
    assert DONE not in reply.body
    last = reply.body.rstrip().rpartition(b"\n\n")[2]
    assert msgspec.json.decode(last.removeprefix(b"data: "))["error"]["type"] == "upstream_error"
    await upstream.wait_until(lambda: recorder.ended)
    assert [(outcome, status) for outcome, status, _ in recorder.ended] == [(Outcome.TRUNCATED, 200)]
    await upstream.wait_until(lambda: upstream.connections == 0 or kind == "no [DONE]")


async def test_before_the_first_byte_a_failure_is_a_proper_error(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Broken:
        def feed(self, data: bytes) -> bytes:
            raise ValueError("inside")

        def close(self) -> bytes:
            return b""

    class Plugin:
        @hookimpl
        def open_stage(self) -> Stage:
            return Broken()

    gateway = await raven([Plugin], upstreams=[upstream])
    upstream.script(stream([EVENTS[0], FINISH, DONE]))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK)
        reply = await wire.reply()
        assert "inside" not in reply.body.decode()
        assert EVENTS[0] not in reply.body
        assert reply.status == 500 or b'"internal_error"' in reply.body


async def test_signs_of_life_are_sent_between_events_only(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config={"keepalive_s": 0.1})
    upstream.script(stream([EVENTS[0], 0.35, EVENTS[1][:10], 0.35, EVENTS[1][10:], FINISH, DONE]))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(ASK)
        body = (await wire.reply()).body
    assert body.count(b": keep-alive\n\n") >= 2
    assert body.replace(b": keep-alive\n\n", b"") == EVENTS[0] + EVENTS[1] + FINISH + DONE


async def test_an_iterator_is_relayed_like_an_upstream(raven: GatewayStarter) -> None:
    class Slow:
        @hookimpl
        async def answer(self, exchange: Exchange) -> Reply:
            async def pieces() -> AsyncIterator[bytes]:
                for event in EVENTS:
                    yield event
                    await asyncio.sleep(0.01)
                if exchange.model != "demo/broken":
                    yield FINISH + DONE
                else:
                    raise RuntimeError("inside")

            return Reply(200, dict(SSE), pieces())

    gateway = await raven([Slow])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat("demo/chat", stream=True)))
        assert (await wire.reply()).body == b"".join([*EVENTS, FINISH, DONE])
        await wire.send(post(chat("demo/broken", stream=True)))
        reply = await wire.reply()
        assert not reply.is_whole
        assert b"internal_error" in reply.body
        assert b"inside" not in reply.body


async def test_an_iterator_is_closed_when_the_client_leaves(raven: GatewayStarter) -> None:
    closed = asyncio.Event()

    class Endless:
        @hookimpl
        async def answer(self) -> Reply:
            async def pieces() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield EVENTS[0]
                        await asyncio.sleep(0.01)
                finally:
                    closed.set()

            return Reply(200, dict(SSE), pieces())

    gateway = await raven([Endless])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat("demo/chat", stream=True)))
        await wire.head()
        await wire.chunk()
    async with asyncio.timeout(2):
        await closed.wait()
