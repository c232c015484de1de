"""What the tests of the webhooks share: a gateway that may call this machine, and receivers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

SECRET = "a-secret-that-is-long-enough"
PATIENCE_S = 15.0


@pytest.fixture
async def receiver() -> AsyncIterator[MockUpstream]:
    """What a webhook points at; it takes everything unless a reply is scripted."""

    async def take(seen: Any) -> ScriptedReply:
        return ScriptedReply(status=204)

    async with MockUpstream() as mock:
        mock.handler = take
        yield mock


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven_webhooks.outbox.PAUSES_S", (0.05, 0.1))
    monkeypatch.setattr("raven_webhooks._LOOK_EVERY_S", 0.1)


class Site:
    """A gateway, seen by its administrator."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.running = gateway
        self.gateway = gateway.gateway

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.running.client.request(method, path, json=body, **options) as reply:
            return reply.status, msgspec.json.decode(await reply.read())

    async def subscribe(self, receiver: MockUpstream, *events: str, **fields: Any) -> Any:
        body = {"url": f"{receiver.origin}/path-secret", "events": list(events or ("*",)), "secret": SECRET}
        status, made = await self.ask("POST", "/webhooks", body | fields)
        assert status == 201, made
        return made

    async def deliveries(self, webhook: str) -> list[Any]:
        status, rows = await self.ask("GET", f"/webhooks/{webhook}/deliveries")
        assert status == 200, rows
        return list(rows)

    async def until(self, webhook: str, true: Callable[[list[Any]], Any]) -> list[Any]:
        """Ask for a webhook's deliveries until `true` of them."""
        async with asyncio.timeout(PATIENCE_S):
            while not true(rows := await self.deliveries(webhook)):
                await asyncio.sleep(0.02)
        return rows

    async def chat(self, model: str = "mock/any") -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "a word that no webhook has"}]}
        async with self.running.client.post("/v1/chat/completions", json=body) as reply:
            await reply.read()
            return reply.status


@pytest.fixture
def site(raven: Any, upstream: MockUpstream) -> Any:
    async def start(
        *plugins: Any, base: tuple[str, ...] = (), config: Mapping[str, Any] | None = None, **settings: Any
    ) -> Site:
        table = {
            "plugin": {"webhooks": {"allow_private": True} | settings},
            "access_log": False,
            **(config or {}),
        }
        gateway = await raven(plugins, upstreams=[upstream], base=("webhooks", *base, "openai"), config=table)
        return Site(gateway)

    return start


def is_signed(seen: Any, secret: str = SECRET) -> bool:
    moment, digest = (part.partition("=")[2] for part in seen.headers["x-raven-signature"].split(","))
    expected = hmac.new(secret.encode(), f"{moment}.".encode() + seen.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(digest, expected)
