"""T87, T146: alerts in real worker processes: one mail, one pause, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .running import serve, write_config
from .wire import chat, post

RULE = {"name": "ten", "when": "provider_day", "measure": "requests", "threshold": 10, "stop": True}
CHAT = post(chat("mock/any"))
LIFT = post(b"", "/alerts/paused/mock", method="DELETE")


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 taken"


async def test_a_stop_holds_in_every_worker(tmp_path: Path, upstream: MockUpstream) -> None:
    """Two workers count together; both refuse; one mail; kill -9 of a worker and a restart change nothing."""
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="mail.test"), "127.0.0.1", 0)
    mail = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "security": "none"}
    mail |= {"sender": "raven@example.com", "hello_name": "raven.test"}
    settings = {"rules": [RULE], "mail": mail, "mail_to": ["ops@example.com"]}
    plugins = ["auth-keys", "meter", "alerts", "openai"]
    table = {"alerts": settings, "meter": {"allow_unpriced": True}}
    config = write_config(tmp_path, upstream, plugins=plugins, plugin=table)

    async def until(gateway: Any, pids: list[int], status: int) -> None:
        async with asyncio.timeout(10):
            while await gateway.each_worker(pids, CHAT) != [status] * len(pids):
                await asyncio.sleep(0.7)

    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        for _ in range(3):
            assert await gateway.each_worker(pids, CHAT) == [200, 200]
        await until(gateway, pids, 429)
        asked = len(upstream.seen)
        assert 10 <= asked <= 12  # neither saw ten alone
        await upstream.wait_until(lambda: box.mails, 5.0)
        assert await gateway.each_worker(pids, CHAT) == [429, 429]
        os.kill(pids[0], signal.SIGKILL)
        async with asyncio.timeout(20):
            while pids[0] in gateway.workers() or len(gateway.workers()) < 2:
                await asyncio.sleep(0.05)
        pids = await gateway.two_workers()
        assert await gateway.each_worker(pids, CHAT) == [429, 429]
        assert len(upstream.seen) == asked
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        assert await gateway.each_worker(pids, CHAT) == [429, 429]
        assert (await gateway.ask(LIFT)).status == 200
        await until(gateway, pids, 200)
        assert await gateway.each_worker(pids, CHAT) == [200, 200]
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert ADMIN_KEY not in gateway.errors()
        assert "Traceback" not in gateway.errors()
    assert len(box.mails) == 1
    server.close()
    await server.wait_closed()
