"""T68: limits hold over several processes, over a reload, and give back what a dead worker held."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config
from .wire import RawReply, chat, post

PLUGINS = ["auth-keys", "limits", "openai"]


def settings(**plan: Any) -> dict[str, Any]:
    return {
        "plugins": PLUGINS,
        "plans": {"mine": plan},
        "plugin": {"limits": {"default_plan": "mine"}},
        "log_level": "warning",
        "models_refresh_s": 0,
    }


def request(model: str = "mock/any", **fields: Any) -> bytes:
    return post(chat(model, **fields))


async def together(running: Process, count: int, raw: bytes) -> list[RawReply]:
    return await asyncio.gather(*(running.ask(raw) for _ in range(count)))


async def test_t68_workers_share_their_limits(tmp_path: Path, upstream: MockUpstream) -> None:
    """Requests, tokens and slots: together the workers admit what one would."""
    config = write_config(tmp_path, upstream, workers=3, **settings(requests_per_minute=60))
    async with serve(config) as running:
        replies = await together(running, 200, request())
        assert sorted(reply.status for reply in replies) == [200] * 60 + [429] * 140
        assert len(upstream.seen) == 60
        left = sorted(int(r.headers["x-ratelimit-remaining"]) for r in replies if r.status == 200)
        assert left[0] == 0
        assert all(1 <= int(r.headers["retry-after"]) <= 62 for r in replies if r.status == 429)


async def test_t91_workers_share_tokens_and_slots(tmp_path: Path, upstream: MockUpstream) -> None:
    """One of five calls that are over the tokens of a minute; three at once of a concurrency of three."""
    plan = settings(tokens_per_minute=100)
    async with serve(write_config(tmp_path, upstream, workers=3, **plan)) as running:
        replies = await together(running, 5, request("mock/fx-slow-0.2"))
        assert sorted(reply.status for reply in replies) == [200] + [429] * 4
        codes = {reply.json()["error"]["code"] for reply in replies if reply.status == 429}
        assert codes == {"token_limit_exceeded"}
    folder = tmp_path / "slots"
    folder.mkdir()
    plan = settings(max_concurrency=3)
    async with serve(write_config(folder, upstream, workers=3, **plan)) as running:
        for _ in range(3):
            replies = await together(running, 20, request("mock/fx-slow-0.5"))
            assert sorted(reply.status for reply in replies) == [200] * 3 + [429] * 17
            assert {r.headers["retry-after"] for r in replies if r.status == 429} == {"1"}


async def test_a_worker_that_dies_keeps_no_slot(tmp_path: Path, upstream: MockUpstream) -> None:
    """What a killed worker held is free once another has taken its place."""
    plan = settings(max_concurrency=1)
    async with serve(write_config(tmp_path, upstream, workers=2, **plan)) as running:
        pids = await running.two_workers()
        held = asyncio.gather(running.ask(request("mock/fx-silent")), return_exceptions=True)
        await upstream.wait_until(lambda: upstream.seen)
        assert (await running.ask(request())).status == 429
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await held
        async with asyncio.timeout(20):
            while set(running.workers()) & set(pids) or len(running.workers()) < 2:
                await asyncio.sleep(0.05)
            while await running.status("/health/ready") != 200:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while (await running.ask(request())).status != 200:
                await asyncio.sleep(0.1)


async def test_a_reload_keeps_what_was_counted_in_every_worker(
    tmp_path: Path, upstream: MockUpstream
) -> None:
    config = write_config(tmp_path, upstream, workers=2, **settings(requests_per_minute=5))
    async with serve(config) as running:
        await running.two_workers()
        assert [(await running.ask(request())).status for _ in range(6)] == [200] * 5 + [429]
        write_config(tmp_path, upstream, workers=2, **settings(requests_per_minute=8))
        running.send(signal.SIGHUP)
        async with asyncio.timeout(10):
            while await limits(running) != {"8"}:
                await asyncio.sleep(0.05)
        assert [(await running.ask(request())).status for _ in range(4)] == [200] * 3 + [429]


async def limits(running: Process) -> set[str]:
    """What the workers say when they are asked for what does not count."""
    return {(await running.ask(request(messages=[]))).headers["x-ratelimit-limit"] for _ in range(12)}
