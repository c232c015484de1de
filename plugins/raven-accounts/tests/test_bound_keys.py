"""Keys of a member: they cost what the member costs, may no more than they may, and end with them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import House, Page

MEMBERS = "/orgs/org_default/members"
CHAT = {"model": "mock/m-1", "messages": [{"role": "user", "content": "hi"}]}
ADMIN = ["admin:read", "admin:write", "models:read"]


async def key_of(house: House, member: Any, **fields: Any) -> Page:
    status, key = await house.operator("POST", "/keys", {"name": "k", "memberId": member["id"], **fields})
    assert status == 201, key
    return Page(house, Authorization=f"Bearer {key['key']}")


@pytest.mark.parametrize("end", ["delete", "disable"])
async def test_T55_the_keys_of_who_is_gone_stop(house: House, end: str) -> None:
    """From the next request on, in the words of a key that never was; others go on."""
    ann, bob = await house.add("ann@example.com", "viewer"), await house.add("bob@example.com", "viewer")
    of_ann, of_bob = await key_of(house, ann), await key_of(house, bob)
    assert (await of_ann("GET", "/v1/models"))[0] == 200
    path = f"{MEMBERS}/{ann['id']}"
    change = ("DELETE", path, None) if end == "delete" else ("PATCH", path, {"isActive": False})
    assert (await house.operator(*change))[0] == 200
    status, body = await of_ann("GET", "/v1/models")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert (await of_bob("GET", "/v1/models"))[0] == 200
    if end == "disable":
        assert (await house.operator("PATCH", path, {"isActive": True}))[0] == 200
        assert (await of_ann("GET", "/v1/models"))[0] == 200


async def test_a_key_may_no_more_than_its_member(house: House) -> None:
    """Who is demoted does not go on managing with a key of before; one that is nobody's goes on."""
    ann = await house.add("ann@example.com", "admin")
    of_ann = await key_of(house, ann, scopes=ADMIN)
    new = {"email": "new@example.com", "password": "a raven on a wire"}
    assert (await of_ann("POST", MEMBERS, new))[0] == 201
    assert (await of_ann("GET", "/auth/me"))[1]["role"] == "admin"
    assert (await house.operator("PATCH", f"{MEMBERS}/{ann['id']}", {"role": "viewer"}))[0] == 200
    assert (await of_ann("POST", MEMBERS, {**new, "email": "other@example.com"}))[0] == 403
    assert (await of_ann("POST", "/keys", {"name": "k"}))[0] == 403
    assert (await of_ann("GET", "/keys"))[0] == 200
    assert (await house.operator("PATCH", f"{MEMBERS}/{ann['id']}", {"role": "owner"}))[0] == 200
    assert (await of_ann("GET", "/auth/me"))[1]["role"] == "admin"


async def test_a_key_of_another_organisations_member_is_none(house: House) -> None:
    """T57: naming somebody else's member gives nothing of theirs."""
    b = await house.found("B")
    theirs = await house.add("bob@example.com", "viewer", b, rateMultiplier="0")
    of_nobody = await key_of(house, theirs)
    assert (await of_nobody("GET", "/v1/models"))[0] == 401


async def test_what_a_member_costs_is_charged(
    raven: Any, client_of: Any, upstream: MockUpstream, tmp_path: Path
) -> None:
    """The meter multiplies by it, for a key and for a session; a change holds from the next request on."""
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode({"m-1": {"input": "1", "output": "1"}}))
    running = await raven(
        base=("auth-keys", "accounts", "meter", "openai"),
        upstreams=[upstream],
        config={"catalog": str(catalog)},
    )
    house = House(running, client_of(running.url))
    ann = await house.add("ann@example.com", "developer", rateMultiplier="1.5")
    pages = [await key_of(house, ann), await house.sign_in("ann@example.com")]
    usage = {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [message]}
    for multiplier, cost in (("1.5", "0.0015"), ("0.25", "0.00025")):
        path = f"{MEMBERS}/{ann['id']}"
        assert (await house.operator("PATCH", path, {"rateMultiplier": multiplier}))[0] == 200
        for page in pages:
            upstream.script(ScriptedReply.of_json({**document, "usage": usage}))
            assert (await page("POST", "/v1/chat/completions", CHAT))[0] == 200
            assert Decimal(page.replied.headers["X-Raven-Cost"]) == Decimal(cost)


async def test_a_budget_for_a_member_takes_a_member(open_house: Any) -> None:
    """One for nobody, or for another organisation's member, bounds nothing: a 400."""
    house = await open_house(base=("auth-keys", "accounts", "meter", "openai"))
    ann = await house.add("ann@example.com", "viewer")
    theirs = await house.add("bob@example.com", "viewer", await house.found("B"))
    budget = {"name": "hers", "scope": "member", "limit": "1"}
    for target, status in ((ann["id"], 201), (theirs["id"], 400), ("mem_none", 400)):
        got, body = await house.operator("POST", "/budgets", {**budget, "targetId": target})
        assert got == status
        assert status == 201 or body["error"]["param"] == "targetId"


async def test_who_works_here_has_keys_of_their_own(house: House) -> None:
    """A developer's keys are theirs, end with them, and are the only ones that they may touch."""
    ann = await house.add("ann@example.com", "developer")
    page = await house.sign_in("ann@example.com")
    status, own = await page("POST", "/keys", {"name": "mine"})
    assert (status, own["memberId"]) == (201, ann["id"])
    bob = await house.add("bob@example.com", "viewer")
    assert (await page("POST", "/keys", {"name": "his", "memberId": bob["id"]}))[0] == 403
    for fields in ({}, {"memberId": bob["id"]}):
        _, key = await house.operator("POST", "/keys", {"name": "k", **fields})
        path = f"/keys/{key['id']}"
        assert (await page("POST", f"{path}/rotate", {}))[0] == 403
        assert (await page("PATCH", path, {"memberId": ann["id"]}))[0] == 403
        assert (await page("DELETE", path))[0] == 403
    path = f"/keys/{own['id']}"
    for method in ("PATCH", "PUT"):
        _, changed = await page(method, path, {"name": "still mine", "memberId": None})
        assert changed["memberId"] == ann["id"]
    assert (await page("POST", f"{path}/rotate", {}))[0] == 200
    assert (await page("DELETE", path))[0] == 200


async def test_an_admins_keys_are_nobodys_unless_they_say_so(house: House) -> None:
    """What a service uses must not end with the person who set it up."""
    await house.add("ann@example.com", "admin")
    page = await house.sign_in("ann@example.com")
    assert (await page("POST", "/keys", {"name": "service"}))[1]["memberId"] is None
