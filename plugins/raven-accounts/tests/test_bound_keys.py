"""Keys of a member: they cost what the member costs, may no more than they may, and end with them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_auth_keys import KeyStore

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


async def test_a_key_for_nobody_is_refused(house: House) -> None:
    """T57: another organisation's member is as none; a key that is sent back unchanged stays as it is."""
    b = await house.found("B")
    theirs = await house.add("bob@example.com", "viewer", b, rateMultiplier="0")
    ann = await house.add("ann@example.com", "viewer")
    _, key = await house.operator("POST", "/keys", {"name": "k", "memberId": ann["id"]})
    for member in (theirs["id"], "mem_none", ""):
        for method, path in (("POST", "/keys"), ("PATCH", f"/keys/{key['id']}")):
            status, body = await house.operator(method, path, {"name": "k", "memberId": member})
            error = body["error"]
            assert (status, error["type"], error["param"]) == (400, "validation_error", "memberId")
    assert len((await house.operator("GET", "/keys?memberId=" + theirs["id"]))[1]) == 0
    await house.operator("DELETE", f"{MEMBERS}/{ann['id']}")
    status, shown = await house.operator("GET", f"/keys/{key['id']}")
    assert status != 200 or (await house.operator("PATCH", f"/keys/{key['id']}", shown))[0] == 200


SET = {
    "scopes": ["chat:write", "models:read"], "allowedModels": ["gpt-*", "main/*"], "rateLimitRpm": 60,
    "rateLimitTpd": 1000, "maxConcurrency": 2, "expiresAt": "2098-01-01T00:00:00Z",
    "ipAllowlist": ["10.0.0.0/8", "127.0.0.1/32"],
}  # fmt: skip
WIDER: list[dict[str, Any]] = [
    {"scopes": ["chat:write", "embeddings:write"]}, {"scopes": None}, {"allowedModels": None},
    {"allowedModels": ["gpt-4o", "claude"]}, {"allowedModels": ["*"]}, {"allowedModels": ["g*"]},
    {"allowedModels": ["other/*"]}, {"rateLimitRpm": 61}, {"rateLimitRpm": None}, {"rateLimitTpd": 2000},
    {"maxConcurrency": None}, {"expiresAt": None}, {"expiresAt": "2099-01-01T00:00:00Z"},
    {"ipAllowlist": None}, {"ipAllowlist": ["0.0.0.0/0"]}, {"ipAllowlist": ["10.1.0.0/16", "::/0"]},
    {"plan": "pro"},
]  # fmt: skip
NARROWER: list[dict[str, Any]] = [
    {"scopes": ["chat:write"]}, {"allowedModels": ["gpt-4o"]}, {"allowedModels": ["gpt-4*", "main/x"]},
    {"rateLimitRpm": 5}, {"rateLimitRpd": 5}, {"maxConcurrency": 1}, {"expiresAt": "2097-01-01T00:00:00Z"},
    {"ipAllowlist": ["10.1.0.0/16"]}, {"onDisconnect": "drain"}, {"name": "other"}, {"isActive": False},
]  # fmt: skip


@pytest.fixture
async def given(house: House) -> tuple[House, Page, str]:
    """A developer, signed in, and the path of a key that an administrator has made for them."""
    ann = await house.add("ann@example.com", "developer")
    status, key = await house.operator("POST", "/keys", {"name": "k", "memberId": ann["id"], **SET})
    assert status == 201, key
    return house, await house.sign_in("ann@example.com"), f"/keys/{key['id']}"


@pytest.mark.parametrize("change", WIDER, ids=str)
async def test_T57_a_developer_widens_nothing_that_was_set(given: Any, change: dict[str, Any]) -> None:
    """403 that names the field, and the key is as it was; with PUT, what is left out is no way round."""
    house, page, path = given
    _, before = await house.operator("GET", path)
    status, body = await page("PATCH", path, change)
    assert (status, body["error"]["param"]) == (403, *change)[:2]
    status, _ = await page("PUT", path, {"name": "k"})
    assert status == 403
    assert (await house.operator("GET", path))[1] == before
    assert (await house.operator("PATCH", path, change))[0] == 200


@pytest.mark.parametrize("change", NARROWER, ids=str)
async def test_a_developer_narrows_and_goes_back(given: Any, change: dict[str, Any]) -> None:
    """Up to what was set, as often as they like; and what was read can be sent back."""
    _, page, path = given
    _, before = await page("GET", path)
    assert (await page("PATCH", path, before))[0] == 200
    status, body = await page("PATCH", path, change)
    assert status == 200, body
    assert (await page("PATCH", path, before))[1] == before


