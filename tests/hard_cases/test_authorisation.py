"""T56, T57, T59: who may do what, from the live route table: every route, every role, both organisations.

A route that a plugin adds is judged here without a line of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.faces import Face
from raven_proxy.resources import ROLES, outranks

from .conftest import Case

PROXY = frozenset(
    "chat:write embeddings:write images:write audio:write video:write files:read files:write "
    "models:read usage:read".split()
)
ADMIN = frozenset({"admin:read", "admin:write"})
PLUGINS = ("auth-keys", "accounts", "access", "idempotency", "limits", "meter", "alerts", "webhooks",
           "guardrails", "byok", "providers", "openai", "anthropic", "docs", "demo", "bodies")  # fmt: skip
PEOPLE = {
    **{
        f"{role}-{place}": Principal(
            key_id=f"key_{role}_{place}", organization_id=f"org_{place}", scopes=PROXY | ADMIN, role=role
        )
        for role in ROLES
        for place in "ab"
    },
    "operator": Principal(key_id="key_operator", scopes=PROXY | ADMIN, role="owner", is_operator=True),
    "proxy-a": Principal(key_id="key_proxy_a", organization_id="org_a", scopes=PROXY),
    "reader-a": Principal(key_id="key_reader_a", organization_id="org_a", scopes=frozenset({"admin:read"})),
    "nothing-a": Principal(key_id="key_nothing_a", organization_id="org_a", scopes=frozenset()),
}


class People:
    """Knows the people of this table by their names."""

    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return PEOPLE.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))


class Api:
    """The routes of a gateway, and how to call one as somebody."""

    def __init__(self, running: Any) -> None:
        self.gateway = running.gateway
        self._client = running.client
        self.routes = [
            (method, face)
            for face in self.gateway.pipeline.faces()
            for method in face.methods
            if not face.raw
        ]

    async def ask(self, method: str, path: str, who: str, json: Any = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {who}"} if who else {"Authorization": ""}
        json = {} if json is None and method in {"POST", "PATCH", "PUT"} else json
        async with self._client.request(method, path, json=json, headers=headers) as reply:
            endless = reply.content_type == "text/event-stream"
            return reply.status, b"" if endless else await reply.read()


@pytest.fixture
async def api(case: Case) -> Api:
    running = await case.start(People(), base=PLUGINS)
    storage = running.gateway.storage
    for name in ("org_a", "org_b"):
        row = (name, name, 0, name, '{"allowedRegions":null,"enforceStrictly":false}', 1)
        await storage.execute(
            "INSERT INTO organizations (id, organization_id, created_at, name, data_residency, is_active) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )
    await storage.bump("orgs")
    return Api(running)


def path_of(face: Face, **given: str) -> str:
    path = face.path.replace(":path", "").replace("{organization}", "org_a")
    for name, value in given.items():
        path = path.replace("{" + name + "}", value)
    while "{" in path:
        path = path[: path.index("{")] + "none_such" + path[path.index("}") + 1 :]
    return path


async def test_T59_without_a_key_every_route_is_closed(api: Api) -> None:
    """401, but for what says itself that it is public; and no route is public that also has a scope."""
    for method, face in api.routes:
        status, _ = await api.ask(method, path_of(face), "")
        assert (status != 401) == face.public, (method, face.path)
        assert not (face.public and (face.scope or face.role))


async def test_every_route_asks_for_a_scope(api: Api) -> None:
    """A key without any scope does nothing at all; one without admin scopes manages nothing."""
    for method, face in api.routes:
        if face.public:
            continue
        assert face.scope is not None, face.path
        assert face.role is not None or not face.scope.startswith("admin:"), face.path
        status, body = await api.ask(method, path_of(face), "nothing-a")
        assert (status, b"missing_scope" in body or face.dialect.name.startswith("anthropic")) == (
            403,
            True,
        ), face.path
        if face.scope.startswith("admin:"):
            assert (await api.ask(method, path_of(face), "proxy-a"))[0] == 403, face.path
        if face.scope == "admin:write":
            assert (await api.ask(method, path_of(face), "reader-a"))[0] == 403, face.path


async def test_T56_every_route_asks_for_its_role(api: Api) -> None:
    """Below it 403, whatever is asked; from it on never 401, nor 403 for the role."""
    for method, face in api.routes:
        if face.role is None:
            continue
        for role in ROLES:
            status, body = await api.ask(method, path_of(face), f"{role}-a")
            is_refused = status == 403 and b"This takes the role" in body
            assert is_refused != outranks(role, face.role), (method, face.path, role)
            assert status != 401


async def test_every_resource_can_be_made_from_its_example(api: Api) -> None:
    """201, and what comes back can be read and sent back."""
    for resource in api.gateway.pipeline.resources:
        if "create" not in resource.operations:
            continue
        made = await make(api, resource)
        path = f"{base_of(resource)}/{made['id']}"
        status, shown = await api.ask("GET", path, maker_of(resource))
        assert status == 200
        if "change" in resource.operations:
            for method in ("PATCH", "PUT"):
                again = await api.ask(method, path, maker_of(resource), msgspec.json.decode(shown))
                assert again == (200, shown), (method, path)


def base_of(resource: Any) -> str:
    return str(resource.base_path.replace("{organization}", "org_a"))


def maker_of(resource: Any) -> str:
    """Who makes one: an owner, but for organisations."""
    return "operator" if resource.name == "orgs" else "owner-a"


async def make(api: Api, resource: Any) -> Any:
    status, body = await api.ask("POST", base_of(resource), maker_of(resource), dict(resource.example))
    assert status == 201, (resource.name, body)
    return msgspec.json.decode(body)


async def test_T56_another_organisations_things_are_not_there(api: Api) -> None:
    """404 in the words of what never was, on every route with an id; and no list, log or export has them."""
    made = {
        base_of(resource): await make(api, resource)
        for resource in api.gateway.pipeline.resources
        if "create" in resource.operations
    }
    ids = [one["id"].encode() for one in made.values()]
    for method, face in api.routes:
        if face.role is None and not (face.scope or "").startswith("admin:"):
            continue
        base = next((base for base in made if path_of(face, id="{id}").startswith(f"{base}/{{id}}")), None)
        if base is not None:
            theirs = await api.ask(method, path_of(face, id=made[base]["id"]), "owner-b")
            nobodys = await api.ask(method, path_of(face), "owner-b")
            assert theirs[0] == 404, (method, face.path)
            assert (
                msgspec.json.decode(theirs[1])["error"]["message"]
                == (msgspec.json.decode(nobodys[1])["error"]["message"])
            )
        elif method == "GET" and "{" not in face.path and face.path != "/logs/stream":
            _, body = await api.ask(method, face.path, "owner-b")
            assert not [one for one in ids if one in body], face.path
    for base, one in made.items():  # and nothing happened to them
        who = "operator" if base == "/orgs" else "owner-a"
        assert (await api.ask("GET", f"{base}/{one['id']}", who))[0] == 200


async def test_T57_what_nobody_may_write_is_passed_over_or_refused(api: Api) -> None:
    """Ids, times, organisations, roles and amounts that are sent along change nothing."""
    extra = {
        "id": "own_id", "organizationId": "org_b", "createdAt": "2001-01-01T00:00:00Z", "role": "owner",
        "orgId": "org_b", "isAdmin": True, "isOperator": True,
        "spent": "7", "digest": "x", "allowedRoutes": ["/*"],
    }  # fmt: skip
    for resource in api.gateway.pipeline.resources:
        if "create" not in resource.operations:
            continue
        for name, value in extra.items():
            if name in resource.body.__struct_encode_fields__:
                continue
            body = {**resource.example, name: value}
            status, answer = await api.ask("POST", base_of(resource), maker_of(resource), body)
            assert status in {201, 400}, (resource.name, name, answer)
            if status == 201:
                made = msgspec.json.decode(answer)
                assert made.get(name) != value, (resource.name, name)
                path = f"{base_of(resource)}/{made['id']}"
                assert (await api.ask("GET", path, "owner-b"))[0] == 404
                assert (await api.ask("DELETE", path, maker_of(resource)))[0] == 200
