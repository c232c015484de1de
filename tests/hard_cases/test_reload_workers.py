"""T134: a reload reaches every worker process."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .drop_ins import RELOAD, Files
from .running import Process, serve, write_config
from .wire import CHAT, Wire, chat, post


async def until_all(gateway: Process, pids: list[int], path: str) -> None:
    """Wait until every worker has something at `path`."""
    raw = post(b"", path, method="GET")
    async with asyncio.timeout(10):
        while await gateway.each_worker(pids, raw) != [200, 200]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGHUP", "POST"])
async def test_t134_every_worker_reloads(
    tmp_path: Path, upstream: MockUpstream, files: Files, by_signal: bool
) -> None:
    """SIGHUP, or one management call: both workers change over; a broken file changes neither."""
    plugins = ["auth-keys", "openai"]
    config = write_config(tmp_path, upstream, plugins=plugins, plugins_dir=str(files.folder))

    async def reload(gateway: Process, status: int) -> None:
        if by_signal:
            gateway.send(signal.SIGHUP)
        else:
            assert (await gateway.ask(RELOAD)).status == status

    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        await until_all(gateway, pids, "/version-one")
        wire = await Wire.open(gateway.url)
        await wire.send(post(chat("mock/fx-paced-100", stream=True)))
        await wire.head()
        files.stamp("two")
        await reload(gateway, 200)
        await until_all(gateway, pids, "/version-two")
        assert await gateway.each_worker(pids, post(b"", "/version-one", method="GET")) == [404, 404]
        body = b""
        while piece := await wire.chunk():
            body += piece
        assert body.endswith(b"data: [DONE]\n\n")
        assert b"two:" not in body
        await wire.close()
        files.stamp("three")
        files.write("guard.py", "def (\n")
        await reload(gateway, 400)
        await asyncio.sleep(0.5)
        await until_all(gateway, pids, "/version-two")
        assert "reload failed" in gateway.errors()
        assert gateway.workers() == pids  # nobody had to be replaced
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert "Traceback" not in gateway.errors()
        assert ADMIN_KEY not in gateway.errors()
    assert {seen.path for seen in upstream.seen} == {CHAT}


async def test_t134_the_call_returns_when_every_worker_has_changed_over(
    tmp_path: Path, upstream: MockUpstream, files: Files
) -> None:
    """From the next request on the new configuration holds, whoever takes it."""
    config = write_config(tmp_path, upstream, plugins=["auth-keys", "openai"], plugins_dir=str(files.folder))
    async with serve(config, "--workers", "2") as gateway:
        await gateway.two_workers()
        for number in range(3):
            files.stamp(f"v{number}")
            assert (await gateway.ask(RELOAD)).status == 200
            raw = post(b"", f"/version-v{number}", method="GET")
            assert [(await gateway.ask(raw)).status for _ in range(20)] == [200] * 20
        assert len(list((tmp_path / "data" / "workers").glob("*"))) == 4  # two of each
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert list((tmp_path / "data" / "workers").glob("*")) == []
