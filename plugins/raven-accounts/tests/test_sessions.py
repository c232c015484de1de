"""Signing in and out: what a session is, what ends it, and what it may do."""

from __future__ import annotations

from .conftest import OWNER, House


async def test_set_up_makes_the_first_owner_once(house: House) -> None:
    """201 and signed in; then a 409, whoever asks; the organisation has its name."""
    page = await house.set_up()
    assert page.body["member"]["role"] == "owner"
    assert page.body["organizations"] == [{"id": "org_default", "name": "Ravens", "role": "owner"}]
    status, me = await page("GET", "/auth/me")
    assert (status, me["member"]["email"], me["isOperator"]) == (200, OWNER["email"], True)
    status, body = await house.operator("POST", "/auth/setup", {**OWNER, "email": "b@example.com"})
    assert (status, body["error"]["type"]) == (409, "conflict_error")
