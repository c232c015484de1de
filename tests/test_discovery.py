"""Providers are asked for their models in the background; what they say is listed and resolves."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from raven_proxy.config import UpstreamConfig
from raven_proxy.discovery import ask, discover
from raven_proxy.exchange import Outgoing
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.hookspecs import hookimpl
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.providers import ModelInfo
from raven_proxy.upstream import Upstream


class Lister:
    """A vendor whose list has two pages."""

    name = "lister"

    def base_url(self, preset: str) -> None:
        return None

    def needs_key(self, preset: str) -> bool:
        return False

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        return ()

    def build_listing(self, upstream: Any, page: str | None) -> Outgoing:
        return Outgoing("GET", f"{upstream.base_path}/list?page={page or 1}", {}, b"")

    def read_listing(self, upstream: Any, body: bytes) -> tuple[list[ModelInfo], str | None]:
        document = msgspec.json.decode(body)
        models = [ModelInfo(id=one, owned_by="lister", context_window=8000) for one in document["ids"]]
        return models, document.get("next")


class ListerPlugin:
    @hookimpl
    def register_providers(self, register: Any) -> None:
        register(Lister())


def page(*ids: str, following: str | None = None) -> ScriptedReply:
    return ScriptedReply.of_json({"ids": ids, "next": following})


async def start(raven: GatewayStarter, upstream: MockUpstream, **table: Any) -> RunningGateway:
    described = {"name": "main", "provider": "lister", "base_url": upstream.url} | table
    alias = {"name": "fast", "target": "main/alpha"}
    return await raven([ListerPlugin], upstreams=[described], config={"models": [alias]}, base=())


async def listed(gateway: RunningGateway) -> dict[str, Any]:
    async with gateway.client.get("/v1/models") as reply:
        return {model["id"]: model for model in (await reply.json())["data"]}


async def test_every_page_is_listed_and_resolves(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """An alias takes over what is known of its target."""
    gateway = await start(raven, upstream)
    upstream.script(page("alpha", following="2"), page("beta"))
    await discover(gateway.gateway.pipeline)
    assert [seen.target for seen in upstream.seen] == ["/v1/list?page=1", "/v1/list?page=2"]
    models = await listed(gateway)
    assert set(models) == {"fast", "alpha", "beta"}
    assert models["fast"]["context_window"] == models["beta"]["context_window"] == 8000
    [place] = gateway.gateway.pipeline.catalogue.resolve("beta")
    assert (place.upstream.name, place.model) == ("main", "beta")


async def test_only_what_the_config_lets_an_upstream_serve(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await start(raven, upstream, models=["a*"])
    upstream.script(page("alpha", "beta"))
    await discover(gateway.gateway.pipeline)
    assert set(await listed(gateway)) == {"fast", "alpha"}


@pytest.mark.parametrize(
    "reply",
    [
        ScriptedReply(status=500, body=b"no"),
        ScriptedReply(body=b"<html>", headers={"Content-Type": "text/html"}),
        ScriptedReply.of_json({"ids": [{"not": "a name"}]}),
        ScriptedReply(end="reset"),
    ],
)
async def test_a_provider_that_is_ill_keeps_its_models(
    reply: ScriptedReply, raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await start(raven, upstream)
    upstream.script(page("alpha"), reply)
    await discover(gateway.gateway.pipeline)
    await discover(gateway.gateway.pipeline)
    assert set(await listed(gateway)) == {"fast", "alpha"}


async def test_it_happens_by_itself_and_a_reload_keeps_it(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """At the start, without any request; a new pipeline begins with what the old one knew."""
    upstream.script(page("alpha"))
    described = {"name": "main", "provider": "lister", "base_url": upstream.url}
    gateway = await raven(
        [ListerPlugin], upstreams=[described], config={"models_refresh_s": 60}, base=(), check_leaks=False
    )
    await upstream.wait_until(lambda: bool(gateway.gateway.pipeline.upstreams["main"].listed))
    assert set(await listed(gateway)) == {"alpha"}
    await gateway.reload({"models_refresh_s": 0})
    assert set(await listed(gateway)) == {"alpha"}


async def test_a_vendor_without_a_list_is_not_asked() -> None:
    """Nor one whose key is missing, nor the demo."""
    upstream: Any = SimpleNamespace(implicit=False, credential=None, provider=Lister(), preset="x")
    upstream.provider.needs_key = lambda preset: True
    pipeline: Any = SimpleNamespace(upstreams={"a": upstream}, catalogue=SimpleNamespace(forget=lambda: None))
    await discover(pipeline)


async def test_a_request_that_cannot_be_written_takes_no_connection(
    upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key with a line break in it: asked again every hour, it would take one connection each time."""
    listing = Outgoing("GET", "/list", {"authorization": "Bearer two\nlines"}, b"")
    monkeypatch.setattr(Lister, "build_listing", lambda *_: listing)
    config = UpstreamConfig(name="main", provider="lister", base_url=upstream.url)
    provider: Any = Lister()
    asked = Upstream(config, provider, allow_private=True)
    await ask(asked)
    assert (asked.open_connections, upstream.seen) == (0, [])
