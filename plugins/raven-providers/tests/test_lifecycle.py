"""What becomes of upstreams and their connections when accounts, secrets and configurations change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from raven_proxy import Exchange, ModelInfo, Outgoing, hookimpl
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import CHAT, KEY, Api

NEW_KEY = "sk-proj-rotated-fedcba9876543210"


def keys_seen(upstream: MockUpstream) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in upstream.seen]


async def test_T55_a_change_holds_from_the_next_request_on(api: Api, upstream: MockUpstream) -> None:
    """Rotated, switched off, switched on, renamed, deleted."""
    made = await api.make(upstream, models=["m"])
    path = f"/providers/{made['id']}"
    assert (await api.chat("production-openai/m"))[0] == 200
    await api("PATCH", path, {"apiKey": NEW_KEY})
    assert (await api.chat("production-openai/m"))[0] == 200
    assert keys_seen(upstream) == [KEY, NEW_KEY]
    await api("PATCH", path, {"isEnabled": False})
    assert (await api.chat("production-openai/m"))[0] == 503
    await api("PATCH", path, {"isEnabled": True, "name": "Renamed"})
    assert (await api.chat("production-openai/m"))[0] == 400
    assert (await api.chat("renamed/m"))[0] == 200
    await api("DELETE", path)
    assert (await api.chat("renamed/m"))[0] == 400
    assert len(upstream.seen) == 3


async def test_connections_are_kept_unless_the_account_itself_changed(
    api: Api, upstream: MockUpstream
) -> None:
    """A new name, weight or priority keeps them; so does a change of another account. A new key does not."""
    made = await api.make(upstream)
    for fields in ({"name": "Renamed"}, {"weight": 5}, {"priority": 7}):
        assert (await api.chat("openai/m"))[0] == 200
        await api("PATCH", f"/providers/{made['id']}", fields)
    await api.make(name="Other", models=["none"])
    assert (await api.chat("renamed/m"))[0] == 200
    assert upstream.connections_opened == 1
    await api("PATCH", f"/providers/{made['id']}", {"apiKey": NEW_KEY})
    await upstream.wait_until(lambda: upstream.connections == 0)
    assert (await api.chat("renamed/m"))[0] == 200
    assert upstream.connections_opened == 2


async def test_a_reply_that_began_goes_on_to_its_end(api: Api, upstream: MockUpstream) -> None:
    """Whether its account is rotated or deleted meanwhile; then its connection closes."""
    made = await api.make(upstream)
    headers = {"Authorization": "Bearer ann"}
    body = CHAT | {"model": "openai/fx-paced-100", "stream": True}
    async with api.running.client.post("/v1/chat/completions", json=body, headers=headers) as reply:
        await reply.content.readany()
        await api("PATCH", f"/providers/{made['id']}", {"apiKey": NEW_KEY})
        await api("DELETE", f"/providers/{made['id']}")
        rest = await reply.content.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    await upstream.wait_until(lambda: upstream.connections == 0)


class Waiting:
    """Holds a request back, after its places were chosen."""

    def __init__(self) -> None:
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if exchange.model is not None:
            self.arrived.set()
            await self.go_on.wait()


@pytest.mark.parametrize(("fields", "status"), [({"isEnabled": False}, 503), ({"apiKey": NEW_KEY}, 200)])
async def test_a_request_that_had_chosen_is_stopped_by_switching_off_and_not_by_a_rotation(
    start: Any, upstream: MockUpstream, fields: dict[str, Any], status: int
) -> None:
    waiting = Waiting()
    api = await start(waiting)
    made = await api.make(upstream)

    async def change() -> None:
        await waiting.arrived.wait()
        await api("PATCH", f"/providers/{made['id']}", fields)
        waiting.go_on.set()

    (got, _), _ = await asyncio.gather(api.chat("openai/m"), change())
    assert got == status
    assert len(upstream.seen) == (status == 200)


# -- secrets -------------------------------------------------------------------------------


async def restart(api: Api, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Api:
    """Stop a gateway and start another on its folder, as a new process would."""
    from raven_proxy.harness import RunningGateway

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    running = RunningGateway(api.running.folder, None)
    assert await api.running.stop() == []
    await running.start()
    api.running.service, api.running.gateway, api.running.client = (
        running.service, running.gateway, running.client,
    )  # fmt: skip
    return Api(api.running)


async def test_a_key_that_cannot_be_opened_is_said_once_and_is_a_503(
    api: Api, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway starts, other accounts serve, and storing the key again mends it."""
    made = await api.make(upstream)
    with capture_logs() as logs:
        api = await restart(api, monkeypatch, RAVEN_SECRET="another-secret-of-32-characters-x")
        assert (await api("GET", "/providers"))[1][0]["status"] == "unreadable_key"
        status, answer = await api.chat("openai/m")
        assert (status, answer["error"]["code"]) == (503, "no_active_api_keys")
        _, tried = await api("POST", f"/providers/{made['id']}/test")
        assert (tried["success"], "cannot be opened" in tried["message"]) == (False, True)
        await api.make(upstream, name="Other", priority=1)
        assert (await api.chat("openai/m"))[0] == 200
    assert len([one for one in logs if "stored provider cannot be used" in one["event"]]) == 1
    assert (await api.chat("production-openai/m", X_Provider_Key="sk-of-a-caller-0123456"))[0] == 200
    changed = await api("PATCH", f"/providers/{made['id']}", {"apiKey": NEW_KEY})
    assert changed[1]["status"] == "active"
    assert (await api.chat("production-openai/m"))[0] == 200
    assert keys_seen(upstream) == [KEY, "sk-of-a-caller-0123456", NEW_KEY]


