"""`/orgs/{organization}/members`: who may do what to whom; nobody climbs (T57)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import PASSWORD, House, Page

OTHER = "another wire for ravens"
BASE = "/orgs/org_default/members"


async def test_a_member_is_made_read_changed_and_deleted(house: House) -> None:
    """201, 200, 200, success; the password is in no answer and in no table."""
    ann = await house.add("ann@example.com", "developer", name="Ann", rateMultiplier="1.50")
    assert ann["id"].startswith("mem_")
    assert {name: ann[name] for name in ("email", "name", "role", "rateMultiplier", "isActive")} == {
        "email": "ann@example.com", "name": "Ann", "role": "developer", "rateMultiplier": "1.5",
        "isActive": True,
    }  # fmt: skip
    path = f"{BASE}/{ann['id']}"
    assert await house.operator("GET", path) == (200, ann)
    assert await house.operator("GET", BASE) == (200, [ann])
    assert await house.operator("GET", f"{BASE}?role=owner") == (200, [])
    for method in ("PATCH", "PUT"):
        assert await house.operator(method, path, ann) == (200, ann)
    status, changed = await house.operator("PATCH", path, {"role": "viewer", "password": OTHER})
    assert (status, changed["role"], "password" in changed) == (200, "viewer", False)
    tables = ("users", "members", "audit_log")
    rows = [await house.gateway.storage.fetch_all(f"SELECT * FROM {table}") for table in tables]
    assert PASSWORD not in repr(rows)
    assert OTHER not in repr(rows)
    assert rows[0][0]["password"].startswith("$argon2id$v=19$m=")
    _, log = await house.operator("GET", "/audit-logs")
    assert log[0]["changes"] == {"role": {"from": "developer", "to": "viewer"}, "password": "changed"}
    assert await house.operator("DELETE", path) == (200, {"success": True})
    assert (await house.operator("GET", path))[0] == 404
    assert await house.gateway.storage.fetch_all("SELECT * FROM users") == []


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"email": "ann"}, 400, "email"),
        ({"email": "ann@ex ample.com"}, 400, "email"),
        ({"email": "a\u0000nn@example.com"}, 400, "email"),
        ({"role": "god"}, 400, "role"),
        ({"password": "short"}, 400, "password"),
        ({"password": "ann@example.com"}, 400, "password"),
        ({"password": "x" * 1025}, 400, "password"),
        ({"password": None}, 400, "password"),
        ({"name": "a\nb"}, 400, "name"),
        ({"rateMultiplier": "1.1234567"}, 400, "rateMultiplier"),
        ({"rateMultiplier": "-1"}, 400, "rateMultiplier"),
        ({"rateMultiplier": -1}, 400, "rateMultiplier"),
        ({"rateMultiplier": "NaN"}, 400, "rateMultiplier"),
        ({"rateMultiplier": 1e-7}, 400, "rateMultiplier"),
        ({"rateMultiplier": 1e300}, 400, "rateMultiplier"),
        ({"rateMultiplier": True}, 400, "rateMultiplier"),
        ({"isOperator": True}, 400, "isOperator"),
        ({"is_operator": True}, 400, "is_operator"),
        ({"userId": "user_1"}, 400, "userId"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named(house: House, fields: Any, status: int, param: str | None) -> None:
    """400 `validation_error` with `param`, and nobody was made."""
    body = {"email": "ann@example.com", "role": "viewer", "password": PASSWORD, **fields}
    got, answer = await house.operator("POST", BASE, body)
    assert (got, answer["error"]["type"], answer["error"]["param"]) == (status, "validation_error", param)
    assert (await house.operator("GET", BASE))[1] == []
    assert await house.gateway.storage.fetch_all("SELECT * FROM users") == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2", "2"),
        (2, "2"),
        (0.5, "0.5"),
        ("1.123456", "1.123456"),
        ("007.50", "7.5"),
        (0, "0"),
        (1e3, "1000"),
    ],
)
async def test_a_multiplier_is_text_or_a_number(house: House, sent: Any, shown: str) -> None:
    """It is shown as text, as every amount is."""
    assert (await house.add("ann@example.com", "viewer", rateMultiplier=sent))["rateMultiplier"] == shown


# -- roles ---------------------------------------------------------------------------------


async def people(house: House) -> dict[str, Page]:
    """One of each role, signed in; two owners, so that none is the last."""
    await house.set_up()
    pages = {}
    for role in ("viewer", "developer", "admin", "owner"):
        made = await house.add(f"{role}@example.com", role)
        pages[role] = await house.sign_in(made["email"])
        pages[role].body = made
    return pages


async def test_T57_nobody_gives_a_role_above_their_own(house: House) -> None:
    """By a create, a change, with a session or with a key; and nobody changes somebody above them."""
    pages = await people(house)
    admin, owner = pages["admin"], pages["owner"]
    new = {"email": "new@example.com", "password": PASSWORD}
    assert (await admin("POST", BASE, {**new, "role": "owner"}))[0] == 403
    assert (await admin("POST", BASE, {**new, "role": "admin"}))[0] == 201
    path = {role: f"{BASE}/{page.body['id']}" for role, page in pages.items()}
    assert (await admin("PATCH", path["admin"], {"role": "owner"}))[0] == 403
    assert (await admin("PATCH", path["viewer"], {"role": "owner"}))[0] == 403
    for change in ({"role": "viewer"}, {"password": OTHER}, {"email": "x@example.com"}, {"isActive": False},
                   {"name": "x"}):  # fmt: skip
        assert (await admin("PATCH", path["owner"], change))[0] == 403, change
    assert (await admin("DELETE", path["owner"]))[0] == 403
    scopes = ["admin:read", "admin:write"]
    _, key = await admin("POST", "/keys", {"name": "k", "scopes": scopes})
    by_key = Page(house, Authorization=f"Bearer {key['key']}")
    assert (await by_key("PATCH", path["viewer"], {"role": "owner"}))[0] == 403
    assert (await by_key("PATCH", path["owner"], {"password": OTHER}))[0] == 403
    assert (await by_key("PATCH", path["viewer"], {"role": "admin"}))[0] == 200
    for role in ("viewer", "developer"):
        assert (await pages["developer"]("PATCH", path[role], {"role": "admin"}))[0] == 403
    assert (await owner("PATCH", path["admin"], {"role": "owner"}))[0] == 200


async def test_who_runs_the_gateway_is_changed_by_nobody_else(house: House) -> None:
    """Another owner of `org_default` cannot take their place."""
    pages = await people(house)
    _, listed = await house.operator("GET", f"{BASE}?email=olga@example.com")
    path = f"{BASE}/{listed[0]['id']}"
    for change in ({"password": OTHER}, {"email": "x@example.com"}, {"role": "viewer"}, {"isActive": False}):
        assert (await pages["owner"]("PATCH", path, change))[0] == 403, change
    assert (await pages["owner"]("DELETE", path))[0] == 403
    assert (await house.operator("PATCH", path, {"role": "admin"}))[0] == 200
    olga = await house.sign_in("olga@example.com")
    assert (await olga("GET", "/auth/me"))[1]["isOperator"] is False


async def test_the_last_owner_stays(house: House) -> None:
    """409 for demoting, switching off and removing them; with a second one it can be done, and once."""
    b = await house.found("B")
    first = await house.add("one@example.com", "owner", b)
    base = f"/orgs/{b}/members"
    one = await house.sign_in("one@example.com")
    for who in (one, house.operator):
        for change in ({"role": "admin"}, {"isActive": False}):
            status, body = await who("PATCH", f"{base}/{first['id']}", change)
            assert (status, body["error"]["type"]) == (409, "conflict_error")
        assert (await who("DELETE", f"{base}/{first['id']}"))[0] == 409
    second = await house.add("two@example.com", "owner", b)
    two = await house.sign_in("two@example.com")
    answers = await asyncio.gather(
        one("PATCH", f"{base}/{second['id']}", {"role": "viewer"}),
        two("PATCH", f"{base}/{first['id']}", {"role": "viewer"}),
    )
    assert sorted(status for status, _ in answers) in ([200, 401], [200, 403], [200, 409])
    _, owners = await house.operator("GET", f"{base}?role=owner")
    assert len(owners) == 1


async def test_nobody_lowers_what_the_gateway_is_paid(house: House) -> None:
    """An admin may raise a multiplier; lowering one takes who runs the gateway."""
    pages = await people(house)
    path = f"{BASE}/{pages['viewer'].body['id']}"
    for value, status in (("0.5", 403), ("2", 200), ("1", 403), ("2", 200)):
        assert (await pages["owner"]("PATCH", path, {"rateMultiplier": value}))[0] == status
    new = {"email": "new@example.com", "password": PASSWORD, "rateMultiplier": "0"}
    assert (await pages["owner"]("POST", BASE, new))[0] == 403
    assert (await house.operator("PATCH", path, {"rateMultiplier": "0.5"}))[0] == 200


# -- people of several organisations ---------------------------------------------------------


async def test_nobody_takes_over_a_person_of_another_organisation(house: House) -> None:
    """An admin of B can neither invite, nor give a password or address to, somebody who is not B's alone."""
    b = await house.found("B")
    await house.add("boss@example.com", "owner", b)
    boss = await house.sign_in("boss@example.com")
    await house.add("ann@example.com", "admin")
    base = f"/orgs/{b}/members"
    invited = {"email": "ann@example.com", "role": "viewer"}
    status, body = await boss("POST", base, {**invited, "password": OTHER})
    assert (status, body["error"]["param"]) == (409, "email")
    status, body = await house.operator("POST", base, {**invited, "password": OTHER})
    assert (status, body["error"]["param"]) == (400, "password")
    status, joined = await house.operator("POST", base, invited)
    assert status == 201
    for change in ({"password": OTHER}, {"email": "eve@example.com"}):
        assert (await boss("PATCH", f"{base}/{joined['id']}", change))[0] == 403, change
    ann = await house.sign_in("ann@example.com")
    assert [one["id"] for one in ann.body["organizations"]] == ["org_default", b]
    assert (await boss("DELETE", f"{base}/{joined['id']}"))[0] == 200
    await house.sign_in("ann@example.com")


