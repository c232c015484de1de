"""What the conformance tests share: a gateway in front of one vendor, and what it noted down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from raven_proxy.exchange import Exchange
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.hookspecs import hookimpl
from raven_proxy.mock import MockUpstream

from .documented import GATEWAY, VENDOR_KEY

__all__ = ["VENDOR_KEY", "Ledger", "VendorStarter"]


class Ledger:
    """An observer that keeps every finished exchange."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Keep it."""
        self.exchanges.append(exchange)


VendorStarter = Callable[..., Awaitable[RunningGateway]]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def vendor(
    raven: GatewayStarter, upstream: MockUpstream, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> VendorStarter:
    """Start a gateway whose upstream "vendor" is `upstream`, speaking as one of the presets does."""
    monkeypatch.setenv("VENDOR_KEY", VENDOR_KEY)

    async def start(
        preset: str = "openai",
        base_path: str = "/v1",
        *,
        models: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        plugins: Sequence[Any] = (),
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> RunningGateway:
        described = {
            "name": "vendor",
            "provider": preset,
            "base_url": upstream.origin + base_path,
            "key": {"env": "VENDOR_KEY"},
            "models": list(models),
        }
        named = [{"name": alias, "target": f"vendor/{model}"} for alias, model in (aliases or {}).items()]
        table = {"models": named, "access_log": False, **(config or {})}
        options = {"base": ("meter", "openai")} | options
        return await raven([ledger, *plugins], upstreams=[described], config=table, **options)

    return start


@pytest.fixture
def documented(
    raven: GatewayStarter, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> VendorStarter:
    """Start the gateway of the documentation: every plugin that there is, and three vendors."""
    monkeypatch.setenv("VENDOR_KEY", VENDOR_KEY)
    vendors = {
        "openai-main": ("openai", "/v1", ["gpt-*", "o3", "text-embedding-*", "fx-*"]),
        "deepseek-main": ("deepseek", "/deepseek", ["deepseek-*"]),
        "cerebras-main": ("cerebras", "/cerebras", ["llama-*"]),
    }

    async def start(**options: Any) -> RunningGateway:
        upstreams = [
            {"name": name, "provider": preset, "base_url": upstream.origin + path, "models": models}
            | {"key": {"env": "VENDOR_KEY"}}
            for name, (preset, path, models) in vendors.items()
        ]
        upstreams.append({"name": "keyless", "provider": "groq", "base_url": upstream.url, "models": ["k-1"]})
        config = GATEWAY | options.pop("config", {})
        options = {"base": ("auth-keys", "meter", "byok", "openai", "demo")} | options
        return await raven(upstreams=upstreams, config=config, **options)

    return start
