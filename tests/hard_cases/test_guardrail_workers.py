"""T55 for guardrails: what one worker is told holds in every worker, from the next request on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config
from .wire import RawReply, post

WORD = "mellivora"
QUESTION = {"model": "mock/m", "messages": [{"role": "user", "content": f"Tell me of {WORD} capensis."}]}
RULE = {"name": "No badgers", "type": "block_topics", "action": "block", "appliesTo": "input",
        "config": {"topics": [WORD]}}  # fmt: skip


async def call(gateway: Process, method: str, path: str, body: dict[str, Any] | None = None) -> RawReply:
    return await gateway.ask(post(msgspec.json.encode(body) if body else b"", path, method=method))


async def until_all(gateway: Process, pids: list[int], status: int) -> None:
    """Wait until each worker answers so; T55 wants it within a second."""
    async with asyncio.timeout(10):
        while await gateway.each_worker(pids, post(msgspec.json.encode(QUESTION))) != [status] * len(pids):
            await asyncio.sleep(0.02)


async def test_t55_a_guardrail_changes_in_every_worker(tmp_path: Path, upstream: MockUpstream) -> None:
    """Made, set to shadow, to redact, switched off and deleted by one; the banned word is in no log."""
    config = write_config(tmp_path, upstream, plugins=["auth-keys", "guardrails", "openai"])
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        await until_all(gateway, pids, 200)
        made = await call(gateway, "POST", "/guardrails", RULE)
        assert made.status == 201, made.body
        path = f"/guardrails/{made.json()['id']}"
        await until_all(gateway, pids, 403)
        seen = len(upstream.seen)
        assert await gateway.each_worker(pids, post(msgspec.json.encode(QUESTION))) == [403, 403]
        assert len(upstream.seen) == seen
        assert (await call(gateway, "PATCH", path, {"shadow": True})).status == 200
        await until_all(gateway, pids, 200)
        assert (await call(gateway, "PATCH", path, {"shadow": False, "action": "redact"})).status == 200
        async with asyncio.timeout(10):
            while True:
                before = len(upstream.seen)
                await until_all(gateway, pids, 200)
                if not any(WORD.encode() in one.body for one in upstream.seen[before:]):
                    break
        assert (await call(gateway, "PATCH", path, {"action": "block"})).status == 200
        await until_all(gateway, pids, 403)
        assert (await call(gateway, "PATCH", path, {"isEnabled": False})).status == 200
        await until_all(gateway, pids, 200)
        assert (await call(gateway, "PATCH", path, {"isEnabled": True})).status == 200
        await until_all(gateway, pids, 403)
        assert (await call(gateway, "DELETE", path)).status == 200
        await until_all(gateway, pids, 200)
        assert WORD not in gateway.errors()
        assert "Traceback" not in gateway.errors()
