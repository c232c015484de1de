"""`/keys`: the management API of the keys, and that nobody climbs by it."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.harness import ADMIN_KEY, GatewayStarter
from raven_proxy.organizations import Organization


class Api:
    """Calls the gateway with some key."""

    def __init__(self, running: Any) -> None:
        self.running = running

    async def __call__(
        self, method: str, path: str, json: Any = None, key: str = ADMIN_KEY, **headers: str
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key}", **{n.replace("_", "-"): v for n, v in headers.items()}}
        async with self.running.client.request(method, path, json=json, headers=headers) as reply:
            return reply.status, await reply.json()


@pytest.fixture
async def api(raven: GatewayStarter) -> Api:
    return Api(await raven(base=("auth-keys",)))


async def made(api: Api, **fields: Any) -> Any:
    status, key = await api("POST", "/keys", {"name": "test", **fields})
    assert status == 201, key
    return key


async def test_a_key_is_shown_once(api: Api) -> None:
    """The create's answer has it and nothing else ever has; it works at once."""
    key = await made(api)
    assert key["key"].startswith(key["prefix"])
    assert key["scopes"] == sorted(key["scopes"])
    assert not [scope for scope in key["scopes"] if scope.startswith("admin")]
    assert (await api("GET", "/v1/models", key=key["key"]))[0] == 200
    _, shown = await api("GET", f"/keys/{key['id']}")
    assert shown == {name: value for name, value in key.items() if name != "key"} | {
        "lastUsedAt": shown["lastUsedAt"]
    }
    assert key["key"] not in repr(await api("GET", "/keys"))
    assert key["key"] not in repr(await api("GET", "/audit-logs"))


async def test_what_get_gave_can_be_sent_back(api: Api) -> None:
    """With PATCH and with PUT; nothing changes by it."""
    key = await made(api, allowedModels=["gpt-*"], rateLimitRpm=5, expiresAt="2099-01-01T00:00:00Z")
    _, before = await api("GET", f"/keys/{key['id']}")
    for method in ("PATCH", "PUT"):
        assert await api(method, f"/keys/{key['id']}", before) == (200, before)


async def test_changes_hold_from_the_next_request_on(api: Api) -> None:
    """Switched off, on, limited in scope, deleted."""
    key = await made(api)
    path = f"/keys/{key['id']}"
    for change, status in (({"isActive": False}, 401), ({"isActive": True}, 200),
                           ({"scopes": ["chat:write"]}, 403)):  # fmt: skip
        assert (await api("PATCH", path, change))[0] == 200
        assert (await api("GET", "/v1/models", key=key["key"]))[0] == status
    assert await api("DELETE", path) == (200, {"success": True})
    assert (await api("GET", "/v1/models", key=key["key"]))[0] == 401
    assert (await api("GET", path))[0] == 404


async def test_rotate_gives_a_new_secret(api: Api) -> None:
    """The former one ends at once, or after its grace; a key that is off is a 409."""
    key = await made(api)
    status, rotated = await api("POST", f"/keys/{key['id']}/rotate", {})
    assert (status, rotated["id"]) == (200, key["id"])
    assert rotated["key"] != key["key"]
    assert (await api("GET", "/v1/models", key=key["key"]))[0] == 401
    _, again = await api("POST", f"/keys/{key['id']}/rotate", {"graceS": 60})
    for secret in (rotated["key"], again["key"]):
        assert (await api("GET", "/v1/models", key=secret))[0] == 200
    await api("PATCH", f"/keys/{key['id']}", {"isActive": False})
    assert (await api("POST", f"/keys/{key['id']}/rotate", {}))[0] == 409


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": " "}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes[0]"),
        ({"expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "9999-12-31T23:59:59-23:59"}, "expiresAt"),
        ({"ipAllowlist": ["10.0.0.0/33"]}, "ipAllowlist"),
        ({"rateLimitRpm": 0}, "rateLimitRpm"),
        ({"environment": "prod"}, "environment"),
    ],
)
async def test_a_bad_field_is_named(api: Api, fields: Any, param: str) -> None:
    """400 `validation_error`, and there is no key."""
    status, body = await api("POST", "/keys", {"name": "x", **fields})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", param)
    assert (await api("GET", "/keys"))[1] == []


async def test_T57_nobody_climbs_by_making_keys(api: Api) -> None:
    """A key gives no scope that its maker lacks, and learns no key that may do more."""
    writer = await made(api, scopes=["admin:write", "admin:read", "chat:write"])
    strong = await made(api, scopes=["admin:write", "admin:read", "files:write"])
    mine = writer["key"]
    status, body = await api("POST", "/keys", {"name": "x", "scopes": ["images:write"]}, key=mine)
    assert (status, body["error"]["code"]) == (403, "missing_scope")
    assert (await api("POST", "/keys", {"name": "x", "scopes": ["chat:write"]}, key=mine))[0] == 201
    path = f"/keys/{strong['id']}"
    assert (await api("POST", f"{path}/rotate", {}, key=mine))[0] == 403
    assert (await api("PATCH", path, {"name": "y"}, key=mine))[0] == 403
    assert (await api("DELETE", path, key=mine))[0] == 403
    _, own = await api("PATCH", f"/keys/{writer['id']}", {"scopes": ["files:write"]}, key=mine)
    assert own["error"]["code"] == "missing_scope"


async def test_an_operator_acts_for_the_organisation_that_they_name(api: Api) -> None:
    """Nobody else does; one that is not there is a 404, and on proxy faces the header says nothing."""
    api.running.gateway.organizations.replace({"org_b": Organization(id="org_b", name="B")})
    theirs = await api("POST", "/keys", {"name": "theirs"}, X_Org_Id="org_b")
    assert theirs[0] == 201
    assert (await api("GET", "/keys"))[1] == []
    assert [key["name"] for key in (await api("GET", "/keys", X_Org_Id="org_b"))[1]] == ["theirs"]
    assert (await api("GET", "/keys", X_Org_Id="org_none"))[0] == 404
    admin = await made(api, scopes=["admin:write", "admin:read", "models:read"])
    assert (await api("GET", "/keys", key=admin["key"], X_Org_Id="org_b"))[0] == 404
    assert (await api("GET", "/v1/models", key=admin["key"], X_Org_Id="org_b"))[0] == 200


async def test_a_plan_that_is_not_there_is_refused(raven: GatewayStarter) -> None:
    """Every request with such a key would be; one that a config has lost since can stay as it is."""
    config = {"plans": {"gold": {"requests_per_minute": 9}}}
    api = Api(await raven(base=("auth-keys", "limits"), config=config))
    key = await made(api, plan="gold")
    assert (await made(api, plan="free"))["plan"] == "free"
    for method, path in (("POST", "/keys"), ("PATCH", f"/keys/{key['id']}")):
        status, body = await api(method, path, {"name": "k", "plan": "nope"})
        assert (status, body["error"]["param"]) == (400, "plan")
        assert "free, gold, pro" in body["error"]["message"]
    await api.running.reload({"plans": {}})
    assert (await api("PATCH", f"/keys/{key['id']}", {"name": "still", "plan": "gold"}))[0] == 200


async def test_plans_of_a_plugin_that_is_not_ours_are_its_own_affair(api: Api) -> None:
    assert (await made(api, plan="of-another-plugin"))["plan"] == "of-another-plugin"
