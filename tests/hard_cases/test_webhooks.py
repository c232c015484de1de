"""Webhooks with real worker processes: each event once, whoever saw it, and after a sudden death too."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream, ScriptedReply

from .running import Process, call, serve, write_config
from .wire import CANARY, chat, post

SECRET = "a-secret-that-is-long-enough"
PLUGINS = ["auth-keys", "meter", "webhooks", "openai"]
FAILING = post(chat("mock/fx-500"))
PATIENCE_S = 30.0  # the second try comes after 5 s, and a look for others' work every 5 s


async def test_each_event_is_told_once(tmp_path: Path, upstream: MockUpstream) -> None:
    """Two workers, one of them killed between two tries, and a key that the command line makes."""
    refused: set[str] = set()

    async def judge(seen: Any) -> ScriptedReply:
        """Refuse the first try of each delivery."""
        name = seen.headers["x-raven-delivery"]
        if name in refused:
            return ScriptedReply(status=204)
        refused.add(name)
        return ScriptedReply(status=503)

    async with MockUpstream() as receiver:
        receiver.handler = judge
        config = write_config(
            tmp_path, upstream, plugins=PLUGINS, plugin={"webhooks": {"allow_private": True}}
        )
        async with serve(config, "--workers", "2") as gateway:
            pids = await gateway.two_workers()
            hook = {"url": receiver.origin + "/path-secret", "secret": SECRET, "events": ["*"]}
            assert (await gateway.ask(post(hook, "/webhooks"))).status == 201
            async with asyncio.timeout(PATIENCE_S):
                while len(refused) < 4:  # a new webhook is known to the other worker in a moment
                    assert await gateway.each_worker(pids, FAILING) == [500, 500]
                    await asyncio.sleep(0.2)
            status, _, errors = await call("keys", "create", "--name", "mine", "--config", str(config))
            assert status == 0, errors
            await receiver.wait_until(lambda: "key.created" in events(receiver), PATIENCE_S)
            [made] = await ask(gateway, "/webhooks")
            path = f"/webhooks/{made['id']}/deliveries"
            while not all(row["tries"] for row in await ask(gateway, path)):
                await asyncio.sleep(0.05)  # else a dead worker's try would be another's in a minute
            os.kill(pids[0], signal.SIGKILL)
            await receiver.wait_until(lambda: len(receiver.seen) == 2 * len(refused), PATIENCE_S)
            async with asyncio.timeout(PATIENCE_S):
                while {(row["state"], row["tries"]) for row in await ask(gateway, path)} != {
                    ("delivered", 2)
                }:
                    await asyncio.sleep(0.05)
            gateway.send(signal.SIGTERM)
            assert await gateway.ended() == 0
            for needle in (SECRET, "path-secret", CANARY, ADMIN_KEY):
                assert needle not in gateway.errors()
        told = Counter(msgspec.json.decode(seen.body)["id"] for seen in receiver.seen)
        assert set(told.values()) == {2}
        assert set(events(receiver)) == {"exchange.failed", "key.created"}
        assert not any(CANARY.encode() in seen.raw for seen in receiver.seen)


def events(receiver: MockUpstream) -> list[str]:
    return [seen.headers["x-raven-event"] for seen in receiver.seen]


async def ask(gateway: Process, path: str) -> Any:
    return (await gateway.ask(post(b"", path, method="GET"))).json()
