"""T108: a real process that is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config
from .wire import Wire, chat, post

BASE = ["auth-keys", "meter", "openai"]


async def begin_stream(gateway: Process, model: str) -> Wire:
    """Begin a stream and read its first chunk."""
    wire = await Wire.open(gateway.url)
    await wire.send(post(chat(f"mock/{model}", stream=True)))
    status, _ = await wire.head()
    assert status == 200
    assert await wire.chunk()
    return wire


async def rest_of(wire: Wire) -> tuple[bytes, bool]:
    """Read a stream to its end; say whether it ended well."""
    got = b""
    try:
        while piece := await wire.chunk():
            got += piece
    except (asyncio.IncompleteReadError, ConnectionError):
        return got, False
    finally:
        await wire.close()
    return got, True


def recorded(folder: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(folder / "data" / "raven.db") as database:
        rows = database.execute("SELECT status, outcome FROM exchanges ORDER BY id").fetchall()
    database.close()
    return rows


@pytest.mark.parametrize("workers", [1, 2])
async def test_t108_sigterm_drains(tmp_path: Path, upstream: MockUpstream, workers: int) -> None:
    """SIGTERM: not ready, still accepting; the running stream gets its [DONE]; rows are flushed; exit 0."""
    config = write_config(tmp_path, upstream, plugins=BASE, drain_timeout_s=10)
    async with serve(config, "--workers", str(workers)) as gateway:
        assert await gateway.status("/health/ready") == 200
        wire = await begin_stream(gateway, "fx-paced-100")
        gateway.send(signal.SIGTERM)
        began = time.monotonic()
        statuses = []
        while (status := await gateway.status("/health/ready")) != 0 and time.monotonic() - began < 5:
            statuses.append(status)
            if status == 503 and statuses.count(503) == 1:  # the grace: not ready, and yet it serves
                assert (await gateway.ask(post(chat()))).status == 200
            await asyncio.sleep(0.01)
        assert 503 in statuses
        assert statuses == sorted(statuses)  # never ready again
        body, is_whole = await rest_of(wire)
        assert is_whole
        assert body.endswith(b"data: [DONE]\n\n")
        assert await gateway.ended(10) == 0
        assert time.monotonic() - began < 10
        assert recorded(tmp_path) == [(200, "completed"), (200, "completed")] or workers == 2
        assert sorted(recorded(tmp_path)) == [(200, "completed")] * 2
        assert "Traceback" not in gateway.errors()


async def test_t108_the_drain_is_bounded(tmp_path: Path, upstream: MockUpstream) -> None:
    """What is not done after `drain_timeout_s` is cut and recorded; the exit status is 0 all the same."""
    config = write_config(tmp_path, upstream, plugins=BASE, drain_timeout_s=1)
    async with serve(config) as gateway:
        wire = await begin_stream(gateway, "fx-stall")
        silent = await Wire.open(gateway.url)  # an idle connection does not hold it up
        gateway.send(signal.SIGTERM)
        began = time.monotonic()
        assert await gateway.ended(8) == 0
        assert 0.5 < time.monotonic() - began < 5
        body, is_whole = await rest_of(wire)
        assert not is_whole
        assert b"[DONE]" not in body
        await silent.close()
    assert [outcome for _, outcome in recorded(tmp_path)] == ["cancelled"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_t108_a_second_signal_means_now(tmp_path: Path, upstream: MockUpstream, workers: int) -> None:
    """The second SIGTERM ends the process at once, whatever is in flight."""
    config = write_config(tmp_path, upstream, plugins=BASE, drain_timeout_s=30)
    async with serve(config, "--workers", str(workers)) as gateway:
        wire = await begin_stream(gateway, "fx-stall")
        gateway.send(signal.SIGTERM)
        while await gateway.status("/health/ready") == 200:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert gateway.process.returncode is None
        gateway.send(signal.SIGTERM)
        await gateway.ended(3)
        await wire.close()
    await upstream.wait_until(lambda: upstream.connections == 0)


async def test_t108_sigint_does_the_same(tmp_path: Path, upstream: MockUpstream) -> None:
    """Ctrl-C drains as SIGTERM does."""
    config = write_config(tmp_path, upstream, plugins=BASE)
    async with serve(config) as gateway:
        wire = await begin_stream(gateway, "fx-paced-20")
        gateway.send(signal.SIGINT)
        body, is_whole = await rest_of(wire)
        assert is_whole
        assert body.endswith(b"data: [DONE]\n\n")
        assert await gateway.ended() == 0


async def test_t108_what_outlasts_the_drain_gets_an_answer(tmp_path: Path, upstream: MockUpstream) -> None:
    """A request that the drain does not outlast is a 503 with its id, an open stream gets an error event."""
    config = write_config(tmp_path, upstream, plugins=BASE, drain_timeout_s=1)
    async with serve(config) as gateway:
        waiting = asyncio.ensure_future(gateway.ask(post(chat("mock/fx-silent"))))  # noqa: TID251
        wire = await begin_stream(gateway, "fx-stall")
        gateway.send(signal.SIGTERM)
        body, is_whole = await rest_of(wire)
        assert not is_whole
        assert b'"service_unavailable"' in body
        assert b"[DONE]" not in body
        reply = await waiting
        assert reply.status == 503
        assert reply.headers["x-request-id"].startswith("req_")
        assert await gateway.ended(10) == 0


async def test_workers_do_not_outlive_their_parent(tmp_path: Path, upstream: MockUpstream) -> None:
    """A parent that was killed leaves nobody on the port."""
    config = write_config(tmp_path, upstream, plugins=BASE, drain_timeout_s=1)
    async with serve(config, "--workers", "2") as gateway:
        workers = gateway.workers()
        assert len(workers) == 2
        gateway.send(signal.SIGKILL)
        await gateway.ended(10)
        async with asyncio.timeout(15):
            while any(is_running(pid) for pid in workers):
                await asyncio.sleep(0.1)
        assert await gateway.status("/health/live") == 0
        assert gateway.process.stdout is not None
        await gateway.process.stdout.read()  # the workers had it too: now it has an end


def is_running(pid: int) -> bool:
    """Say whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
