"""`/orgs`: who sees, makes, changes and deletes organisations."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PASSWORD, House, Page

FIELDS = {
    "name": "Team Blue", "ipAllowlist": ["127.0.0.0/8"], "allowUnpriced": None, "isActive": True,
    "dataResidency": {"allowedRegions": ["eu"], "enforceStrictly": True},
}  # fmt: skip


async def test_an_organisation_is_made_read_changed_and_deleted(house: House) -> None:
    """Its settings reach the table that other plugins read, at once."""
    status, made = await house.operator("POST", "/orgs", FIELDS)
    assert status == 201
    assert made["id"].startswith("org_")
    assert {name: made[name] for name in FIELDS} == FIELDS
    path = f"/orgs/{made['id']}"
    known = house.gateway.organizations.get(made["id"])
    assert (known.ip_allowlist, known.allowed_regions, known.enforce_strictly, known.allow_unpriced) == (
        ("127.0.0.0/8",), ("eu",), True, None,
    )  # fmt: skip
    for method in ("PATCH", "PUT"):
        assert await house.operator(method, path, made) == (200, made)
    status, changed = await house.operator("PATCH", path, {"allowUnpriced": True, "ipAllowlist": None})
    assert (status, changed["allowUnpriced"], changed["ipAllowlist"]) == (200, True, None)
    known = house.gateway.organizations.get(made["id"])
    assert (known.ip_allowlist, known.allow_unpriced) == (None, True)
    assert await house.operator("DELETE", path) == (200, {"success": True})
    assert (await house.operator("GET", path))[0] == 404
    assert house.gateway.organizations.get(made["id"]) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\u0007"}, "name"),
        ({"ipAllowlist": []}, "ipAllowlist"),
        ({"ipAllowlist": ["10.0.0.1/8"]}, "ipAllowlist"),
        ({"ipAllowlist": ["anywhere"]}, "ipAllowlist"),
        ({"dataResidency": {"allowedRegions": []}}, "dataResidency.allowedRegions"),
        ({"dataResidency": {"allowedRegions": [""]}}, "dataResidency.allowedRegions[0]"),
        ({"dataResidency": {"regions": ["eu"]}}, "dataResidency.regions"),
        ({"id": "org_mine", "isActive": "yes"}, "isActive"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named(house: House, fields: Any, param: str) -> None:
    """400 `validation_error` with `param`, and nothing was made."""
    status, body = await house.operator("POST", "/orgs", {**FIELDS, **fields})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", param)
    assert [one["id"] for one in (await house.operator("GET", "/orgs"))[1]] == ["org_default"]


async def test_everybody_sees_those_they_belong_to(house: House) -> None:
    """Who runs the gateway sees all, a person theirs, a key its own; another's is a 404."""
    b, c = await house.found("B"), await house.found("C")
    await house.add("ann@example.com", "viewer")
    await house.add("ann@example.com", "viewer", b, password=None)
    _, key = await house.operator(
        "POST", "/keys", {"name": "k", "scopes": ["admin:read", "admin:write"]}, X_Org_Id=c
    )
    by_key = Page(house, Authorization=f"Bearer {key['key']}")
    for page, seen in (
        (house.operator, {"org_default", b, c}),
        (await house.sign_in("ann@example.com"), {"org_default", b}),
        (by_key, {c}),
    ):
        assert {one["id"] for one in (await page("GET", "/orgs"))[1]} == seen
        for one in ("org_default", b, c, "org_none"):
            assert ((await page("GET", f"/orgs/{one}"))[0] == 200) == (one in seen), one
    assert (await by_key("PATCH", f"/orgs/{b}", {"name": "x"}))[0] == 404
    assert (await by_key("DELETE", "/orgs/org_default"))[0] == 404


async def test_T57_the_role_is_the_one_in_that_organisation(house: House) -> None:
    """An owner of one who is a viewer of another changes the one and not the other."""
    b = await house.found("B")
    await house.add("ann@example.com", "owner", b)
    await house.add("ann@example.com", "viewer", password=None)
    ann = await house.sign_in("ann@example.com")
    for headers in ({}, {"X_Org_Id": b}, {"X_Org_Id": "org_default"}):
        for method, body in (("PATCH", {"name": "x"}), ("PUT", {"name": "x"}), ("DELETE", None)):
            assert (await ann(method, "/orgs/org_default", body, **headers))[0] == 403
        assert (await ann("PATCH", f"/orgs/{b}", {"name": "Ours"}, **headers))[0] == 200
    assert (await house.operator("GET", "/orgs/org_default"))[1]["name"] == "Default"
    assert (await ann("DELETE", f"/orgs/{b}"))[0] == 200


