"""A running gateway: starts whole or not at all, reloads without a gap, and drains to the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_parser
from structlog.testing import capture_logs

from raven_proxy import Exchange, hookimpl
from raven_proxy.errors import ConfigError
from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.service import Service, listen_on

from .hard_cases.wire import Wire, chat, post

SSE = {"Content-Type": "text/event-stream"}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
READY = LIVE.replace(b"live", b"ready")


def plugin(
    name: str, log: list[str], *, startup: Exception | None = None, shutdown: Exception | None = None
) -> Any:
    class Plugin:
        @hookimpl
        async def startup(self) -> None:
            log.append(f"start {name}")
            if startup is not None:
                raise startup

        @hookimpl
        async def shutdown(self) -> None:
            log.append(f"stop {name}")
            if shutdown is not None:
                raise shutdown

    Plugin.__name__ = name
    return Plugin


# -- start ----------------------------------------------------------------------------


async def test_plugins_start_in_order_and_stop_in_reverse(raven: GatewayStarter) -> None:
    log: list[str] = []
    gateway = await raven([plugin("one", log), plugin("two", log)])
    await gateway.service.stop(grace_s=0.0)
    assert log == ["start one", "start two", "stop two", "stop one"]
    gateway.service.stop = lambda **_: asyncio.sleep(0)  # type: ignore[method-assign]


@pytest.mark.parametrize("error", [ValueError("no room"), ConfigError("no room")])
async def test_a_plugin_that_cannot_start_stops_the_start_and_those_before_it(
    raven: GatewayStarter, error: Exception
) -> None:
    log: list[str] = []
    with pytest.raises(ConfigError, match=r"plugin two: .*no room"):
        await raven([plugin("one", log), plugin("two", log, startup=error), plugin("three", log)])
    assert log == ["start one", "start two", "stop one"]


async def test_one_that_fails_to_stop_does_not_keep_the_others_from_it(raven: GatewayStarter) -> None:
    log: list[str] = []
    gateway = await raven([plugin("one", log), plugin("two", log, shutdown=KeyError("x"))])
    with capture_logs() as events:
        await gateway.service.stop(grace_s=0.0)
    assert log[2:] == ["stop two", "stop one"]
    assert [(e["plugin"], e["hook"]) for e in events if e["event"] == "plugin failed"] == [
        ("two", "shutdown")
    ]
    gateway.service.stop = lambda **_: asyncio.sleep(0)  # type: ignore[method-assign]


async def test_the_data_folder_is_made_and_private(tmp_path: Path) -> None:
    service = Service(None, data_dir=str(tmp_path / "a" / "b"), plugins=())
    await service.start()
    await service.stop()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"raven.db", "secret"}


async def test_without_the_c_parser_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(http_parser, "HttpResponseParser", http_parser.HttpResponseParserPy)
    with pytest.raises(ConfigError, match="C parser"):
        await Service(None, data_dir=str(tmp_path)).start()


async def test_counters_that_cannot_be_read_stop_the_start_and_leave_no_thread(tmp_path: Path) -> None:
    """An open database's thread would keep the process alive, which nobody would start again."""
    (tmp_path / "counters.db").write_bytes(b"no database" * 100)
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match=r"counters\.db cannot be opened: file is not a database"):
        await Service(None, data_dir=str(tmp_path), plugins=(), workers=2).start()
    async with asyncio.timeout(10):
        while any(thread.is_alive() for thread in set(threading.enumerate()) - before):
            await asyncio.sleep(0.01)


async def test_two_gateways_live_side_by_side(raven: GatewayStarter) -> None:
    first, second = await raven(), await raven()
    assert first.gateway is not second.gateway
    for gateway in (first, second):
        async with gateway.client.post("/v1/chat/completions", json=chat("demo/chat")) as reply:
            assert reply.status == 200


def test_an_address_that_cannot_be_had_says_why() -> None:
    with listen_on("127.0.0.1", 0) as sock:
        sock.listen()
        with pytest.raises(ConfigError, match=r"listen: 127\.0\.0\.1:.*in use"):
            listen_on("127.0.0.1", sock.getsockname()[1])
    with pytest.raises(ConfigError, match=r"listen: 192\.0\.2\.1:80: "):
        listen_on("192.0.2.1", 80)
    with pytest.raises(ConfigError, match=r"listen: none\.invalid:80: "):
        listen_on("none.invalid", 80)
    with contextlib.suppress(OSError):  # where there is no ::1 there is nothing to see
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        with listen_on("::1", 0) as sock:
            assert sock.family is socket.AF_INET6


# -- reload ---------------------------------------------------------------------------


