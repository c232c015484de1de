"""T55 for an organisation's own providers: a change holds in every worker, from the next request on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config
from .wire import RawReply, chat, post

KEY = "sk-proj-NEEDLE-0123456789abcdef"
NEW_KEY = "sk-proj-NEEDLE-fedcba9876543210"
MODEL = "production-openai/m"


async def call(gateway: Process, method: str, path: str, body: dict[str, Any] | None = None) -> RawReply:
    raw = post(msgspec.json.encode(body) if body is not None else b"", path, method=method)
    return await gateway.ask(raw)


async def until_all(gateway: Process, pids: list[int], status: int) -> None:
    """Wait until each worker answers a chat so; T55 wants it within a second."""
    async with asyncio.timeout(10):
        while await gateway.each_worker(pids, post(chat(MODEL))) != [status] * len(pids):
            await asyncio.sleep(0.02)


async def test_t55_an_account_changes_in_every_worker(tmp_path: Path, upstream: MockUpstream) -> None:
    """Made, rotated, switched off, switched on and deleted by one; and its key is in no log."""
    plugins = ["auth-keys", "providers", "openai"]
    config = write_config(tmp_path, plugins=plugins, allow_private_upstreams=True)
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        body = {"provider": "openai", "name": "Production OpenAI", "apiKey": KEY, "baseUrl": upstream.url,
                "models": ["m"]}  # fmt: skip
        made = await call(gateway, "POST", "/providers", body)
        assert made.status == 201
        path = f"/providers/{made.json()['id']}"
        await until_all(gateway, pids, 200)
        assert (await call(gateway, "PATCH", path, {"apiKey": NEW_KEY})).status == 200
        async with asyncio.timeout(10):
            while True:
                before = len(upstream.seen)
                await until_all(gateway, pids, 200)
                keys = [seen.headers["authorization"] for seen in upstream.seen[before:]]
                if keys == [f"Bearer {NEW_KEY}"] * 2:
                    break
        assert (await call(gateway, "PATCH", path, {"isEnabled": False})).status == 200
        await until_all(gateway, pids, 503)
        seen = len(upstream.seen)
        assert await gateway.each_worker(pids, post(chat(MODEL))) == [503, 503]
        assert len(upstream.seen) == seen
        assert (await call(gateway, "PATCH", path, {"isEnabled": True})).status == 200
        await until_all(gateway, pids, 200)
        assert (await call(gateway, "DELETE", path)).status == 200
        await until_all(gateway, pids, 400)
        assert "NEEDLE" not in gateway.errors()
        assert "Traceback" not in gateway.errors()
