"""T140: what another site's page sends with somebody's cookie changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from raven_accounts.forgery import check_origin

from raven_proxy import Forbidden

from .conftest import PASSWORD, House, Page

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def ann(house: House) -> Page:
    await house.add("ann@example.com", "admin")
    return await house.sign_in("ann@example.com")


@pytest.mark.parametrize(
    ("without", "headers"),
    [
        ("origin", {}),
        ("", {"Origin": "null"}),
        ("", {"Origin": "https://evil.example"}),
        ("", {"Origin": "http://127.0.0.1:1"}),
        ("", {"Origin": "http://127.0.0.1.evil.example"}),
        ("", {"Sec_Fetch_Site": "cross-site"}),
        ("", {"Sec_Fetch_Site": "same-site"}),
        ("origin", {"Sec_Fetch_Site": "cross-site"}),
        ("", {"Sec_Fetch_Site": "same-origin", "Origin": "https://evil.example"}),
        ("x-csrf-token", {}),
        ("", {"X_CSRF_Token": "0" * 64}),
        ("", {"X_CSRF_Token": "é"}),
        ("", {"Content_Type": FORM}),
        ("", {"Content_Type": "text/plain"}),
        ("", {"Content_Type": "multipart/form-data; boundary=x"}),
        ("x-csrf-token origin", {"Content_Type": FORM, "Sec_Fetch_Site": "cross-site"}),
    ],
    ids=str,
)
async def test_a_foreign_request_is_refused(house: House, ann: Page, without: str, headers: Any) -> None:
    """403 on every method that changes something, on management and on models; and nothing happened."""
    _, key = await house.operator("POST", "/keys", {"name": "x"})
    for method, path, body in (
        ("POST", "/keys", {"name": "forged"}),
        ("PATCH", f"/keys/{key['id']}", {"name": "forged"}),
        ("PUT", f"/keys/{key['id']}", {"name": "forged"}),
        ("DELETE", f"/keys/{key['id']}", {}),
        ("POST", "/v1/chat/completions", {"model": "demo/chat", "messages": []}),
        ("POST", "/auth/logout", {}),
        ("POST", "/auth/password", {"currentPassword": PASSWORD, "newPassword": "a forged password"}),
    ):
        status, answer = await ann(method, path, body, without=without, **headers)
        assert (status, answer["error"]["type"]) == (403, "permission_error"), (method, path, answer)
    assert [one["name"] for one in (await house.operator("GET", "/keys"))[1]] == ["x"]
    assert (await ann("GET", "/auth/me"))[0] == 200


async def test_a_page_of_ours_is_served(house: House, ann: Page) -> None:
    """With the origin, or where the browser says so; with a body or without."""
    for headers, without in (
        ({}, ""), ({"Sec_Fetch_Site": "same-origin"}, ""), ({"Sec_Fetch_Site": "none"}, ""),
        ({"Sec_Fetch_Site": "same-origin"}, "origin"),
    ):  # fmt: skip
        status, made = await ann("POST", "/keys", {"name": "mine"}, without=without, **headers)
        assert status == 201
        assert (await ann("DELETE", f"/keys/{made['id']}", without=without, **headers))[0] == 200


async def test_another_sessions_token_is_none(house: House, ann: Page) -> None:
    """The token is this session's, and ends with it."""
    other = await house.sign_in("ann@example.com")
    token = other.headers["X-CSRF-Token"]
    assert token != ann.headers["X-CSRF-Token"]
    assert (await ann("POST", "/keys", {"name": "x"}, X_CSRF_Token=token))[0] == 403
    assert (await ann("GET", "/auth/me"))[1]["csrfToken"] == ann.headers["X-CSRF-Token"]


async def test_keys_are_not_asked_for_any_of_it(house: House) -> None:
    """What comes with a key comes from a program."""
    for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {}):
        assert (await house.operator("POST", "/keys", {"name": "x"}, **headers))[0] == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Content_Type": "text/plain"}, 400),
    ],
    ids=str,
)
async def test_nobody_is_signed_in_by_another_page(house: House, headers: Any, status: int) -> None:
    """Login CSRF: a foreign page does not put a victim into the attacker's account."""
    await house.add("eve@example.com", "viewer")
    login = {"email": "eve@example.com", "password": PASSWORD}
    assert (await house.stranger("POST", "/auth/login", login, **headers))[0] == status
    assert ("Set-Cookie" in house.stranger.replied.headers) == (status == 200)


async def test_a_get_changes_nothing(house: House, ann: Page) -> None:
    """Every GET of the route table: afterwards all tables are as they were."""
    storage = house.gateway.storage
    tables = ("keys", "organizations", "users", "members", "audit_log")
    await storage.flush()
    before = [await storage.fetch_all(f"SELECT * FROM {table}") for table in tables]
    for face in house.gateway.pipeline.faces():
        if "GET" in face.methods and not face.raw:
            path = face.path.replace("{organization}", "org_default").replace(":path", "")
            async with house.client.get(path.replace("{id}", "x"), headers=ann.headers) as reply:
                assert reply.status in {200, 400, 404}, path
    assert [await storage.fetch_all(f"SELECT * FROM {table}") for table in tables] == before


@pytest.mark.parametrize(
    ("origin", "host", "site", "is_tls", "is_ours"),
    [
        ("http://gw.example", "gw.example", None, False, True),
        ("https://gw.example", "gw.example", None, True, True),
        ("https://GW.example", "gw.EXAMPLE", None, True, True),
        ("http://gw.example", "gw.example", None, True, False),
        ("http://gw.example:80", "gw.example", None, False, True),
        ("http://gw.example:8080", "gw.example", None, False, False),
        ("http://gw.example:8080", "gw.example", "same-origin", False, True),
        ("http://gw.example:8080", "gw.example:9090", "same-origin", False, False),
        ("http://evil.example:8080", "gw.example", "same-origin", False, False),
        ("http://[::1]:4000", "[::1]:4000", None, False, True),
        ("http://gw.example:x", "gw.example", None, False, False),
        ("file://", "gw.example", None, False, False),
        ("http://gw.example/path", "gw.example", None, False, False),
        ("", "", None, False, False),
    ],
)
def test_an_origin_is_ours_by_its_host(
    origin: str, host: str, site: str | None, is_tls: bool, is_ours: bool
) -> None:
    """Scheme, name and port; the port may be lost on the way only where the browser vouches for it."""
    headers = {"origin": origin, "host": host} | ({"sec-fetch-site": site} if site else {})
    if is_ours:
        check_origin(headers, is_tls=is_tls, required=True)
    else:
        with pytest.raises(Forbidden):
            check_origin(headers, is_tls=is_tls, required=True)