async def test_a_stream_ends_on_the_pipeline_on_which_it_began(
    raven: GatewayStarter, upstream: MockUpstream, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    text = (
        "from raven_proxy import hookimpl\nNAME = b'old'\nclass Mark:\n"
        "    def feed(self, data): return data.replace(b'x', NAME)\n"
        "    def close(self): return b''\n@hookimpl\ndef open_stage(): return Mark()\n"
        "@hookimpl\nasync def shutdown(gateway): gateway.announce('stopped', NAME.decode())\n"
    )
    (folder / "mark.py").write_text(text)
    gateway = await raven(upstreams=[upstream], plugins_dir=folder)
    event, done = (
        b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    )
    upstream.script(
        ScriptedReply(chunks=[event, 0.4, event, done], headers=SSE),
        ScriptedReply(chunks=[event, done], headers=SSE),
    )
    async with await Wire.open(gateway.url) as wire, await Wire.open(gateway.url) as other:
        await wire.send(post(chat(stream=True, stream_options={"include_usage": True})))
        await wire.head()
        assert b'"old"' in await wire.chunk()
        (folder / "mark.py").write_text(text.replace("b'old'", "b'new'"))
        await gateway.reload()
        assert gateway.gateway.announcements == []
        await other.send(post(chat(stream=True, stream_options={"include_usage": True})))
        assert b'"new"' in (await other.reply()).body
        rest = b""
        while piece := await wire.chunk():
            rest += piece
        assert b'"old"' in rest
        assert b'"new"' not in rest
    await upstream.wait_until(lambda: gateway.gateway.announcements)
    assert gateway.gateway.announcements == [("stopped", "old")]


async def test_a_broken_reload_changes_nothing_and_is_counted(raven: GatewayStarter) -> None:
    log: list[str] = []
    gateway = await raven([plugin("one", log)])
    before = gateway.gateway.pipeline
    for config in ({"no_such": 1}, {"plugins": ["none"]}, {"listen": "x"}):
        path = gateway.folder / "raven.toml"
        text = path.read_text()
        with capture_logs() as events, pytest.raises(ConfigError):
            await gateway.reload(config)
        path.write_text(text)
        assert events[-1]["event"].startswith("reload failed")
    assert gateway.service.failed_reloads == 3
    assert gateway.gateway.pipeline is before
    assert gateway.gateway.config is before.config
    assert log == ["start one"]


async def test_under_load_a_reload_loses_no_request(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven(upstreams=[upstream])
    statuses: list[int] = []
    running = True

    async def load() -> None:
        while running:
            async with gateway.client.post(
                "/v1/chat/completions", json=chat(stream=len(statuses) % 2 == 0)
            ) as reply:
                await reply.read()
                statuses.append(reply.status)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            _ = group.create_task(load())
        for number in range(5):
            await asyncio.sleep(0.05)
            await gateway.reload({"keepalive_s": number})
        running = False
    assert len(statuses) > 20
    assert set(statuses) == {200}


async def test_connections_of_an_old_pipeline_are_closed(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    async with gateway.client.post("/v1/chat/completions", json=chat()) as reply:
        await reply.read()
    old = gateway.gateway.pipeline.upstreams["mock"]
    assert old.open_connections == 1
    await gateway.reload()
    await upstream.wait_until(lambda: old.open_connections == 0)


# -- stop -----------------------------------------------------------------------------


async def test_a_drain_is_first_not_ready_then_not_listening_and_ends_what_is_in_flight(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config={"drain_timeout_s": 5})
    upstream.script(ScriptedReply(chunks=[b"data: {}\n\n", 2.0, b"data: [DONE]\n\n"], headers=SSE))
    async with await Wire.open(gateway.url) as wire, await Wire.open(gateway.url) as idle:
        await wire.send(post(chat(stream=True, stream_options={"include_usage": True})))
        await wire.head()
        await idle.send(LIVE)
        await idle.reply()
        stopping = asyncio.get_running_loop().create_task(gateway.service.stop(grace_s=0.6))
        await asyncio.sleep(0.1)
        async with await Wire.open(gateway.url) as late:  # within the grace it still accepts
            await late.send(READY)
            reply = await late.reply()
            assert (reply.status, reply.headers["connection"]) == (503, "close")
        await asyncio.sleep(0.8)
        with pytest.raises(OSError, match=r"."):
            await Wire.open(gateway.url)
        body = b""
        while piece := await wire.chunk():
            body += piece
        assert body == b"data: {}\n\ndata: [DONE]\n\n"
        await stopping
        assert await idle.rest() == b""
    gateway.service.stop = lambda **_: asyncio.sleep(0)  # type: ignore[method-assign]


async def test_what_outlasts_the_drain_is_cut(raven: GatewayStarter, upstream: MockUpstream) -> None:
    ended: list[str] = []

    class Recorder:
        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            ended.append(exchange.outcome.value)

    gateway = await raven([Recorder], upstreams=[upstream], config={"drain_timeout_s": 0.3})
    upstream.script(ScriptedReply(chunks=[b"data: {}\n\n", 60], headers=SSE))
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat(stream=True)))
        await wire.head()
        async with asyncio.timeout(5):
            await gateway.service.stop(grace_s=0.0)
        assert not (await wire.rest()).endswith(b"0\r\n\r\n")
    assert ended == ["cancelled"]
    gateway.service.stop = lambda **_: asyncio.sleep(0)  # type: ignore[method-assign]
