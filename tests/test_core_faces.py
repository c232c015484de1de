"""The gateway's own routes: health, models, reload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Face, ModelInfo, Reply, hookimpl, read_nothing
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.tasks import Tasks

ALIAS = [{"name": "fast", "target": "demo/chat"}, {"name": "team/fast", "target": "demo/chat"}]


async def get(gateway: RunningGateway, path: str, **options: Any) -> tuple[int, Any]:
    async with gateway.client.get(path, **options) as reply:
        assert reply.headers["Content-Type"] == "application/json"
        return reply.status, msgspec.json.decode(await reply.read())


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_needs_no_key(raven: GatewayStarter, path: str) -> None:
    gateway = await raven()
    async with gateway.client.get(path, headers={"Authorization": "Bearer nobody"}) as reply:
        assert (reply.status, await reply.read()) == (200, b'{"status":"ok"}')
        assert reply.headers["X-Request-ID"].startswith("req_")
        assert "X-Raven-Provider" not in reply.headers


async def test_while_draining_it_lives_and_is_not_ready(raven: GatewayStarter) -> None:
    gateway = await raven()
    gateway.gateway.is_draining = True
    assert (await get(gateway, "/health/live"))[0] == 200
    assert await get(gateway, "/health/ready") == (503, {"status": "draining"})


async def test_models_are_those_that_this_key_may_call(raven: GatewayStarter) -> None:
    gateway = await raven(config={"models": ALIAS})
    status, listed = await get(gateway, "/v1/models")
    assert status == 200
    ids = [model["id"] for model in listed["data"]]
    assert ids[:2] == ["fast", "team/fast"]
    assert (listed["object"], listed["has_more"], listed["first_id"], listed["last_id"]) == (
        "list",
        False,
        ids[0],
        ids[-1],
    )
    assert set(listed["data"][0]) == {"id", "object", "created", "owned_by", "context_window", "max_tokens"}
    assert await get(gateway, "/api/v1/models") == (status, listed)
    narrow = msgspec.structs.replace(ADMINISTRATOR, allowed_models=("fast",))
    other = await raven(config={"models": ALIAS}, principal=narrow)
    assert [model["id"] for model in (await get(other, "/v1/models"))[1]["data"]] == ["fast"]
    assert (await get(other, "/v1/models/team%2Ffast"))[0] == 404


@pytest.mark.parametrize(
    "path", ["/v1/models/team/fast", "/v1/models/team%2Ffast", "/api/v1/models/team/fast"]
)
async def test_one_model_is_found_with_its_slash_written_either_way(raven: GatewayStarter, path: str) -> None:
    gateway = await raven(config={"models": ALIAS})
    status, model = await get(gateway, path)
    assert (status, model["id"], model["object"]) == (200, "team/fast", "model")
    status, answer = await get(gateway, "/v1/models/none")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")


async def test_without_any_model_the_list_is_empty(raven: GatewayStarter) -> None:
    gateway = await raven(base=("openai",))
    assert (await get(gateway, "/v1/models"))[1] == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    assert ModelInfo(id="x").context_window is None


async def test_who_opens_the_address_is_told_where_to_go(raven: GatewayStarter) -> None:
    """A 404 in the envelope, without a key; a plugin's own page there comes first."""
    for base, page in ((("openai", "docs"), "/docs"), (("openai",), "/openapi.json")):
        gateway = await raven(base=base)
        status, answer = await get(gateway, "/", headers={"Authorization": ""})
        assert (status, answer["error"]["code"]) == (404, "not_found")
        words = answer["error"]["message"].replace(";", "").split()
        assert page in words
        assert "/v1." in words

    class Console:
        @hookimpl
        def register_routes(self, register: Callable[[Face], None]) -> None:
            async def serve(exchange: Exchange) -> Reply:
                return Reply(200, {"Content-Type": "application/json"}, b"{}")

            register(Face(name="console", path="/", methods=("GET",), read_call=read_nothing,
                          json_body=False, public=True, serve=serve))  # fmt: skip

    assert await get(await raven([Console]), "/") == (200, {})


async def test_scopes_are_asked_for(raven: GatewayStarter) -> None:
    gateway = await raven(principal=msgspec.structs.replace(ADMINISTRATOR, scopes=frozenset({"chat:write"})))
    status, answer = await get(gateway, "/v1/models")
    assert (status, answer["error"]["code"]) == (403, "missing_scope")
    async with gateway.client.post("/reload") as reply:
        assert reply.status == 403


async def test_a_reload_can_be_asked_for_and_says_what_is_wrong(raven: GatewayStarter) -> None:
    gateway = await raven()
    path = gateway.folder / "raven.toml"
    text = path.read_text()
    path.write_text(text + "\n[[models]]\nname = 'fast'\ntarget = 'demo/chat'\n")
    async with gateway.client.post("/reload") as reply:
        answer = msgspec.json.decode(await reply.read())
        assert (reply.status, answer["success"]) == (200, True)
        assert "demo" in answer["plugins"]
    [noted] = (await get(gateway, "/audit-logs"))[1]
    assert (noted["action"], noted["actor"]) == ("gateway.reload", ADMINISTRATOR.key_id)
    assert (await get(gateway, "/v1/models/fast"))[0] == 200
    path.write_text(text + "\nno_such_key = 1\n")
    async with gateway.client.post("/reload") as reply:
        error = msgspec.json.decode(await reply.read())["error"]
        assert (reply.status, error["type"]) == (400, "validation_error")
        assert "no_such_key" in error["message"]
    assert (await get(gateway, "/v1/models/fast"))[0] == 200


class SlowToStart:
    """A plugin whose second start waits to be let go on."""

    def __init__(self) -> None:
        self.starts = 0
        self.may_go_on = asyncio.Event()

    @hookimpl
    async def startup(self) -> None:
        self.starts += 1
        if self.starts > 1:
            await self.may_go_on.wait()


async def test_a_reload_is_done_to_its_end_though_the_caller_leaves(raven: GatewayStarter) -> None:
    """Half a reload would leave the old plugins with the new configuration."""
    slow = SlowToStart()
    gateway = await raven([slow])
    before = gateway.gateway.pipeline
    asked = Tasks().spawn(gateway.client.post("/reload"), "caller")
    async with asyncio.timeout(10):
        while slow.starts < 2:
            await asyncio.sleep(0.01)
        asked.cancel()
        while gateway.gateway.in_flight:  # until the gateway knows that the caller has left
            await asyncio.sleep(0.01)
        slow.may_go_on.set()
        while gateway.gateway.pipeline is before:
            await asyncio.sleep(0.01)
        entries: list[Any] = []
        while not entries:
            entries = (await get(gateway, "/audit-logs?action=gateway.reload"))[1]
    assert gateway.gateway.config is gateway.gateway.pipeline.config
    assert gateway.gateway.holdings is gateway.gateway.pipeline.catalogue.holdings
