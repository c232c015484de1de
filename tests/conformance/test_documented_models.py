"""The lists of models and of usage, as the published systems document them (contract 2.5)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from raven_proxy.harness import ADMINISTRATOR, RunningGateway

from .conftest import VendorStarter
from .documented import CHAT, Case, cases, check, fits

_WITHOUT_KEYS = {"base": ("meter", "openai", "demo")}
_MODEL: dict[str, Any] = {"id": str, "object": "model", "created": int, "owned_by": str}
_LIST = {"object": "list", "data": list, "has_more": False, "first_id": str, "last_id": str}
_BAD = {"error": {"type": "invalid_request_error", "code": "bad_request", "param": ...}}


def _list(mark: str, what: str, query: str, **fields: Any) -> Case:
    return Case(mark=mark, what=what, method="GET", path=f"/v1/models{query}", **fields)


CASES = [
    _list("RR.RX", "the list", "", reply=_LIST, calls=0),
    _list("RX", "one model", "/fast", reply=_MODEL | {"id": "fast"}, calls=0),
    _list("RR", "one model with its limits", "/demo-chat", reply={"context_window": int, "max_tokens": int}),
    _list("RX", "an unknown model", "/none", status=404, reply={"error": {"type": "not_found_error"}}),
    _list("AV", "the first of it", "?limit=1", reply=_LIST | {"data": [dict], "has_more": True}),
    _list("AV", "a limit of none", "?limit=0", status=400, reply={"error": {"param": "limit"}}),
    _list("AV", "a limit in words", "?limit=all", status=400, reply=_BAD),
    _list("AV", "an unknown cursor", "?after=none", status=400, reply={"error": {"param": "after"}}),
    Case(
        mark="AV",
        what="only to be read",
        path="/v1/models",
        send={},
        status=405,
        reply_headers={"Allow": "GET"},
    ),
]


@cases(*CASES)
async def test_a_documented_list(case: Case, documented: VendorStarter, upstream: Any) -> None:
    """The list has the documented shape and pages."""
    await check(case, await documented(), upstream)


async def _ids(gateway: RunningGateway, **query: str) -> list[str]:
    async with gateway.client.get("/v1/models", params=query) as reply:
        page = await reply.json()
    ids = [model["id"] for model in page["data"]]
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids


@pytest.mark.parametrize("limit", ["1", "2", "1000"])
async def test_AV_cursors(limit: str, documented: VendorStarter) -> None:
    """AV: pages by `after` and by `before` give every model once, in the order of the whole list."""
    gateway = await documented()
    whole = await _ids(gateway)
    assert {"fast", "spread", "o3", "demo-chat"} <= set(whole)
    forwards, backwards = await _ids(gateway, limit=limit), [whole[-1]]
    while page := await _ids(gateway, limit=limit, after=forwards[-1]):
        forwards += page
    while page := await _ids(gateway, limit=limit, before=backwards[0]):
        backwards = page + backwards
    assert forwards == backwards == whole


async def test_RR_RX_what_this_key_may_call(documented: VendorStarter) -> None:
    """RR RX: the list is the calling key's own; an entry outside it is not there."""
    principal = replace(ADMINISTRATOR, allowed_models=("openai-main/*",))
    gateway = await documented(**_WITHOUT_KEYS, principal=principal)
    assert set(await _ids(gateway)) == {"fast", "o3"}
    async with gateway.client.get("/v1/models/demo-chat") as reply:
        assert reply.status == 404


async def test_RX_usage(documented: VendorStarter) -> None:
    """RX: usage adds up this key's requests and tokens, by model and by day."""
    gateway = await documented()
    tokens: dict[str, int] = {}
    for model in ("gpt-4o", "gpt-4o", "fast", "fx-503"):
        async with gateway.client.post("/v1/chat/completions", json=CHAT | {"model": model}) as reply:
            answer = await reply.json()
        if reply.status == 200:
            tokens[model] = tokens.get(model, 0) + answer["usage"]["total_tokens"]
    today = datetime.now(UTC).date().isoformat()
    async with gateway.client.get("/v1/usage", params={"start_date": today, "end_date": today}) as reply:
        usage = await reply.json()
    total = sum(tokens.values())
    breakdown = {
        m: {"tokens": t, "requests": 2 if m == "gpt-4o" else 1, "cost": ...} for m, t in tokens.items()
    }
    expected = {"object": "usage", "total_tokens": total, "total_requests": 3, "total_cost": ...}
    expected |= {"period_start": today, "period_end": today, "breakdown": breakdown}
    day = {"date": today, "tokens": total, "requests": 3, "cost": ...}
    fits(expected | {"daily_breakdown": [day]}, usage)
    assert set(usage["breakdown"]) == {"gpt-4o", "fast"}


@pytest.mark.parametrize("query", ["start_date=yesterday", "end_date=2025-02-30", "start_date=2099-01-01"])
async def test_RX_usage_of_an_impossible_period(query: str, documented: VendorStarter) -> None:
    """RX: a period that makes no sense is a 400 that names the field."""
    gateway = await documented()
    async with gateway.client.get(f"/v1/usage?{query}") as reply:
        assert reply.status == 400
        fits({"error": {"param": query.partition("=")[0]}}, await reply.json())
