"""Other plugins' policies hold for an organisation's own upstreams: pauses, regions, files, callers' keys."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.organizations import Organization

from .conftest import CHAT, Api

RULE = {"name": "three", "when": "provider_day", "threshold": 3, "measure": "requests", "stop": True}


async def pause(start: Any, upstream: MockUpstream) -> tuple[Api, str]:
    """Give a gateway whose account of org_a was just paused, and the account's id."""
    pytest.importorskip("raven_alerts")
    api = await start("alerts", plugin={"alerts": {"rules": [RULE]}})
    made = await api.make(upstream)
    for _ in range(3):
        assert (await api.chat("openai/m"))[0] == 200
    return api, made["id"]


async def test_a_daily_limit_pauses_an_account(start: Any, upstream: MockUpstream) -> None:
    """429 `provider_paused`, and it says so of itself; another organisation's goes on and hears nothing."""
    api, name = await pause(start, upstream)
    await api.make(upstream, "bob")
    status, answer = await api.chat("openai/m")
    assert (status, answer["error"]["code"]) == (429, "provider_paused")
    assert (await api("GET", f"/providers/{name}"))[1]["status"] == "paused"
    async with asyncio.timeout(10):
        while not (await api("GET", "/alerts"))[1]["paused"]:
            await asyncio.sleep(0.02)
    assert (await api.chat("openai/m", "bob"))[0] == 200
    assert (await api("GET", "/alerts", who="bob"))[1]["paused"] == []
    assert (await api("DELETE", f"/alerts/paused/{name}", who="bob"))[0] in {403, 404}
    assert (await api.chat("openai/m"))[0] == 429


@pytest.mark.parametrize("way", ["isEnabled", "route"])
async def test_its_administrator_reactivates_it(start: Any, upstream: MockUpstream, way: str) -> None:
    """By the account or by the alerts' route; sending back what was read is no such wish."""
    api, name = await pause(start, upstream)
    async with asyncio.timeout(10):
        while not (await api("GET", "/alerts"))[1]["paused"]:
            await asyncio.sleep(0.02)
    _, shown = await api("GET", f"/providers/{name}")
    assert (await api("PUT", f"/providers/{name}", shown))[1]["status"] == "paused"
    if way == "route":
        assert (await api("DELETE", f"/alerts/paused/{name}"))[0] == 200
    else:
        assert (await api("PATCH", f"/providers/{name}", {"isEnabled": True}))[1]["status"] == "active"
    assert (await api.chat("openai/m"))[0] == 200
    assert (await api("GET", "/alerts"))[1]["paused"] == []


async def test_the_next_account_takes_over_from_a_paused_one(
    start: Any, upstream: MockUpstream, other: MockUpstream
) -> None:
    api, _ = await pause(start, upstream)
    await api.make(other, name="Second", priority=1)
    assert (await api.chat("openai/m"))[0] == 200
    assert (len(upstream.seen), len(other.seen)) == (3, 1)


async def test_T62_its_region_counts_for_data_residency(
    start: Any, upstream: MockUpstream, other: MockUpstream
) -> None:
    """The EU's account is down and the other is in the US: an error, and the US saw nothing."""
    pytest.importorskip("raven_access")
    api = await start("access")
    bound = Organization(id="org_a", allowed_regions=("eu",), enforce_strictly=True)
    api.gateway.organizations.replace({"org_a": bound})
    elsewhere = await api.make(other, name="US", region="us")
    status, answer = await api.chat("openai/m")
    assert (status, answer["error"]["code"]) == (403, "data_residency_violation")
    await api.make(upstream, name="EU", region="eu", priority=1)
    assert (await api.chat("openai/m"))[0] == 200
    upstream.script(ScriptedReply(status=500, body=b"no"))
    assert (await api.chat("openai/m"))[0] == 500
    assert not other.seen
    await api("PATCH", f"/providers/{elsewhere['id']}", {"region": "eu"})
    upstream.script(ScriptedReply(status=500, body=b"no"))
    assert (await api.chat("openai/m"))[0] == 200
    assert len(other.seen) == 1


async def test_a_caller_s_own_key_goes_to_the_account_s_place(
    api: Api, upstream: MockUpstream, other: MockUpstream
) -> None:
    """And not to another host of the same organisation's, fallbacks included."""
    await api.make(upstream)
    await api.make(other, name="Second", priority=1)
    upstream.script(ScriptedReply(status=500, body=b"no"))
    assert (await api.chat("openai/m", X_Provider_Key="sk-of-a-caller-0123456"))[0] == 500
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-of-a-caller-0123456"
    assert not other.seen


async def test_files_lie_at_an_account_and_are_its_organisation_s(api: Api, upstream: MockUpstream) -> None:
    """What was put there is found again, for that organisation only; also after a rename."""
    made = await api.make(upstream)
    upstream.script(ScriptedReply.of_json({"id": "file-abc", "object": "file"}))
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'
    headers = {"Authorization": "Bearer ann", "Content-Type": "multipart/form-data; boundary=x"}
    async with api.running.client.post("/v1/files", data=form, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
    await api("PATCH", f"/providers/{made['id']}", {"name": "Renamed"})
    upstream.script(ScriptedReply.of_json({"id": "file-abc", "object": "file"}))
    assert (await api("GET", "/v1/files/file-abc"))[0] == 200
    assert (await api("GET", "/v1/files/file-abc", who="bob"))[0] == 404
    await api("DELETE", f"/providers/{made['id']}")
    assert (await api("GET", "/v1/files/file-abc"))[0] == 503
    assert len(upstream.seen) == 2


async def test_the_operator_s_environment_is_not_theirs(
    start: Any, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bedrock's credentials of the environment serve the config's upstreams alone."""
    pytest.importorskip("raven_bedrock")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "operator-NEEDLE-token")
    api = await start(base=("bedrock",))
    assert (await api.make(upstream, provider="bedrock", apiKey=None))["status"] == "no_key"
    status, answer = await api.chat("bedrock/anthropic.claude-3-haiku-20240307-v1:0")
    assert (status, answer["error"]["code"]) == (503, "no_active_api_keys")
    assert not upstream.seen


async def test_what_is_sent_is_the_client_s_own_bytes(api: Api, upstream: MockUpstream) -> None:
    """Same dialect: only the model's name is put in the place of the one that was written."""
    await api.make(upstream)
    body = b'{ "model":"production-openai/m" , "x_unknown": 1.50,"messages":[%s] }'
    body %= b'{"role":"user","content":"\\u0068i"}'
    headers = {"Authorization": "Bearer ann", "Content-Type": "application/json"}
    async with api.running.client.post("/v1/chat/completions", data=body, headers=headers) as reply:
        assert reply.status == 200
        assert reply.headers["X-Raven-Provider"] == "production-openai"
    assert upstream.seen[0].body == body.replace(b"production-openai/m", b"m")
    assert msgspec.json.decode(body)["messages"] == [CHAT["messages"][0] | {"content": "hi"}]
