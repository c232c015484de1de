"""`POST /explain`: it says what would become of a request, agrees with what does, and touches nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy import Finding, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

CHAT = "/v1/chat/completions"
PRICES = {"m-1": {"input": "1000", "output": "2000"}, "m-2": {"input": "1", "output": "2"}}
LIMITS = {"default_plan": "small"}


@pytest.fixture
async def start(raven: Any, upstream: Any, tmp_path: Path) -> Callable[..., Any]:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))

    async def start(*plugins: Any, principal: Principal = ADMINISTRATOR, **config: Any) -> Any:
        table = {"catalog": str(catalog), "plans": {"small": {"requests_per_minute": 2}}} | config
        base = ("access", "limits", "byok", "meter", "alerts", "openai")
        return await raven(plugins, upstreams=[upstream], base=base, config=table, principal=principal)

    return start


async def explain(gateway: Any, model: str = "m-1", status: int = 200, **fields: Any) -> Any:
    asked = {"body": question(model=model)} | fields
    async with gateway.client.post("/explain", json=asked) as answer:
        told = msgspec.json.decode(await answer.read())
        assert answer.status == status, told
        return told


def question(model: str = "m-1") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def rules(told: Any) -> dict[str, str]:
    return {one["rule"]: one["verdict"] for one in told["findings"]}


async def test_every_rule_says_what_it_would_do(start: Any, upstream: Any) -> None:
    """And the request is not sent, not counted and not held for."""
    gateway = await start(plugin={"limits": LIMITS, "meter": {}})
    for path, body in (
        ("/credits/grants", {"amount": "1"}),
        ("/budgets", {"name": "team", "limit": "5"}),
        ("/budgets", {"name": "other", "limit": "5", "scope": "key", "targetId": "key_x"}),
    ):
        async with gateway.client.post(path, json=body) as answer:
            assert answer.status == 201, await answer.text()
    for _ in range(5):
        told = await explain(gateway)
        assert told["outcome"] == "allowed"
    assert told["error"] is None
    assert told["face"] == "openai-chat"
    assert told["model"] == "m-1"
    assert told["key"]["id"] == ADMINISTRATOR.key_id
    [place] = told["candidates"]
    assert (place["upstream"], place["model"], place["key"]) == ("mock", "m-1", "stored")
    found = rules(told)
    assert found["route"] == found["scope"] == found["body"] == found["model"] == "allows"
    assert found["requests per minute of this key"] == "allows"
    assert found["price of mock/m-1"] == "allows"
    assert found["balance"] == found["budget 'team'"] == "allows"
    assert found["budget 'other'"] == "passes_over"
    price = next(one for one in told["findings"] if one["rule"] == "price of mock/m-1")
    assert price["details"]["prices"] == {"input": "1000", "output": "2000"}
    assert not upstream.seen
    async with gateway.client.get("/credits") as answer:
        assert (await answer.json())["reserved"] == "0"


@pytest.mark.parametrize(
    ("fields", "rule", "status", "code"),
    [
        ({"path": "/v1/nothing"}, "route", 404, "not_found"),
        ({"method": "GET"}, "route", 405, "method_not_allowed"),
        ({"body": None}, "body", 400, "bad_request"),
        ({"body": {"model": "m-1"}}, "body", 400, "bad_request"),
        ({}, "balance", 402, "insufficient_balance"),
        ({"headers": {"X-Provider-Key": " "}}, "X-Provider-Key", 400, "bad_request"),
    ],
    ids=["path", "method", "no body", "bad body", "no money", "byok"],
)
async def test_the_first_refusal_is_what_the_client_would_get(
    start: Any, fields: Any, rule: str, status: int, code: str
) -> None:
    gateway = await start(plugin={"meter": {"prepaid": True}})
    told = await explain(gateway, **fields)
    assert told["outcome"] == "refused"
    assert (told["error"]["rule"], told["error"]["status"], told["error"]["code"]) == (rule, status, code)


async def test_it_agrees_with_what_happens(start: Any, upstream: Any) -> None:
    """A limit that is used up and a budget that is spent refuse there as here."""
    gateway = await start(plugin={"limits": LIMITS, "meter": {}})
    reply = ScriptedReply.of_json({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    upstream.script(reply, reply)
    for _ in range(2):
        async with gateway.client.post(CHAT, json=question(model="m-1")) as answer:
            assert answer.status == 200
    told = await explain(gateway)
    assert (told["error"]["status"], told["error"]["code"]) == (429, "rate_limit_exceeded")
    async with gateway.client.post(CHAT, json=question(model="m-1")) as answer:
        assert answer.status == 429


async def test_a_plugin_says_its_own_and_a_key_is_looked_up_by_its_id(start: Any) -> None:
    """Of the own organisation only; another's is not there."""
    weak = Principal(key_id="key_weak", organization_id="org_default", scopes=frozenset({"models:read"}))
    foreign = Principal(key_id="key_foreign", organization_id="org_b")

    class Hours:
        @hookimpl
        async def find_principal(self, key_id: str) -> Principal | None:
            return {"key_weak": weak, "key_foreign": foreign}.get(key_id)

        @hookimpl
        async def explain_exchange(self) -> list[Finding]:
            return [Finding(rule="hours", verdict="refuses", reason="Closed.", status=403, code="forbidden")]

    gateway = await start(Hours)
    told = await explain(gateway)
    assert told["error"]["plugin"] == "hours"
    told = await explain(gateway, keyId="key_weak")
    assert told["key"]["id"] == "key_weak"
    assert (told["error"]["rule"], told["error"]["code"]) == ("scope", "missing_scope")
    for unknown in ("key_foreign", "key_none"):
        told = await explain(gateway, keyId=unknown, status=404)
        assert told["error"]["param"] == "keyId"


async def test_no_secret_is_repeated(start: Any) -> None:
    """Credentials of the imagined request are passed over; a provider's key is only said to be there."""
    gateway = await start()
    headers = {"Authorization": "Bearer rk_live_needle", "X-Provider-Key": "sk-needle-0123456789"}
    told = await explain(gateway, headers=headers)
    assert "needle" not in str(told)
    assert told["candidates"][0]["key"] == "caller"
    await explain(gateway, status=400, colour="red")


@pytest.mark.parametrize("path", ["//[", "/[", "//x]/y?z", "/v1/%zz"])
async def test_a_path_that_nobody_serves_is_a_finding(start: Any, path: str) -> None:
    """Whatever is written there: it is the question, and no error of the gateway's."""
    told = await explain(await start(), path=path)
    assert (told["outcome"], rules(told)) == ("refused", {"route": "refuses"})
