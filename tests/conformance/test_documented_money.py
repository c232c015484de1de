"""What the published systems document of money: the formula, the refusals, usage, budgets and credits."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import ADMINISTRATOR, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import VendorStarter
from .documented import CHAT, REQUEST_ID, fits

PRICES = {
    "gpt-4o": {"input": "2.5", "output": "10", "multiplier": "1.1"},
    "gpt-4o-mini": {"input": "0.15", "output": "0.6", "cached_input": "0.075"},
    "k-1": {"input": "1", "output": "1"},
}
DOLLARS = re.compile(r"^-?[0-9]+(\.[0-9]{1,9})?$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
KEYLESS = ("meter", "byok", "openai", "demo")


@pytest.fixture
def priced(documented: VendorStarter, tmp_path: Path) -> VendorStarter:
    """Start the documented gateway with prices of our own; `rate` is the caller's multiplier."""
    path = tmp_path / "catalog.json"
    path.write_bytes(msgspec.json.encode(PRICES))

    async def start(rate: str | None = None, **options: Any) -> RunningGateway:
        settings = options.pop("meter", {"allow_unpriced": False})
        attributes = {"rate_multiplier": rate} if rate is not None else {}
        principal = msgspec.structs.replace(ADMINISTRATOR, attributes=attributes)
        config = {"catalog": str(path), "plugin": {"meter": settings}}
        return await documented(base=KEYLESS, principal=principal, config=config, **options)

    return start


def reply(prompt: int, completion: int, **fields: Any) -> ScriptedReply:
    message = {"role": "assistant", "content": "Hello!"}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
    return ScriptedReply.of_json(document | {"choices": choices, "usage": usage | fields})


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with gateway.client.request(method, path, json=body) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def chat(gateway: RunningGateway, **fields: Any) -> tuple[int, Any, Any]:
    async with gateway.client.post("/v1/chat/completions", json=CHAT | fields) as answer:
        return answer.status, answer.headers, msgspec.json.decode(await answer.read())


@pytest.mark.parametrize("rate", [None, "1", "0.8", "1.25", "0"])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "fast"])
@pytest.mark.parametrize(("prompt", "completion"), [(1000, 500), (1, 1), (0, 7), (123_457, 999)])
async def test_PK_the_formula(
    priced: VendorStarter, upstream: MockUpstream, rate: str | None, model: str, prompt: int, completion: int
) -> None:
    """PK: (tokens_in x in_price + tokens_out x out_price) / 1e6 x rate_multiplier x model multiplier."""
    gateway = await priced(rate)
    upstream.script(reply(prompt, completion))
    status, headers, _ = await chat(gateway, model=model)
    price = PRICES["gpt-4o-mini" if model == "fast" else model]
    tokens = prompt * Decimal(price["input"]) + completion * Decimal(price["output"])
    exact = tokens / 10**6 * Decimal(rate or 1) * Decimal(price.get("multiplier", 1))
    wanted = exact.quantize(Decimal(10) ** -9, "ROUND_HALF_UP")
    assert (status, Decimal(headers["X-Raven-Cost"])) == (200, wanted)
    _, receipt = await ask(gateway, "GET", f"/v1/requests/{headers['X-Request-ID']}")
    assert Decimal(receipt["cost"]) == Decimal(receipt["cost_nano"]) / 10**9 == wanted


