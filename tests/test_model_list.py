"""`GET /v1/models` speaks to OpenAI's and to Anthropic's clients."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import ModelInfo
from raven_proxy.harness import GatewayStarter, RunningGateway

ALIASES = [{"name": f"alias-{i:02}", "target": "demo/chat"} for i in range(25)]
ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def get(gateway: RunningGateway, path: str) -> tuple[int, Any]:
    async with gateway.client.get(path, headers=ANTHROPIC) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def test_anthropic_clients_get_their_shape(raven: GatewayStarter) -> None:
    """One model as Anthropic's reference describes it; a time is RFC 3339."""
    gateway = await raven(config={"models": ALIASES})
    status, model = await get(gateway, "/v1/models/alias-03")
    assert status == 200
    assert set(model) == {"type", "id", "display_name", "created_at", "max_input_tokens", "max_tokens"}
    assert (model["type"], model["id"], model["display_name"]) == ("model", "alias-03", "alias-03")
    assert model["created_at"].endswith("Z")


async def test_anthropic_clients_page_by_twenty(raven: GatewayStarter) -> None:
    """`after_id` and `before_id` walk through all, without a gap and without a repetition."""
    gateway = await raven(config={"models": ALIASES})
    _, first = await get(gateway, "/v1/models")
    assert (len(first["data"]), first["has_more"]) == (20, True)
    assert "object" not in first
    _, rest = await get(gateway, f"/v1/models?after_id={first['last_id']}&limit=1000")
    ids = [model["id"] for model in first["data"] + rest["data"]]
    assert ids[:25] == [alias["name"] for alias in ALIASES]
    assert (len(set(ids)), rest["has_more"]) == (len(ids), False)
    _, before = await get(gateway, f"/v1/models?before_id={rest['first_id']}")
    assert before["data"] == first["data"]


async def test_a_model_that_is_not_there_is_a_404(raven: GatewayStarter) -> None:
    gateway = await raven()
    assert (await get(gateway, "/v1/models/nobody"))[0] == 404


@pytest.mark.parametrize("headers", [ANTHROPIC, {}], ids=["Anthropic's", "OpenAI's"])
async def test_a_vendors_nonsense_breaks_no_list(raven: GatewayStarter, headers: dict[str, str]) -> None:
    """Milliseconds in the place of seconds, and numbers that JSON's readers cannot hold."""
    gateway = await raven(upstreams=[{"name": "own", "provider": "demo"}])
    odd = ModelInfo(id="odd", created=1_700_000_000_000, context_window=10**30, max_tokens=-1)
    gateway.gateway.pipeline.upstreams["own"].learn([odd])
    async with gateway.client.get("/v1/models/odd", headers=headers) as reply:
        model = msgspec.json.decode(await reply.read())
        assert (reply.status, model["id"], model["max_tokens"]) == (200, "odd", None)
    assert model.get("created_at", "1970-01-01T00:00:00Z") == "1970-01-01T00:00:00Z"
