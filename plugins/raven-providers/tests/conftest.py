"""Gateways with two organisations, and the management API as somebody of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream

KEY = "sk-proj-NEEDLE-0123456789abcdef"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PEOPLE = {
    "ann": Principal(
        key_id="key_ann", organization_id="org_a", scopes=ADMINISTRATOR.scopes, role="owner", name="Ann"
    ),
    "bob": Principal(
        key_id="key_bob", organization_id="org_b", scopes=ADMINISTRATOR.scopes, role="owner", name="Bob"
    ),
    "vic": Principal(key_id="key_vic", organization_id="org_a", scopes=ADMINISTRATOR.scopes, role="viewer"),
    "lim": Principal(
        key_id="key_lim", organization_id="org_a", scopes=ADMINISTRATOR.scopes,
        allowed_models=("production-openai/*",),
    ),
}  # fmt: skip


class People:
    """Knows people by their names."""

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return PEOPLE.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))


class Api:
    """A gateway with the plugin, called as somebody; JSON in and out."""

    def __init__(self, running: RunningGateway) -> None:
        self.running = running
        self.gateway = running.gateway

    async def __call__(
        self, method: str, path: str, json: Any = None, who: str = "ann", **headers: str
    ) -> tuple[int, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {who}"
        async with self.running.client.request(method, path, json=json, headers=sent) as reply:
            return reply.status, await reply.json()

    async def make(self, upstream: MockUpstream | None = None, who: str = "ann", **fields: Any) -> Any:
        """Make a provider, by default the account "Production OpenAI" at a fake vendor."""
        body = {"provider": "openai", "name": "Production OpenAI", "apiKey": KEY}
        if upstream is not None:
            body["baseUrl"] = upstream.url
        status, made = await self("POST", "/providers", body | fields, who)
        assert status == 201, made
        return made

    async def chat(self, model: str, who: str = "ann", **headers: str) -> tuple[int, Any]:
        """Send a chat."""
        return await self("POST", "/v1/chat/completions", CHAT | {"model": model}, who, **headers)


@pytest.fixture
async def start(raven: GatewayStarter) -> Any:
    """Start a gateway with the plugin; fake vendors on loopback are allowed unless said otherwise."""

    async def start(*plugins: Any, base: tuple[str, ...] = (), **config: Any) -> Api:
        settings = {"allow_private_upstreams": True, **config}
        names = ("byok", "providers", "openai", *base)
        return Api(await raven([People, *plugins], config=settings, base=names))

    return start


@pytest.fixture
async def api(start: Any) -> Api:
    found: Api = await start()
    return found


@pytest.fixture
async def other() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as mock:
        yield mock