async def test_an_address_is_one_persons(house: House) -> None:
    """409 for a second member of an address, and for taking another's; freed when its person is gone."""
    ann = await house.add("ann@example.com", "viewer")
    bob = await house.add("bob@example.com", "viewer")
    status, body = await house.operator("POST", BASE, {"email": "ANN@example.com", "password": OTHER})
    assert (status, body["error"]["param"]) == (409, "email")
    status, body = await house.operator("PATCH", f"{BASE}/{bob['id']}", {"email": "ann@example.com"})
    assert (status, body["error"]["param"]) == (409, "email")
    assert (await house.operator("DELETE", f"{BASE}/{ann['id']}"))[0] == 200
    assert (await house.operator("PATCH", f"{BASE}/{bob['id']}", {"email": "ann@example.com"}))[0] == 200
    await house.sign_in("ann@example.com")


async def test_a_change_of_address_is_one_everywhere(house: House) -> None:
    """A person has one, in all their organisations."""
    b = await house.found("B")
    ann = await house.add("ann@example.com", "viewer")
    await house.add("ann@example.com", "viewer", b, password=None)
    changed = {"email": "anna@example.com"}
    assert (await house.operator("PATCH", f"{BASE}/{ann['id']}", changed))[0] == 200
    assert (await house.operator("GET", f"/orgs/{b}/members"))[1][0]["email"] == "anna@example.com"
    await house.sign_in("anna@example.com")