async def test_what_an_administrator_switched_off_stays_off(given: Any) -> None:
    """By the API or the command line; a limit that they lift is lifted for its developer too."""
    house, page, path = given
    assert (await house.operator("PATCH", path, {"isActive": False, "rateLimitRpm": None}))[0] == 200
    status, body = await page("PATCH", path, {"isActive": True})
    assert (status, body["error"]["param"]) == (403, "isActive")
    assert (await page("PATCH", path, {"rateLimitRpm": 10_000}))[0] == 200
    assert (await house.operator("PATCH", path, {"isActive": True}))[0] == 200
    await KeyStore(house.gateway.storage).revoke(path.rpartition("/")[2])
    assert (await page("PATCH", path, {"isActive": True}))[0] == 403


async def test_a_developer_makes_keys_within_the_plan(house: House) -> None:
    """Without asking anybody, but for a plan; and they change freely what nobody else has set."""
    await house.add("ann@example.com", "developer")
    page = await house.sign_in("ann@example.com")
    status, body = await page("POST", "/keys", {"name": "k", "plan": "pro"})
    assert (status, body["error"]["param"]) == (403, "plan")
    status, key = await page("POST", "/keys", {"name": "k", "rateLimitRpm": 5, "allowedModels": ["a"]})
    assert status == 201
    path = f"/keys/{key['id']}"
    assert (await page("PATCH", path, {"rateLimitRpm": 50, "allowedModels": None}))[0] == 200
    assert (await house.operator("PATCH", path, {"plan": "pro", "rateLimitRpm": 20}))[0] == 200
    for change in ({"plan": None}, {"plan": "free"}, {"rateLimitRpm": 21}):
        assert (await page("PATCH", path, change))[0] == 403
    assert (await page("PATCH", path, {"plan": "pro", "rateLimitRpm": 19}))[0] == 200


async def test_keys_from_before_are_bound_by_what_they_are(given: Any) -> None:
    """Nobody knows who set what then; so it counts as set."""
    house, page, path = given
    await house.gateway.storage.execute("UPDATE keys SET bounds = NULL")
    assert (await page("PATCH", path, {"rateLimitRpm": 61}))[0] == 403
    assert (await page("PATCH", path, {"rateLimitRpm": 59}))[0] == 200
    assert (await page("PATCH", path, {"rateLimitRpm": 60}))[0] == 200


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


async def test_T56_a_key_in_somebodys_name_shows_nothing_of_their_other_organisations(house: House) -> None:
    """An administrator can make such a key; their person's session still shows all of theirs."""
    b = await house.found("B")
    ann = await house.add("ann@example.com", "owner")
    await house.add("ann@example.com", "owner", b, password=None)
    await house.add("adam@example.com", "admin")
    adam = await house.sign_in("adam@example.com")
    status, made = await adam("POST", "/keys", {"name": "k", "memberId": ann["id"], "scopes": ADMIN})
    assert status == 201
    key = Page(house, Authorization=f"Bearer {made['key']}")
    assert [one["id"] for one in (await key("GET", "/orgs"))[1]] == ["org_default"]
    for method, body in (("GET", None), ("PATCH", {"name": "Mine"}), ("DELETE", None)):
        assert (await key(method, f"/orgs/{b}", body))[0] == 404
    page = await house.sign_in("ann@example.com")
    assert {one["id"] for one in (await page("GET", "/orgs"))[1]} == {"org_default", b}


async def test_the_audit_log_tells_a_key_from_the_person_whose_it_is(house: House) -> None:
    """Whoever has the key did it; its name is free, so that the log says its id. A session has none."""
    ann = await house.add("ann@example.com", "admin")
    page = await house.sign_in("ann@example.com")
    body = {"name": "ann@example.com", "memberId": ann["id"], "scopes": ADMIN}
    _, made = await page("POST", "/keys", body)
    key = Page(house, Authorization=f"Bearer {made['key']}")
    assert (await key("PATCH", "/orgs/org_default", {"name": "Mine"}))[0] == 200
    _, log = await house.operator("GET", f"/audit-logs?keyId={made['id']}")
    assert [(one["action"], one["actor"]) for one in log] == [("orgs.change", ann["id"])]
    _, log = await house.operator("GET", f"/audit-logs?targetId={made['id']}")
    assert [(one["action"], one["actor"], one["keyId"]) for one in log] == [("keys.create", ann["id"], None)]
