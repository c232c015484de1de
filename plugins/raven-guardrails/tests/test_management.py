"""`/guardrails`: what is saved holds from the next request on, for its organisation alone."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR
from raven_proxy.mock import MockUpstream
from raven_proxy.organizations import Organization

WORDS = {"name": "words", "type": "block_topics", "config": {"topics": ["falcon"]}}
CHAT = {"model": "mock/any", "messages": [{"role": "user", "content": "a falcon"}]}


async def call(gateway: Any, method: str, path: str, json: Any = None, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.client.request(method, path, json=json, headers=sent) as reply:
        return reply.status, await reply.json()


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(upstreams=[upstream], base=("auth-keys", "guardrails", "openai"))


async def test_a_guardrail_holds_from_the_next_request_on(gateway: Any) -> None:
    """Made, changed, switched off, deleted."""
    assert (await call(gateway, "POST", "/v1/chat/completions", CHAT))[0] == 200
    status, made = await call(gateway, "POST", "/guardrails", WORDS)
    assert status == 201
    assert made["id"].startswith("guard_")
    defaults = {"action": "block", "appliesTo": "both", "priority": 100, "shadow": False, "isEnabled": True}
    assert {name: made[name] for name in defaults} == defaults
    status, refused = await call(gateway, "POST", "/v1/chat/completions", CHAT)
    assert (status, refused["error"]["code"]) == (403, "guardrail_blocked")
    assert refused["error"]["metadata"] == {"guardrail": "words", "direction": "input"}
    path = f"/guardrails/{made['id']}"
    for change, wanted in (
        ({"shadow": True}, 200), ({"shadow": False}, 403), ({"isEnabled": False}, 200),
        ({"isEnabled": True}, 403), ({"action": "log"}, 200), ({"action": "block"}, 403),
        ({"config": {"topics": ["eagle"]}}, 200),
    ):  # fmt: skip
        assert (await call(gateway, "PATCH", path, change))[0] == 200
        assert (await call(gateway, "POST", "/v1/chat/completions", CHAT))[0] == wanted, change
    _, read = await call(gateway, "GET", path)
    assert await call(gateway, "PUT", path, read) == (200, read)  # what was read can be sent back
    assert (await call(gateway, "DELETE", path))[1] == {"success": True}


async def test_it_is_one_organisations_own(gateway: Any) -> None:
    """Another organisation's requests pass, and it cannot be seen from there."""
    gateway.gateway.organizations.replace({"org_b": Organization(id="org_b")})
    _, made = await call(gateway, "POST", "/guardrails", WORDS, X_Org_Id="org_b")
    assert (await call(gateway, "GET", f"/guardrails/{made['id']}"))[0] == 404
    assert (await call(gateway, "POST", "/v1/chat/completions", CHAT))[0] == 200
    _, key = await call(gateway, "POST", "/keys", {"name": "b"}, X_Org_Id="org_b")
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert (await call(gateway, "POST", "/v1/chat/completions", CHAT, **bearer))[0] == 403
    assert ADMIN_KEY not in str(made)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"config": {}}, "config"),
        ({"config": {"topics": []}}, "config.topics"),
        ({"config": {"topics": [" "]}}, "config.topics"),
        ({"config": {"topics": ["x"], "more": 1}}, "config"),
        ({"type": "custom_regex", "config": {"patterns": ["(a"]}}, "config.patterns[0]"),
        ({"type": "custom_regex", "config": {"patterns": ["a)(b"]}}, "config.patterns[0]"),
        ({"type": "custom_regex", "config": {"patterns": ["x", "(?=a)"]}}, "config.patterns[1]"),
        ({"type": "custom_regex", "config": {"patterns": [r"((\pL{0,31}){0,31})x"]}}, "config.patterns[0]"),
        ({"type": "custom_regex", "config": {"patterns": ["x" * 900] * 10}}, "config.patterns"),
        ({"type": "pii", "config": {"entities": ["shoe_size"]}}, "config.entities[0]"),
        ({"type": "max_length", "action": "redact", "config": {"maxCharacters": 5}}, "action"),
        ({"type": "json_schema", "config": {"schema": {}}}, "appliesTo"),
        ({"type": "json_schema", "appliesTo": "output", "config": {"schema": {"type": 5}}}, "config.schema"),
        (
            {
                "type": "json_schema",
                "appliesTo": "output",
                "config": {"schema": {"$ref": "http://127.0.0.1/x"}},
            },
            "config.schema",
        ),
        ({"type": "webhook", "config": {"url": "ftp://x.example"}}, "config.url"),
        ({"type": "webhook", "config": {"url": "https://user:pw@x.example"}}, "config.url"),
        ({"type": "webhook", "config": {"url": "https://10.1.2.3/judge"}}, "config.url"),
        ({"type": "webhook", "config": {"url": "http://0x7f000001:8080"}}, "config.url"),
        ({"type": "webhook", "config": {"url": "http://[::ffff:169.254.169.254]/"}}, "config.url"),
        ({"config": {"topics": ["x"], "replacement": '"'}}, "config.replacement"),
        ({"name": "a\nb"}, "name"),
        ({"type": "magic"}, "type"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(gateway: Any, fields: Any, param: str) -> None:
    """400 `validation_error` with `param`; nothing is saved."""
    status, body = await call(gateway, "POST", "/guardrails", {**WORDS, **fields})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", param)
    assert (await call(gateway, "GET", "/guardrails"))[1] == []


async def test_names_are_unique(gateway: Any) -> None:
    """409 for a second one."""
    assert (await call(gateway, "POST", "/guardrails", WORDS))[0] == 201
    assert (await call(gateway, "POST", "/guardrails", WORDS))[0] == 409


async def test_guardrails_can_be_tried(gateway: Any, upstream: MockUpstream) -> None:
    """All that hold, or one that is not saved; nobody is asked, and nothing is kept."""
    for action, name in (("block", "words"), ("redact", "cards")):
        config = WORDS if action == "block" else {"type": "pii", "config": {"entities": ["credit_card"]}}
        assert (await call(gateway, "POST", "/guardrails", {**config, "name": name, "action": action}))[
            0
        ] == 201
    ask = {"texts": ["no. 4111 1111", " 1111 1111!"]}
    status, verdict = await call(gateway, "POST", "/guardrails/test", ask)
    assert (status, verdict["outcome"], verdict["texts"]) == (200, "redacted", ["no. [REDACTED]", "!"])
    assert {one["name"]: one["found"] for one in verdict["guardrails"]} == {"words": 0, "cards": 1}
    _, verdict = await call(gateway, "POST", "/guardrails/test", {"texts": ["fal", "con"]})
    assert (verdict["outcome"], verdict["texts"]) == ("blocked", None)
    trial = {**WORDS, "config": {"topics": ["eagle"]}, "shadow": True}
    _, verdict = await call(gateway, "POST", "/guardrails/test", {"texts": ["an eagle"], "guardrail": trial})
    assert verdict["outcome"] == "passed"
    assert verdict["guardrails"] == [
        {"id": None, "name": "words", "type": "block_topics", "action": "block", "shadow": True, "found": 1,
         "wasAsked": True}
    ]  # fmt: skip
    bad = {"texts": ["x"], "guardrail": {**WORDS, "config": {}}}
    status, body = await call(gateway, "POST", "/guardrails/test", bad)
    assert (status, body["error"]["param"]) == (400, "guardrail.config")
    assert upstream.seen == []
    assert len((await call(gateway, "GET", "/guardrails"))[1]) == 2


async def test_explain_says_what_would_become_of_a_request(gateway: Any, upstream: MockUpstream) -> None:
    """Which guardrail would refuse or change it, and which looks at the reply; nothing is sent."""
    _, found = await call(gateway, "POST", "/explain", {"body": CHAT})
    assert "no guardrails" in str(found)
    pii = {"name": "cards", "type": "pii", "action": "redact", "appliesTo": "output"}
    for body in (WORDS, pii):
        assert (await call(gateway, "POST", "/guardrails", body))[0] == 201
    status, found = await call(gateway, "POST", "/explain", {"body": CHAT})
    assert status == 200
    text = str(found)
    assert "guardrail_blocked" in text
    assert "judges the reply (redact)" in text
    assert upstream.seen == []


class People:
    """Who comes with `Bearer developer` has that role, and all scopes."""

    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        role = exchange.headers["authorization"].removeprefix("Bearer ")
        if role not in {"viewer", "developer", "admin"}:
            return None
        return Principal(key_id=f"key_{role}", scopes=ADMINISTRATOR.scopes, role=role)


async def test_a_webhooks_address_is_the_admins(raven: Any) -> None:
    """It may hold a credential: others see that there is one."""
    gateway = await raven((People(),), base=("guardrails", "demo"))
    url = "https://judge.example/?key=abc"
    hook = {"name": "hook", "type": "webhook", "config": {"url": url, "timeoutMs": 5}}
    status, made = await call(gateway, "POST", "/guardrails", hook)
    assert (status, made["config"]["url"]) == (201, url)
    for role in ("viewer", "developer", "admin"):
        headers = {"Authorization": f"Bearer {role}"}
        for path in ("/guardrails", f"/guardrails/{made['id']}"):
            status, shown = await call(gateway, "GET", path, **headers)
            assert status == 200
            (one,) = shown if isinstance(shown, list) else [shown]
            assert one["config"] == {"url": url if role == "admin" else "(hidden)", "timeoutMs": 5}


async def test_a_webhook_within_the_network_takes_who_runs_the_gateway(raven: Any) -> None:
    """It is refused when it is tried, too, and taken where the config allows it."""
    hook = {"name": "hook", "type": "webhook", "config": {"url": "http://10.1.2.3/"}}
    gateway = await raven(base=("guardrails", "demo"))
    status, answer = await call(gateway, "POST", "/guardrails/test", {"texts": ["a"], "guardrail": hook})
    assert (status, answer["error"]["param"]) == (400, "guardrail.config.url")
    gateway = await raven(base=("guardrails", "demo"), config={"allow_private_upstreams": True})
    assert (await call(gateway, "POST", "/guardrails", hook))[0] == 201
