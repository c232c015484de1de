"""Where requests go once an organisation has upstreams of its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import CHAT, KEY, Api


async def test_an_account_serves_from_the_next_request_on(api: Api, upstream: MockUpstream) -> None:
    """By its slug, its id, its provider and a bare model; with its own key."""
    made = await api.make(upstream, models=["gpt-4*"])
    for model in ("production-openai/gpt-4o", f"{made['id']}/gpt-4o", "openai/gpt-4o", "gpt-4o"):
        status, body = await api.chat(model)
        assert status == 200, (model, body)
    assert len(upstream.seen) == 4
    assert {seen.headers["authorization"] for seen in upstream.seen} == {f"Bearer {KEY}"}
    assert {seen.json["model"] for seen in upstream.seen} == {"gpt-4o"}


async def test_raw_paths_find_it_too(api: Api, upstream: MockUpstream) -> None:
    await api.make(upstream)
    for name in ("production-openai", "openai"):
        status, _ = await api("POST", f"/v1/{name}/chat/completions", CHAT | {"model": "gpt-4o"})
        assert status == 200
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("model", ["production-openai/gpt-4o", "openai/gpt-4o", "gpt-4o", "{id}/gpt-4o"])
async def test_another_organisation_is_never_routed_to_it(
    api: Api, upstream: MockUpstream, model: str
) -> None:
    """Nor by raw paths, nor does it see its models: for it there is nothing of that name."""
    made = await api.make(upstream, models=["gpt-4o"])
    status, body = await api.chat(model.format(**made), "bob")
    assert (status, body["error"]["code"]) == (400, "model_not_found")
    for name in (made["id"], "production-openai", "openai"):
        status, _ = await api("POST", f"/v1/{name}/chat/completions", CHAT | {"model": "gpt-4o"}, "bob")
        assert status == 404
    assert [one["id"] for one in (await api("GET", "/v1/models"))[1]["data"]] == ["gpt-4o"]
    assert (await api("GET", "/v1/models", who="bob"))[1]["data"] == []
    assert not upstream.seen


async def test_two_organisations_use_one_name_for_their_own(
    api: Api, upstream: MockUpstream, other: MockUpstream
) -> None:
    await api.make(upstream)
    await api.make(other, "bob", apiKey="sk-of-bob-0123456789")
    assert (await api.chat("production-openai/m"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (1, 0)
    assert (await api.chat("openai/m", "bob"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (1, 1)
    assert other.seen[0].headers["authorization"] == "Bearer sk-of-bob-0123456789"


async def test_the_lowest_priority_is_asked_first_and_the_next_when_it_fails(
    api: Api, upstream: MockUpstream, other: MockUpstream
) -> None:
    await api.make(other, name="Second", priority=2)
    await api.make(upstream, name="First", priority=1)
    upstream.script(ScriptedReply(status=500, body=b"no"))
    for _ in range(3):
        assert (await api.chat("openai/m"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (3, 1)


async def test_equal_ones_share_by_their_weight(
    api: Api, upstream: MockUpstream, other: MockUpstream
) -> None:
    """3 to 1 over 200 requests: both are asked, the heavier one clearly more often."""
    await api.make(upstream, name="Heavy", weight=3)
    await api.make(other, name="Light")
    await api.make(other, name="Never", weight=0)
    seen: Counter[str] = Counter()
    catalogue = api.gateway.pipeline.catalogue
    holding = catalogue.holdings.of("org_a")
    assert holding is not None
    for _ in range(2000):
        found = catalogue.resolve_in(holding, "openai/m", brings_key=False)
        assert len(found) == 3
        seen[found[0].upstream.label] += 1
    assert seen["never"] == 0
    assert 1300 < seen["heavy"] < 1700  # 1500, give or take ten standard deviations


async def test_what_everybody_has_comes_after_ones_own(
    start: Any, upstream: MockUpstream, other: MockUpstream, tmp_path: Any
) -> None:
    """`provider/model` falls back to the config's upstream; a slug does not."""
    (tmp_path / "key").write_text("sk-of-the-operator")
    table = {"name": "everybody", "provider": "openai", "base_url": other.url,
             "key": {"file": str(tmp_path / "key")}}  # fmt: skip
    api = await start(upstreams=[table])
    assert (await api.chat("openai/m"))[0] == 200
    await api.make(upstream)
    assert (await api.chat("openai/m"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (1, 1)
    upstream.script(*[ScriptedReply(status=500, body=b"no")] * 2)
    assert (await api.chat("openai/m"))[0] == 200
    assert (await api.chat("production-openai/m"))[0] == 500
    assert (len(upstream.seen), len(other.seen)) == (3, 2)
    assert {seen.headers["authorization"] for seen in other.seen} == {"Bearer sk-of-the-operator"}
    status, _ = await api.chat("openai/m", "bob")
    assert (status, len(upstream.seen), len(other.seen)) == (200, 3, 3)


async def test_a_key_s_models_bound_it_by_slug(api: Api, upstream: MockUpstream) -> None:
    """A key for `production-openai/*` calls that account under every name of its models, and no other."""
    await api.make(upstream)
    assert (await api.chat("production-openai/m", "lim"))[0] == 200
    assert (await api.chat("openai/m", "lim"))[0] == 200
    assert (await api("GET", "/v1/production-openai/models", who="lim"))[0] == 200
    await api.make(upstream, name="Other")
    assert (await api.chat("other/m", "lim"))[0] == 403
    assert (await api.chat("openai/m", "lim"))[0] == 403  # a fallback could lead elsewhere


async def test_nobody_active_is_a_503(api: Api, upstream: MockUpstream) -> None:
    """A name that is known and that nobody serves now: `no_active_api_keys`, and nobody is asked."""
    made = await api.make(upstream, models=["gpt-4o"])
    await api("PATCH", f"/providers/{made['id']}", {"isEnabled": False})
    for model in ("production-openai/m", "openai/m", "gpt-4o"):
        status, body = await api.chat(model)
        assert (status, body["error"]["code"]) == (503, "no_active_api_keys")
    status, body = await api("POST", "/v1/openai/chat/completions", CHAT | {"model": "m"})
    assert (status, body["error"]["code"]) == (503, "no_active_api_keys")
    assert (await api("GET", "/v1/models"))[1]["data"] == []
    await api("PATCH", f"/providers/{made['id']}", {"isEnabled": True})
    assert (await api.chat("openai/m"))[0] == 200
    await api("PATCH", f"/providers/{made['id']}", {"apiKey": None})
    assert (await api.chat("openai/m"))[0] == 503
    assert (await api.chat("openai/m", X_Provider_Key="sk-of-a-caller-012345"))[0] == 200
    assert [seen.headers["authorization"] for seen in upstream.seen] == [
        f"Bearer {KEY}", "Bearer sk-of-a-caller-012345",
    ]  # fmt: skip
