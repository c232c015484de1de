"""What is everybody's is for who runs the gateway; an organisation changes its own (T57)."""

from __future__ import annotations

from typing import Any

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import House, Page

PROXY = "chat:write embeddings:write images:write audio:write video:write files:read files:write".split()


async def test_T57_an_organisations_admin_changes_their_own_account_only(
    raven: Any, client_of: Any, upstream: MockUpstream
) -> None:
    """At the gateway's upstream nobody of an organisation; at a stored provider its admins, by any way in."""
    running = await raven(
        base=("auth-keys", "accounts", "byok", "providers", "openai"),
        upstreams=[upstream],
        config={"allow_private_upstreams": True},
    )
    house = House(running, client_of(running.url))
    b = await house.found("B")
    pages: dict[str, Page] = {}
    for role in ("developer", "admin"):
        await house.add(f"{role}@example.com", role, b)
        pages[role] = await house.sign_in(f"{role}@example.com")
    _, key = await pages["admin"](
        "POST", "/keys", {"name": "all", "scopes": [*PROXY, "admin:read", "admin:write"]}
    )
    pages["key"] = Page(house, Authorization=f"Bearer {key['key']}")
    account = {"provider": "openai", "name": "ours", "apiKey": "sk-of-b-0123456789", "baseUrl": upstream.url}
    status, made = await pages["admin"]("POST", "/providers", account)
    assert status == 201, made
    for path, allowed in (
        ("/v1/mock/assistants/1", set()),
        (f"/v1/{made['id']}/assistants/1", {"admin", "key"}),
    ):
        for who, page in pages.items():
            before = len(upstream.seen)
            upstream.script(ScriptedReply.of_json({}))
            status, _ = await page("DELETE", path)
            wanted = (200, 1) if who in allowed else (403, 0)
            assert (status, len(upstream.seen) - before) == wanted, (who, path)
    assert (await house.operator("DELETE", "/v1/mock/assistants/1"))[0] == 200


async def test_T57_an_organisations_owner_does_not_touch_everybodys(open_house: Any) -> None:
    """Money that nobody paid, the books of all, the configuration: 403."""
    house = await open_house(base=("auth-keys", "accounts", "meter", "openai"))
    b = await house.found("B")
    await house.add("boss@example.com", "owner", b)
    boss = await house.sign_in("boss@example.com")
    for path, body in (
        ("/credits/grants", {"amount": "1000000"}), ("/credits/reconcile", {}), ("/reload", {}),
        ("/orgs", {"name": "C"}),
        ("/auth/setup", {"email": "x@example.com", "password": "a wire for a raven"}),
    ):  # fmt: skip
        assert (await boss("POST", path, body))[0] == 403, path
        assert (await house.operator("POST", path, body))[0] in {200, 201}, path


async def test_explain_knows_people_and_organisations(house: House) -> None:
    """What a member's session may do, to who may see them; a key of a member who is gone is nobody's."""
    ann = await house.add("ann@example.com", "viewer")
    question = {
        "keyId": ann["id"],
        "body": {"model": "demo/chat", "messages": [{"role": "user", "content": "hi"}]},
    }
    status, told = await house.operator("POST", "/explain", question)
    assert (status, told["outcome"], told["error"]["code"]) == (200, "refused", "missing_scope")
    path = f"/orgs/org_default/members/{ann['id']}"
    assert (await house.operator("PATCH", path, {"role": "developer"}))[0] == 200
    _, told = await house.operator("POST", "/explain", question)
    (found,) = [one for one in told["findings"] if one["plugin"] == "accounts"]
    assert (found["rule"], found["verdict"]) == ("organization", "allows")
    b = await house.found("B")
    await house.add("boss@example.com", "owner", b)
    boss = await house.sign_in("boss@example.com")
    assert (await boss("POST", "/explain", question))[0] == 404
