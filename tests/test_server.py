"""The listening side: heads have a limit of their own, garbage is answered in constant words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream
from raven_proxy.server import Server

from .hard_cases.wire import Wire, chat, post

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_one_connection_serves_one_request_after_another(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    async with await Wire.open(gateway.url) as wire:
        for _ in range(3):
            await wire.send(LIVE)
            assert (await wire.reply()).status == 200
            await wire.send(post(chat()))
            assert (await wire.reply()).status == 200
            await wire.send(post(chat(stream=True)))
            assert (await wire.reply()).body.endswith(b"data: [DONE]\n\n")


async def test_pipelined_requests_are_answered_in_order(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(LIVE + post(chat("mock/fx-slow-0.1")) + post(b"{") + post(chat(stream=True)) + LIVE)
        assert [(await wire.reply()).status for _ in range(5)] == [200, 200, 400, 200, 200]


async def test_a_client_that_asks_to_close_is_let_go(raven: GatewayStarter) -> None:
    gateway = await raven()
    for raw in (LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), LIVE.replace(b"1.1", b"1.0")):
        async with await Wire.open(gateway.url) as wire:
            await wire.send(raw)
            reply = await wire.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await wire.rest() == b""


async def test_http_1_0_may_keep_its_connection(raven: GatewayStarter) -> None:
    gateway = await raven()
    async with await Wire.open(gateway.url) as wire:
        for _ in range(2):
            await wire.send(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await wire.reply()).headers["connection"] == "keep-alive"


@pytest.mark.parametrize(
    "raw",
    [
        b"rubbish rk_live_secretsecretsecret\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer rk_live_secretsecretsecret\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_without_its_bytes(
    raven: GatewayStarter, raw: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway = await raven()
    async with await Wire.open(gateway.url) as wire:
        await wire.send(raw)
        reply = await wire.reply()
        assert reply.status in {400, 505}
        assert reply.headers["x-request-id"].startswith("req_")
        assert "server" not in reply.headers
        assert await wire.rest() == b""
    out, err = capfd.readouterr()
    assert "secretsecret" not in reply.body.decode() + out + err


@pytest.mark.parametrize("start", [b"", b"GET /health", LIVE[:-2]])
async def test_a_head_that_does_not_come_is_not_waited_for(raven: GatewayStarter, start: bytes) -> None:
    gateway = await raven(config={"header_timeout_s": 0.2})
    async with await Wire.open(gateway.url) as wire:
        await wire.send(start)
        async with asyncio.timeout(2):
            await wire.rest()


async def test_a_head_that_drips_is_not_waited_for_on_a_kept_connection_either(raven: GatewayStarter) -> None:
    gateway = await raven(config={"header_timeout_s": 0.2})
    async with await Wire.open(gateway.url) as wire:
        await wire.send(LIVE)
        await wire.reply()
        await asyncio.sleep(0.4)  # an idle connection is not a slow head
        await wire.send(LIVE)
        assert (await wire.reply()).status == 200
        began = asyncio.get_running_loop().time()
        for byte in LIVE:
            if wire.writer.is_closing() or wire.reader.at_eof():
                break
            wire.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        async with asyncio.timeout(2):
            await wire.rest()
        assert asyncio.get_running_loop().time() - began < 1.5


async def test_a_reply_longer_than_the_header_limit_is_not_cut(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config={"header_timeout_s": 0.1})
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat("mock/fx-slow-0.3")))
        assert (await wire.reply()).status == 200


async def test_what_is_sent_in_one_turn_goes_out_in_one_write() -> None:
    async def handler(_request: Any) -> Any:
        raise AssertionError

    written: list[bytes] = []

    class Transport(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            written.append(bytes(data))

        def is_closing(self) -> bool:
            return False

    server = Server(handler, header_timeout_s=5.0)
    connection: Any = server()
    connection.transport = Transport()
    connection.send(b"one ")
    connection.send(b"two")
    assert written == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert written == [b"one two"]
    connection.send(b"three")
    connection.flush()
    connection.flush()
    await asyncio.sleep(0.01)
    assert written == [b"one two", b"three"]