async def test_a_former_secret_is_needed_for_one_start_only(
    api: Api, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sealed is sealed anew."""
    await api.make(upstream)
    former = (api.running.folder / "data" / "secret").read_text().strip()
    new = "another-secret-of-32-characters-x"
    api = await restart(api, monkeypatch, RAVEN_SECRET=new, RAVEN_PREVIOUS_SECRET=former)
    assert (await api("GET", "/providers"))[1][0]["status"] == "active"
    assert (await api.chat("openai/m"))[0] == 200
    api = await restart(api, monkeypatch, RAVEN_SECRET=new, RAVEN_PREVIOUS_SECRET="")
    assert (await api("GET", "/providers"))[1][0]["status"] == "active"
    assert (await api.chat("openai/m"))[0] == 200


# -- configurations ------------------------------------------------------------------------


async def test_a_reload_keeps_what_is_stored_and_serves_it(api: Api, upstream: MockUpstream) -> None:
    """Also a failed one; and changes after it still arrive."""
    made = await api.make(upstream)
    await api.running.reload()
    assert (await api.chat("openai/m"))[0] == 200
    with pytest.raises(Exception, match="absent"):
        await api.running.reload({"plugins": ["absent"]})
    assert (await api.chat("openai/m"))[0] == 200
    await api("PATCH", f"/providers/{made['id']}", {"apiKey": NEW_KEY})
    assert (await api.chat("openai/m"))[0] == 200
    assert keys_seen(upstream) == [KEY, KEY, NEW_KEY]


async def test_an_account_that_the_config_allows_no_more_is_unusable(
    api: Api, upstream: MockUpstream
) -> None:
    """It was private, and `allow_private_upstreams` is gone; or its provider's plugin is off."""
    await api.make(upstream)
    await api.running.reload({"allow_private_upstreams": False})
    assert (await api("GET", "/providers"))[1][0]["status"] == "unusable"
    assert (await api.chat("openai/m"))[0] == 400
    _, tried = await api("POST", f"/providers/{(await api('GET', '/providers'))[1][0]['id']}/test")
    assert tried["success"] is False
    assert not upstream.seen
    await api.running.reload({"allow_private_upstreams": True})
    assert (await api.chat("openai/m"))[0] == 200


class Lister:
    """A vendor that lists its models."""

    name = "lister"

    def base_url(self, preset: str) -> None:
        return None

    def needs_key(self, preset: str) -> bool:
        return True

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        return ()

    def build_listing(self, upstream: Any, page: str | None) -> Outgoing:
        headers = {"authorization": f"Bearer {upstream.credential.value}"}
        return Outgoing("GET", f"{upstream.base_path}/list", headers, b"")

    def read_listing(self, upstream: Any, body: bytes) -> tuple[list[ModelInfo], str | None]:
        return [ModelInfo(id=one) for one in msgspec.json.decode(body)], None


class ListerPlugin:
    @hookimpl
    def register_providers(self, register: Any) -> None:
        register(Lister())


async def test_a_new_account_s_models_are_asked_for_and_listed(start: Any, upstream: MockUpstream) -> None:
    """In the background; they are the organisation's alone, and a reload keeps them."""
    api = await start(ListerPlugin, models_refresh_s=3600)
    upstream.script(ScriptedReply.of_json(["alpha", "beta"]))
    await api.make(upstream, provider="lister")

    async def listed(who: str) -> list[str]:
        return [one["id"] for one in (await api("GET", "/v1/models", who=who))[1]["data"]]

    async with asyncio.timeout(10):
        while await listed("ann") != ["alpha", "beta"]:
            await asyncio.sleep(0.02)
    assert await listed("bob") == []
    catalogue = api.gateway.pipeline.catalogue
    holding = catalogue.holdings.of("org_a")
    assert holding is not None
    [place] = catalogue.resolve_in(holding, "beta", brings_key=False)
    assert place.upstream.label == "production-openai"
    await api.running.reload({"models_refresh_s": 0})
    assert await listed("ann") == ["alpha", "beta"]
    assert [seen.target for seen in upstream.seen] == ["/v1/list"]


async def test_an_organisation_has_so_many_and_no_more(api: Api) -> None:
    """What every worker keeps in memory has a bound."""
    row = "('prov_' || :n, 'org_a', 0, 'openai', :n, :n, NULL, NULL, NULL, '[]', 1, 0, 1, '{}')"
    for number in range(200):
        await api.gateway.storage.execute(f"INSERT INTO providers VALUES {row}", {"n": f"n{number}"})
    status, answer = await api("POST", "/providers", {"provider": "openai", "name": "one more"})
    assert (status, answer["error"]["type"]) == (409, "conflict_error")
    assert (await api("POST", "/providers", {"provider": "openai", "name": "one more"}, "bob"))[0] == 201
