"""T115: clients that are slow, stuck or no HTTP clients at all, many at a time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from raven_proxy.harness import ADMIN_KEY

from .conftest import Case
from .wire import CHAT, Wire, chat, post

LIMITS = {"header_timeout_s": 0.5, "body_timeout_s": 0.5}
CLIENTS = 20  # of each kind
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
KEY = f"Authorization: Bearer {ADMIN_KEY}\r\n".encode()

Client = Callable[[Wire], Coroutine[Any, Any, None]]


async def idle(wire: Wire) -> None:
    """Says nothing."""


async def half_a_request_line(wire: Wire) -> None:
    await wire.send(b"POST /v1/ch")


async def header_stall(wire: Wire) -> None:
    await wire.send(HEAD)


async def header_drip(wire: Wire) -> None:
    await wire.send(HEAD)
    while True:
        await wire.send(b"X-A: b\r\n")
        await asyncio.sleep(0.1)


async def byte_drip(wire: Wire) -> None:
    for byte in HEAD:
        await wire.send(bytes([byte]))
        await asyncio.sleep(0.1)


async def body_stall(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Content-Length: 1000\r\n\r\n{")


async def body_never(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")


async def body_drip(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Content-Length: 1000\r\n\r\n")
    while True:
        await wire.send(b" ")
        await asyncio.sleep(0.1)


async def body_stall_without_a_key(wire: Wire) -> None:
    await wire.send(HEAD + b"Content-Length: 1000\r\n\r\n{")


async def chunked_stall(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel")


async def chunked_drip(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await wire.send(b"1\r\n \r\n")
        await asyncio.sleep(0.1)


async def chunk_size_stall(wire: Wire) -> None:
    await wire.send(HEAD + KEY + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")


async def tls_hello(wire: Wire) -> None:
    await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)))


async def second_request_stalls(wire: Wire) -> None:
    await wire.send(LIVE)
    assert (await wire.reply()).status == 200
    await wire.send(b"GET /health/li")


IN_HEAD: list[Client] = [
    idle, half_a_request_line, header_stall, header_drip, byte_drip, tls_hello, second_request_stalls,
]  # fmt: skip
IN_BODY: list[Client] = [
    body_stall, body_never, body_drip, body_stall_without_a_key, chunked_stall, chunked_drip,
    chunk_size_stall,
]  # fmt: skip


@asynccontextmanager
async def watch_health(case: Case) -> AsyncIterator[list[float]]:
    """Ask `/health/live` all the time; give how long each answer took, in seconds."""
    taken: list[float] = []

    async def look() -> None:
        async with await case.wire() as wire:
            while True:
                began = time.monotonic()
                await wire.send(LIVE)
                assert (await wire.reply()).status == 200
                taken.append(time.monotonic() - began)
                await asyncio.sleep(0.02)

    task = asyncio.get_running_loop().create_task(look())
    try:
        yield taken
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def closed_by_gateway(url: str, client: Client) -> bytes:
    """Be a slow client until the gateway closes the connection; give what it said."""
    wire = await Wire.open(url)
    loop = asyncio.get_running_loop()
    behaviour = loop.create_task(client(wire))
    try:
        got = b""
        if client is second_request_stalls:
            await behaviour
        with suppress(ConnectionError):
            while piece := await wire.reader.read(65536):
                got += piece
        return got
    finally:
        behaviour.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await behaviour
        await wire.close()


def answer_to(client: Client) -> bytes:
    """How the answer to a slow client begins; an idle or incomplete head gets none."""
    if client is tls_hello:
        return b"HTTP/1.1 400 "
    if client is body_stall_without_a_key:
        return b"HTTP/1.1 401 "
    return b"HTTP/1.1 408 " if client in IN_BODY else b""


@pytest.mark.parametrize("clients", [IN_HEAD, IN_BODY], ids=["head", "body"])
async def test_t115_slow_clients_are_closed_by_their_limits(case: Case, clients: list[Client]) -> None:
    """Idle, stalling or dripping in head or body: all are closed, and the health check answers meanwhile."""
    gateway = await case.start(config=LIMITS)
    crowd = clients * CLIENTS
    async with watch_health(case) as taken:
        async with asyncio.timeout(9):
            said = await asyncio.gather(*(closed_by_gateway(case.url, client) for client in crowd))
        assert max(taken) < 0.25
    for client, text in zip(crowd, said, strict=True):
        final = text.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        wanted = answer_to(client)
        assert final.startswith(wanted), (client.__name__, text)
        assert wanted or not final, (client.__name__, text)
    await case.settle()
    assert gateway.gateway.in_flight == 0
    assert case.upstream.seen == []
    assert len(case.lines) <= 2 * len(crowd)  # no flood


async def test_t115_a_slow_upload_with_progress_survives(case: Case) -> None:
    """An upload that takes many body limits but goes on is served."""
    await case.start(config=LIMITS)
    raw = post(chat(padding="x" * 400_000))
    async with watch_health(case) as taken, await case.wire() as wire:
        began = time.monotonic()
        for start in range(0, len(raw), 20_000):
            await wire.send(raw[start : start + 20_000])
            await asyncio.sleep(0.08)
        assert time.monotonic() - began > 3 * LIMITS["body_timeout_s"]
        reply = await wire.reply()
        assert reply.status == 200
        assert max(taken) < 0.25
    assert case.upstream.seen[0].body.endswith(b'"}')


async def ask_and_forget(case: Case, *, stream: bool) -> socket.socket:
    """Ask for 20 MB on a connection with a small window, and read nothing."""
    data = b"data: {}\n\n" * 2_000_000 + b"data: [DONE]\n\n"
    headers = {"Content-Type": "text/event-stream" if stream else "application/json"}
    if stream:
        case.upstream.reply(chunks=[data], headers=headers)
    else:
        case.upstream.reply(body=b'{"x":"%b"}' % (b"y" * 20_000_000), headers=headers)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", urlsplit(case.url).port))
    await loop.sock_sendall(sock, post(chat(stream=stream)))
    return sock


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no such limit")
@pytest.mark.parametrize("stream", [False, True])
async def test_t115_a_client_that_never_reads_is_let_go(case: Case, stream: bool) -> None:
    """A reply that nobody takes does not stay in memory: after `send_timeout_s` the connection ends."""
    gateway = await case.start(config={"send_timeout_s": 0.5})
    sock = await ask_and_forget(case, stream=stream)
    server = gateway.service._server
    assert server is not None
    await case.upstream.wait_until(lambda: server.connections)
    await case.upstream.wait_until(lambda: not server.connections, timeout_s=8)
    sock.close()
    await case.upstream.wait_until(lambda: case.upstream.connections <= 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_t115_a_client_that_reads_slowly_gets_it_all(case: Case, stream: bool) -> None:
    """A reply that takes many times `send_timeout_s` arrives whole, as long as it is taken."""
    await case.start(config={"send_timeout_s": 0.5})
    sock = await ask_and_forget(case, stream=stream)
    loop = asyncio.get_running_loop()
    got, tail, began = 0, b"", time.monotonic()
    while not tail.endswith(b"0\r\n\r\n" if stream else b'y"}'):
        piece = await asyncio.wait_for(loop.sock_recv(sock, 1_000_000), 5)
        assert piece, "it was cut"
        got, tail = got + len(piece), (tail + piece)[-16:]
        if time.monotonic() - began < 2:  # four limits; the rest may come as fast as it can
            await asyncio.sleep(0.2)
    assert got > 20_000_000
    assert time.monotonic() - began > 1.5
    sock.close()


async def test_t115_a_kept_connection_may_rest_between_requests(case: Case) -> None:
    """The limits are for what has begun: a connection that rests longer than them serves its next request."""
    await case.start(config=LIMITS)
    async with await case.wire() as wire:
        for _ in range(2):
            await wire.send(post(chat()))
            assert (await wire.reply()).status == 200
            await asyncio.sleep(0.7)
        await wire.send(LIVE)
        assert (await wire.reply()).status == 200


async def test_pipelined_requests_wait_for_a_client_that_reads(case: Case) -> None:
    """Nobody makes the gateway answer ahead without bound: the next request waits for a reader."""
    gateway = await case.start()
    host, port = gateway.url.removeprefix("http://").split(":")
    requests = b"GET /health/live HTTP/1.1\r\nHost: g\r\n\r\n" * 1000
    loop = asyncio.get_running_loop()
    sent = 0
    with socket.create_connection((host, int(port))) as sock:
        sock.setblocking(False)
        with suppress(TimeoutError):
            while sent < 60 * 2**20:
                async with asyncio.timeout(1.0):
                    await loop.sock_sendall(sock, requests)
                sent += len(requests)
    assert sent < 30 * 2**20  # what the kernel's buffers hold on both sides, and no more