async def test_PK_cached_tokens_have_their_own_price(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK: a part of the prompt that was cached costs its own price, and is counted once."""
    gateway = await priced()
    upstream.script(reply(1000, 0, prompt_tokens_details={"cached_tokens": 600}))
    _, headers, _ = await chat(gateway, model="gpt-4o-mini")
    assert headers["X-Raven-Cost"] == "0.000105"  # 400 x 0.15 + 600 x 0.075, per million


async def test_PK_no_balance(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK: without money a request is a 402 that says so, and the provider is not asked."""
    gateway = await priced(meter={"prepaid": True})
    status, _, body = await chat(gateway)
    assert status == 402
    error = {"type": "billing_error", "code": "insufficient_balance", "message": str, "status": 402}
    fits({"error": error | {"request_id": REQUEST_ID, "param": None}}, body)
    assert upstream.seen == []


async def test_PK_an_unknown_price(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK: a model without a price is a 400 that names the field, and the provider is not asked."""
    gateway = await priced()
    status, _, body = await chat(gateway, model="openai-main/gpt-nobody-knows")
    error = {"type": "invalid_request_error", "code": "unknown_model_pricing", "param": "model"}
    assert status == 400
    fits({"error": error | {"message": re.compile("no known price")}}, body)
    assert upstream.seen == []


async def test_PK_no_active_key_costs_nothing(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK: an upstream without a key is a 503; what was reserved is given back."""
    gateway = await priced()
    await ask(gateway, "POST", "/credits/grants", {"amount": "5"})
    status, _, body = await chat(gateway, model="k-1")
    assert status == 503
    fits({"error": {"code": "no_active_api_keys", "type": "upstream_error"}}, body)
    _, money = await ask(gateway, "GET", "/credits")
    assert (money["balance"], money["reserved"]) == ("5", "0")
    assert upstream.seen == []


async def test_RX_usage_says_what_it_cost(priced: VendorStarter, upstream: MockUpstream) -> None:
    """RX: the cost of each model, of each day and in all, exact decimals in US dollars."""
    gateway = await priced()
    for model, prompt, completion in (("gpt-4o-mini", 1000, 100), ("gpt-4o-mini", 1, 0), ("gpt-4o", 100, 10)):
        upstream.script(reply(prompt, completion))
        assert (await chat(gateway, model=model))[0] == 200
    _, usage = await ask(gateway, "GET", "/v1/usage")
    breakdown = {
        "gpt-4o-mini": {"tokens": 1101, "requests": 2, "cost": "0.00021015"},
        "gpt-4o": {"tokens": 110, "requests": 1, "cost": "0.000385"},
    }
    assert usage["breakdown"] == breakdown
    assert usage["total_cost"] == "0.00059515"
    assert [day["cost"] for day in usage["daily_breakdown"]] == ["0.00059515"]


async def test_PK_RX_a_receipt(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK RX: each request of a key has one, by the id in its reply; another key's is not there."""
    gateway = await priced()
    upstream.script(reply(10, 20))
    _, headers, _ = await chat(gateway)
    path = f"/v1/requests/{headers['X-Request-ID']}"
    status, receipt = await ask(gateway, "GET", path)
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "estimated": False}
    wanted = {"id": REQUEST_ID, "object": "request", "created": int, "model": "gpt-4o", "usage": usage}
    wanted |= {"provider": "openai-main", "status": 200, "outcome": "completed", "stream": False}
    assert status == 200
    fits(wanted | {"attempts": 1, "cost": DOLLARS, "cost_nano": int, "priced": True}, receipt)
    assert (await ask(gateway, "GET", "/v1/requests/req_000000000000"))[0] == 404


BUDGET = {
    "name": "this month",
    "scope": "organization",
    "limit": "10",
    "period": "monthly",
    "alertThreshold": 0.8,
}


async def test_R_PK_a_budget(priced: VendorStarter, upstream: MockUpstream) -> None:
    """R PK: created, read, changed, listed and deleted in the documented shape; what GET gave can be sent."""
    gateway = await priced()
    shape = BUDGET | {"id": re.compile("^bud_"), "targetId": "org_default", "resetsAt": TIME}
    shape |= {"spent": DOLLARS, "reserved": "0", "remaining": DOLLARS, "limitNano": 10 * 10**9}
    shape |= {"spentNano": int, "reservedNano": 0, "remainingNano": int}
    status, made = await ask(gateway, "POST", "/budgets", BUDGET)
    assert status == 201
    fits(shape, made)
    path = f"/budgets/{made['id']}"
    upstream.script(reply(1000, 100))
    await chat(gateway)
    status, read = await ask(gateway, "GET", path)
    fits(shape | {"spent": "0.00385", "remaining": "9.99615"}, read)
    assert await ask(gateway, "PATCH", path, read) == (200, read)
    assert await ask(gateway, "GET", "/budgets") == (200, [read])
    status, refused = await ask(gateway, "POST", "/budgets", BUDGET)
    assert (status, refused["error"]["type"]) == (409, "conflict_error")
    status, bad = await ask(gateway, "POST", "/budgets", BUDGET | {"name": "b", "period": "hourly"})
    assert status == 400
    fits({"error": {"type": "validation_error", "param": "period"}}, bad)
    assert await ask(gateway, "DELETE", path) == (200, {"success": True})
    assert (await ask(gateway, "GET", path))[0] == 404


@pytest.mark.parametrize("period", ["daily", "weekly", "monthly", "total"])
async def test_PK_a_budget_that_is_used_up(
    priced: VendorStarter, upstream: MockUpstream, period: str
) -> None:
    """PK: 402 `budget_exceeded` by the budget's name, before the provider is asked."""
    gateway = await priced()
    await ask(gateway, "POST", "/budgets", BUDGET | {"limit": "0.000001", "period": period})
    status, _, body = await chat(gateway)
    assert status == 402
    fits({"error": {"type": "billing_error", "code": "budget_exceeded"}}, body)
    assert "this month" in body["error"]["message"]
    assert upstream.seen == []
    _, [shown] = await ask(gateway, "GET", "/budgets")
    assert (shown["resetsAt"] is None) == (period == "total")


async def test_PK_credits(priced: VendorStarter, upstream: MockUpstream) -> None:
    """PK: grants are added and taken back, charges are entries, and the balance is their sum."""
    gateway = await priced()
    status, grant = await ask(gateway, "POST", "/credits/grants", {"amount": "25.00", "note": "June"})
    assert status == 201
    fits({"id": str, "amount": "25", "amountNano": 25 * 10**9, "note": "June", "createdAt": TIME}, grant)
    await ask(gateway, "POST", "/credits/grants", {"amount": "-5"})
    upstream.script(reply(1000, 100))
    await chat(gateway)
    _, money = await ask(gateway, "GET", "/credits")
    fits({"balance": "19.99615", "balanceNano": 19_996_150_000, "reserved": "0", "reservedNano": 0}, money)
    _, entries = await ask(gateway, "GET", "/credits/ledger")
    kinds = [(entry["kind"], entry["amount"], entry["note"]) for entry in entries]
    assert kinds == [("charge", "0.00385", None), ("grant", "5", None), ("grant", "25", "June")]
    fits({"id": int, "reference": REQUEST_ID, "createdAt": TIME, "debit": str, "credit": str}, entries[0])
    _, page = await ask(gateway, "GET", f"/credits/ledger?limit=1&after={entries[0]['id']}")
    assert page == [entries[1]]
    for body, param in (({"amount": 5}, "amount"), ({"amount": "x"}, "amount"), ({"sum": "5"}, None)):
        status, refused = await ask(gateway, "POST", "/credits/grants", body)
        assert (status, refused["error"]["type"]) == (400, "validation_error"), refused
        assert param is None or refused["error"]["param"] == param


@pytest.mark.parametrize("path", ["/credits", "/budgets", "/credits/ledger"])
async def test_R_money_is_an_administrators(documented: VendorStarter, path: str) -> None:
    """R: a key without an admin scope manages no money."""
    scopes = frozenset({"chat:write", "usage:read", "models:read"})
    gateway = await documented(base=KEYLESS, principal=msgspec.structs.replace(ADMINISTRATOR, scopes=scopes))
    status, body = await ask(gateway, "GET", path)
    assert (status, body["error"]["code"]) == (403, "missing_scope")
