"""The management API answers as contract section 8 says, for every resource that is declared."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import RunningGateway
from raven_proxy.resources import Resource

from .conftest import VendorStarter
from .documented import fits

BASE = (
    "auth-keys", "accounts", "guardrails", "access", "limits", "byok", "providers", "meter", "alerts",
    "webhooks", "openai",
)  # fmt: skip
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
IDS = {
    "providers": "prov_", "keys": "key_", "guardrails": "guard_", "budgets": "bud_", "domains": "dom_",
    "webhooks": "wh_", "orgs": "org_", "members": "mem_",
}  # fmt: skip
SAMPLES: dict[str, Any] = {
    "providers": {"provider": "openai", "name": "Production OpenAI", "apiKey": "sk-vendor-0123456789"},
    "keys": {"name": "Production"},
    "guardrails": {
        "name": "No cards",
        "type": "pii",
        "action": "redact",
        "config": {"entities": ["credit_card"]},
    },
    "budgets": {"name": "Team", "limit": "100.00", "period": "monthly"},
    "domains": {"domain": "llm.example.com"},
    "webhooks": {"url": "https://hooks.example.com/raven", "events": ["budget.exceeded"]},
    "orgs": {"name": "Team Blue"},
    "members": {
        "email": "ann@example.com",
        "name": "Ann",
        "role": "developer",
        "password": "a raven on a wire",
    },
}


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with gateway.client.request(method, path, json=body) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


def find(gateway: RunningGateway, name: str) -> tuple[Resource[Any], str]:
    [resource] = [one for one in gateway.gateway.pipeline.resources if one.name == name]
    return resource, resource.base_path.replace("{organization}", "org_default")


async def test_every_resource_that_can_be_created_is_tried_here(documented: VendorStarter) -> None:
    gateway = await documented(base=BASE)
    declared = {one.name for one in gateway.gateway.pipeline.resources if "create" in one.operations}
    assert declared == SAMPLES.keys() == IDS.keys()


@pytest.mark.parametrize("name", SAMPLES)
async def test_R_create_read_change_delete(documented: VendorStarter, name: str) -> None:
    """R: 201 with the object, an id of its kind, a plain array, PATCH 200, `{"success": true}`, then 404."""
    gateway = await documented(base=BASE)
    _, path = find(gateway, name)
    status, made = await ask(gateway, "POST", path, SAMPLES[name])
    assert status == 201, made
    fits({"id": re.compile("^" + IDS[name]), "createdAt": TIME}, made)
    one = f"{path}/{made['id']}"
    status, shown = await ask(gateway, "GET", one)
    assert status == 200
    assert {field: made[field] for field in shown} == shown, "what is shown once is shown beside the rest"
    status, listed = await ask(gateway, "GET", path)
    assert (status, shown in listed) == (200, True)
    for method in ("PATCH", "PUT"):
        assert await ask(gateway, method, one, shown) == (200, shown), (
            "sent back unchanged it changes nothing"
        )
    assert await ask(gateway, "GET", one) == (200, shown)
    assert await ask(gateway, "DELETE", one) == (200, {"success": True})
    for method in ("GET", "DELETE"):
        status, error = await ask(gateway, method, one)
        assert (status, error["error"]["type"], error["error"]["code"]) == (
            404,
            "not_found_error",
            "not_found",
        )


@pytest.mark.parametrize("name", SAMPLES)
async def test_R_a_bad_field_is_named(documented: VendorStarter, name: str) -> None:
    """R: 400 `validation_error` with `param`, for a wrong type, an unknown field and nothing at all."""
    gateway = await documented(base=BASE)
    _, path = find(gateway, name)
    field = next(iter(SAMPLES[name]))
    for body, param in (
        (SAMPLES[name] | {field: 7}, field),
        (SAMPLES[name] | {"colour": "red"}, "colour"),
        ({}, re.compile(".")),
    ):
        status, error = await ask(gateway, "POST", path, body)
        assert (status, error["error"]["type"]) == (400, "validation_error"), (body, error)
        fits({"param": param}, error["error"])
    assert await ask(gateway, "GET", path) in [(200, [])] or name in ("orgs", "keys")


@pytest.mark.parametrize("name", ["providers", "domains", "orgs", "members"])
async def test_R_a_duplicate_is_a_conflict(documented: VendorStarter, name: str) -> None:
    """R: 409, and nothing is made."""
    gateway = await documented(base=BASE)
    _, path = find(gateway, name)
    status, made = await ask(gateway, "POST", path, SAMPLES[name])
    assert status == 201, made
    status, error = await ask(gateway, "POST", path, SAMPLES[name])
    if name == "orgs":  # two may have one name
        assert status == 201
        return
    assert (status, error["error"]["type"], error["error"]["code"]) == (409, "conflict_error", "conflict")


async def test_R_the_list_of_providers_as_the_page_shows_it(documented: VendorStarter) -> None:
    """R: id, provider, name, isEnabled, createdAt; the key is written and never read."""
    gateway = await documented(base=BASE)
    status, made = await ask(gateway, "POST", "/providers", SAMPLES["providers"])
    assert status == 201
    status, listed = await ask(gateway, "GET", "/providers")
    [shown] = listed
    fits(
        {
            "id": made["id"],
            "provider": "openai",
            "name": "Production OpenAI",
            "isEnabled": True,
            "createdAt": TIME,
        },
        shown,
    )
    assert "sk-vendor" not in msgspec.json.encode([made, listed]).decode()


async def test_R_lists_are_paged(documented: VendorStarter) -> None:
    """R: `limit` and `after` over a plain array."""
    gateway = await documented(base=BASE)
    for number in range(5):
        assert (await ask(gateway, "POST", "/budgets", SAMPLES["budgets"] | {"name": f"n{number}"}))[0] == 201
    _, everything = await ask(gateway, "GET", "/budgets")
    seen: list[Any] = []
    after = ""
    while True:
        status, page = await ask(gateway, "GET", f"/budgets?limit=2{after}")
        assert status == 200
        if not page:
            break
        seen += page
        after = f"&after={page[-1]['id']}"
    assert seen == everything
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/guardrails/test", {"texts": ["My card is 4111 1111 1111 1111"]}),
        (
            "/explain",
            {"body": {"model": "openai-main/gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}},
        ),
    ],
)
async def test_R_what_is_tried_out_calls_nobody(
    documented: VendorStarter, upstream: Any, path: str, what: Any
) -> None:
    gateway = await documented(base=BASE)
    assert (await ask(gateway, "POST", "/guardrails", SAMPLES["guardrails"]))[0] == 201
    status, told = await ask(gateway, "POST", path, what)
    assert status == 200, told
    assert not upstream.seen


async def test_R_the_audit_log_says_who_changed_what(documented: VendorStarter) -> None:
    """R: created, changed and deleted, with the caller; secrets are left out."""
    gateway = await documented(base=BASE)
    _, made = await ask(gateway, "POST", "/providers", SAMPLES["providers"])
    await ask(
        gateway, "PATCH", f"/providers/{made['id']}", {"name": "Other", "apiKey": "sk-vendor-second-98765"}
    )
    await ask(gateway, "DELETE", f"/providers/{made['id']}")
    status, told = await ask(gateway, "GET", "/audit-logs")
    assert status == 200
    mine = [one for one in told if made["id"] in msgspec.json.encode(one).decode()]
    assert len(mine) == 3
    assert "sk-vendor" not in msgspec.json.encode(told).decode()
