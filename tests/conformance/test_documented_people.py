"""Organisations, members and sessions are what the published systems document of them (contract 4 and 8)."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import ClientSession, DummyCookieJar  # noqa: TID251 - a page has no key

from raven_proxy.harness import RunningGateway

from .conftest import VendorStarter
from .documented import fits

BASE = ("auth-keys", "accounts", "access", "meter", "byok", "openai", "demo")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
PASSWORD = "a raven on a wire"


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with gateway.client.request(method, path, json=body) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def test_R_an_organisation(documented: VendorStarter) -> None:
    """R: created with its settings, listed, changed with PATCH, and shown as it was sent."""
    gateway = await documented(base=BASE)
    sent = {
        "name": "Team Blue",
        "ipAllowlist": ["127.0.0.0/8", "2001:db8::/32"],
        "dataResidency": {"allowedRegions": ["eu"], "enforceStrictly": True},
        "allowUnpriced": True,
    }
    status, made = await ask(gateway, "POST", "/orgs", sent)
    assert status == 201
    fits(sent | {"id": re.compile(r"^org_"), "isActive": True, "createdAt": TIME}, made)
    status, listed = await ask(gateway, "GET", "/orgs")
    assert (status, {one["id"] for one in listed}) == (200, {made["id"], "org_default"})
    path = f"/orgs/{made['id']}"
    assert await ask(gateway, "PATCH", path, made) == (200, made)
    assert await ask(gateway, "PATCH", path, {"name": "Blue"}) == (200, made | {"name": "Blue"})
    assert await ask(gateway, "DELETE", path) == (200, {"success": True})


async def test_R_PK_a_member(documented: VendorStarter) -> None:
    """R PK: `POST /orgs/{id}/members` adds one, `PATCH` changes role and rateMultiplier."""
    gateway = await documented(base=BASE)
    path = "/orgs/org_default/members"
    sent = {"email": "ann@example.com", "name": "Ann", "role": "developer", "rateMultiplier": "1.25"}
    status, made = await ask(gateway, "POST", path, sent | {"password": PASSWORD})
    assert status == 201
    fits(sent | {"id": re.compile(r"^mem_"), "isActive": True, "createdAt": TIME}, made)
    assert "password" not in made
    assert await ask(gateway, "GET", path) == (200, [made])
    changed = {"role": "admin", "rateMultiplier": "0.8"}
    assert await ask(gateway, "PATCH", f"{path}/{made['id']}", changed) == (200, made | changed)
    status, twice = await ask(gateway, "POST", path, sent | {"password": PASSWORD})
    assert (status, twice["error"]["type"]) == (409, "conflict_error")


async def test_R_a_session(documented: VendorStarter) -> None:
    """R: set up once, sign in, ask who I am with the cookie, sign out."""
    gateway = await documented(base=BASE)
    owner = {"email": "olga@example.com", "password": PASSWORD, "name": "Olga", "organization": "Ravens"}
    status, _ = await ask(gateway, "POST", "/auth/setup", owner)
    assert status == 201
    assert (await ask(gateway, "POST", "/auth/setup", owner))[0] == 409
    login = {"email": "olga@example.com", "password": PASSWORD}
    async with gateway.client.post("/auth/login", json=login, headers={"Authorization": ""}) as reply:
        assert reply.status == 200
        cookie, signed_in = reply.headers["Set-Cookie"], await reply.json()
    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    page = {"Cookie": cookie.partition(";")[0], "Origin": gateway.url, "X-CSRF-Token": signed_in["csrfToken"]}
    calls = (("GET", "/auth/me", 200), ("POST", "/auth/logout", 200), ("GET", "/auth/me", 401))
    for method, path, wanted in calls:
        status, body = await as_page(gateway, method, path, page)
        assert status == wanted
    assert (body["error"]["type"], body["error"]["code"]) == ("authentication_error", "session_expired")


async def as_page(gateway: RunningGateway, method: str, path: str, page: dict[str, str]) -> tuple[int, Any]:
    async with (
        ClientSession(cookie_jar=DummyCookieJar()) as client,
        client.request(method, gateway.url + path, headers=page) as reply,
    ):
        return reply.status, msgspec.json.decode(await reply.read())