async def test_T57_an_organisation_does_not_free_itself(house: House) -> None:
    """Its owner neither switches it on or off nor lets models pass that nobody pays for."""
    b = await house.found("B")
    await house.add("ann@example.com", "owner", b)
    await house.add("adam@example.com", "admin", b)
    ann, adam = await house.sign_in("ann@example.com"), await house.sign_in("adam@example.com")
    for change in ({"isActive": False}, {"allowUnpriced": True}):
        status, body = await ann("PATCH", f"/orgs/{b}", change)
        assert (status, body["error"]["param"]) == (403, next(iter(change)))
    for change in ({"allowUnpriced": False}, {"ipAllowlist": ["127.0.0.0/8"]}, {"name": "Ours"}):
        assert (await adam("PATCH", f"/orgs/{b}", change))[0] == 200
    assert (await adam("DELETE", f"/orgs/{b}"))[0] == 403
    assert (await ann("POST", "/orgs", {"name": "C"}))[0] == 403


async def test_the_default_organisation_stays(house: House) -> None:
    """409 for deleting it or switching it off, also for who runs the gateway."""
    assert (await house.operator("DELETE", "/orgs/org_default"))[0] == 409
    assert (await house.operator("PATCH", "/orgs/org_default", {"isActive": False}))[0] == 409
    assert (await house.operator("PATCH", "/orgs/org_default", {"name": "Ours"}))[0] == 200


async def test_T55_who_is_of_an_organisation_that_is_off_may_nothing(house: House) -> None:
    """Keys and sessions are refused from the next request on; switched on, keys go on."""
    b = await house.found("B")
    await house.add("ann@example.com", "owner", b)
    ann = await house.sign_in("ann@example.com")
    _, key = await house.operator("POST", "/keys", {"name": "k"}, X_Org_Id=b)
    by_key = Page(house, Authorization=f"Bearer {key['key']}")
    assert (await by_key("GET", "/v1/models"))[0] == 200
    assert (await house.operator("PATCH", f"/orgs/{b}", {"isActive": False}))[0] == 200
    assert (await by_key("GET", "/v1/models"))[0] == 403
    assert (await ann("GET", "/auth/me"))[0] == 401
    login = {"email": "ann@example.com", "password": PASSWORD}
    assert (await house.stranger("POST", "/auth/login", login))[0] == 401
    assert (await house.operator("GET", "/keys", X_Org_Id=b))[0] == 403
    assert (await house.operator("GET", f"/orgs/{b}"))[1]["isActive"] is False
    assert (await house.operator("PATCH", f"/orgs/{b}", {"isActive": True}))[0] == 200
    assert (await by_key("GET", "/v1/models"))[0] == 200
    assert (await ann("GET", "/auth/me"))[0] == 401
    await house.sign_in("ann@example.com")


async def test_T55_a_deleted_organisation_takes_its_people_and_keys_along(house: House) -> None:
    """Keys are as none, sessions end, who belongs elsewhere too stays there."""
    b = await house.found("B")
    await house.add("ann@example.com", "owner", b)
    await house.add("bob@example.com", "viewer")
    await house.add("bob@example.com", "viewer", b, password=None)
    ann, bob = await house.sign_in("ann@example.com"), await house.sign_in("bob@example.com")
    _, key = await house.operator("POST", "/keys", {"name": "k"}, X_Org_Id=b)
    by_key = Page(house, Authorization=f"Bearer {key['key']}")
    assert (await ann("DELETE", f"/orgs/{b}"))[0] == 200
    status, body = await by_key("GET", "/v1/models")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    for page in (ann, bob):
        assert (await page("GET", "/auth/me"))[0] == 401
    login = {"email": "ann@example.com", "password": PASSWORD}
    assert (await house.stranger("POST", "/auth/login", login))[0] == 401
    bob = await house.sign_in("bob@example.com")
    assert [one["id"] for one in bob.body["organizations"]] == ["org_default"]
    assert [row["email"] for row in await house.gateway.storage.fetch_all("SELECT email FROM users")] == [
        "bob@example.com"
    ]


async def test_a_change_stands_in_the_log_of_the_organisation(house: House) -> None:
    """Also where who runs the gateway made it."""
    b = await house.found("B")
    await house.operator("PATCH", f"/orgs/{b}", {"name": "C"})
    _, log = await house.operator("GET", "/audit-logs", X_Org_Id=b)
    assert [one["action"] for one in log] == ["orgs.change", "orgs.create"]
    assert log[0]["changes"] == {"name": {"from": "B", "to": "C"}}