async def test_ones_own_password_takes_the_old_one(house: House) -> None:
    """A page that was left open is not enough to take somebody over."""
    pages = await people(house)
    admin = pages["admin"]
    assert (await admin("PATCH", f"{BASE}/{admin.body['id']}", {"password": OTHER}))[0] == 403


async def test_another_organisations_members_are_not_there(house: House) -> None:
    """404 on every method, for a session and for a key, and in the words of an organisation that is none."""
    b = await house.found("B")
    theirs = await house.add("bob@example.com", "owner", b)
    await house.add("ann@example.com", "owner")
    _, key = await house.operator("POST", "/keys", {"name": "k", "scopes": ["admin:read", "admin:write"]})
    for page in (await house.sign_in("ann@example.com"), Page(house, Authorization=f"Bearer {key['key']}")):
        for method, path, body in (
            ("GET", "", None), ("POST", "", {"email": "x@example.com", "password": OTHER}),
            ("GET", f"/{theirs['id']}", None), ("PATCH", f"/{theirs['id']}", {"role": "viewer"}),
            ("DELETE", f"/{theirs['id']}", None),
        ):  # fmt: skip
            answers = [await page(method, f"/orgs/{place}/members{path}", body) for place in (b, "org_none")]
            assert [status for status, _ in answers] == [404, 404]
            assert len({answer["error"]["message"] for _, answer in answers}) == 1
            assert (await page(method, f"{BASE}{path}", body))[0] != 404 or theirs["id"] in path
    assert (await house.operator("GET", "/orgs/org_none/members"))[0] == 404


async def test_the_path_names_the_organisation(house: House) -> None:
    """Whatever X-Org-Id says: the role is the one that they have there."""
    b = await house.found("B")
    await house.add("ann@example.com", "owner")
    await house.add("ann@example.com", "viewer", b, password=None)
    ann = await house.sign_in("ann@example.com")
    new = {"email": "new@example.com", "password": OTHER}
    assert (await ann("GET", f"/orgs/{b}/members"))[0] == 200
    assert (await ann("POST", f"/orgs/{b}/members", new))[0] == 403
    assert (await ann("POST", f"/orgs/{b}/members", new, X_Org_Id="org_default"))[0] == 403
    assert (await ann("POST", BASE, new, X_Org_Id=b))[0] == 201


async def test_T56_no_header_opens_another_organisation(open_house: Any) -> None:
    """X-Org-Id of A, from B's owner: 404 on every route there is, and A's things are as they were."""
    house = await open_house(base=("auth-keys", "accounts", "access", "meter", "openai", "demo"))
    await house.add("ann@example.com", "owner")
    b = await house.found("B")
    await house.add("bob@example.com", "owner", b)
    bob = await house.sign_in("bob@example.com")
    for face in house.gateway.pipeline.faces():
        if face.public or face.raw:
            continue
        path = face.path.replace(":path", "").replace("{organization}", "org_default")
        for method in face.methods:
            body = {} if method in {"POST", "PUT", "PATCH"} else None
            status, answer = await bob(method, path.replace("{id}", "none"), body, X_Org_Id="org_default")
            assert status == 404, (method, path, answer)
    assert [one["email"] for one in (await house.operator("GET", BASE))[1]] == ["ann@example.com"]
