"""Money through a real gateway: nobody spends what is not there, nothing is charged twice or kept."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import FormData

from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

PRICES = {"m-1": {"input": "1000", "output": "2000"}, "cheap": {"input": "0.1", "output": "0.1"}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COST = Decimal("0.02")  # 10 x $0.001 + 5 x $0.002
CHAT = "/v1/chat/completions"


def reply(usage: Any = USAGE, **fields: Any) -> ScriptedReply:
    message = {"role": "assistant", "content": "Hello there, my friend."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice]}
    return ScriptedReply.of_json(document | ({"usage": usage} if usage is not None else {}), **fields)


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "mock/m-1", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]} | fields


class Bank:
    """A gateway with the meter on, prices, and an administrator's view of the money."""

    def __init__(self, gateway: Any, upstream: Any) -> None:
        self.gateway = gateway
        self.upstream = upstream

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.gateway.client.request(method, path, json=body) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    async def chat(self, **fields: Any) -> tuple[int, Any, Any]:
        async with self.gateway.client.post(CHAT, json=question(**fields)) as answer:
            body = await answer.read()
            return answer.status, answer.headers, body

    async def budget(self, limit: str, **fields: Any) -> dict[str, Any]:
        status, budget = await self.ask("POST", "/budgets", {"name": "test", "limit": limit} | fields)
        assert status == 201, budget
        return budget

    async def grant(self, amount: str) -> None:
        assert (await self.ask("POST", "/credits/grants", {"amount": amount}))[0] == 201

    async def credits(self) -> tuple[str, str]:
        _, shown = await self.ask("GET", "/credits")
        return shown["balance"], shown["reserved"]

    async def rows(self, table: str = "exchanges") -> list[dict[str, Any]]:
        await self.gateway.gateway.storage.flush()
        return await self.gateway.gateway.storage.fetch_all(f"SELECT * FROM {table} ORDER BY id")

    async def check_invariants(self) -> None:
        """I1 stored spend = the ledger's; I2 nothing reserved; counters = entries."""
        await self.upstream.wait_until(lambda: not len(self.gateway.gateway.observation._finished))
        spent = sum(row["cost_nano"] for row in await self.rows())
        entries = await self.rows("entries")
        assert spent == sum(entry["amount_nano"] for entry in entries if entry["kind"] == "charge")
        assert (await self.credits())[1] == "0"
        _, budgets = await self.ask("GET", "/budgets")
        assert all(budget["reserved"] == "0" for budget in budgets)
        _, found = await self.ask("POST", "/credits/reconcile")
        assert found == {"drifts": []}


@pytest.fixture
async def bank(raven: Any, upstream: Any, tmp_path: Path) -> Any:
    path = tmp_path / "catalog.json"
    path.write_bytes(msgspec.json.encode(PRICES))

    async def start(**settings: Any) -> Bank:
        config: dict[str, Any] = {"catalog": str(path), "access_log": False}
        config["plugin"] = {"meter": {"allow_unpriced": False} | settings}
        principal = settings.pop("principal", ADMINISTRATOR)
        gateway = await raven(
            upstreams=[upstream], base=("meter", "openai"), config=config, principal=principal
        )
        return Bank(gateway, upstream)

    return start


async def test_a_charge_is_exact_and_has_a_receipt(bank: Any, upstream: Any) -> None:
    """The cost is on the reply, in the ledger, and in the receipt that the key can fetch."""
    held = await bank()
    await held.grant("1")
    upstream.script(reply())
    status, headers, _ = await held.chat()
    assert (status, headers["X-Raven-Cost"]) == (200, "0.02")
    assert await held.credits() == ("0.98", "0")
    _, receipt = await held.ask("GET", f"/v1/requests/{headers['X-Request-ID']}")
    assert (receipt["cost"], receipt["cost_nano"], receipt["usage"]["total_tokens"]) == (
        "0.02",
        20_000_000,
        15,
    )
    _, entries = await held.ask("GET", "/credits/ledger")
    assert [(entry["kind"], entry["amount"]) for entry in entries] == [("charge", "0.02"), ("grant", "1")]
    assert (await held.ask("GET", "/v1/requests/req_of_nobody"))[0] == 404
    await held.check_invariants()


async def test_t67_a_budget_for_ten_admits_ten_of_five_hundred(bank: Any, upstream: Any) -> None:
    """All at once; the others are a 402 that says why, and the spend is exact."""
    held = await bank()
    cost = 12 * 1_000_000 + 0  # what the estimate comes to is found out below
    upstream.script(reply())
    await held.budget("1000")
    await held.chat()
    _, [budget] = await held.ask("GET", "/budgets")
    assert budget["spent"] == str(COST)
    _, [held_for_one] = await _hold(held, upstream)
    cost = held_for_one["reservedNano"]
    limit = Decimal(10 * cost) / 10**9 + COST + COST  # ten reservations beside what was spent by then
    await held.ask("PATCH", f"/budgets/{budget['id']}", {"limit": str(limit)})
    seen = len(upstream.seen)
    upstream.script(*[reply(delay_s=0.5) for _ in range(500)])
    results = await asyncio.gather(*(held.chat() for _ in range(500)))
    statuses = [status for status, _, _ in results]
    assert (statuses.count(200), statuses.count(402)) == (10, 490)
    assert len(upstream.seen) - seen == 10
    refused = msgspec.json.decode(next(body for status, _, body in results if status == 402))["error"]
    assert (refused["type"], refused["code"]) == ("billing_error", "budget_exceeded")
    _, [after] = await held.ask("GET", "/budgets")
    assert (after["spent"], after["reserved"]) == (str(12 * COST), "0")
    await held.check_invariants()


async def _hold(held: Bank, upstream: Any) -> tuple[int, Any]:
    """Look at the budgets while one exchange is under way, and let it end."""
    upstream.script(reply(delay_s=0.3))
    running = asyncio.ensure_future(held.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) >= 2)
    found = await held.ask("GET", "/budgets")
    await running
    return found


async def test_no_money_is_a_402(bank: Any, upstream: Any) -> None:
    """Without any grant where organisations pay first, and when the balance is used up."""
    held = await bank(prepaid=True)
    status, _, body = await held.chat()
    error = msgspec.json.decode(body)["error"]
    assert (status, error["code"], error["type"]) == (402, "insufficient_balance", "billing_error")
    await held.grant("0.12")
    upstream.script(*[reply() for _ in range(9)])
    statuses = [(await held.chat())[0] for _ in range(9)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert Decimal((await held.credits())[0]) >= 0
    await held.check_invariants()


async def test_t82_a_provider_that_ignores_the_limit_is_paid_and_stops_the_next(
    bank: Any, upstream: Any
) -> None:
    """The real cost is booked; the overshoot is that one exchange's."""
    held = await bank()
    await held.grant("0.2")
    upstream.script(reply({"prompt_tokens": 10, "completion_tokens": 500, "total_tokens": 510}), reply())
    assert (await held.chat())[0] == 200
    assert await held.credits() == ("-0.81", "0")
    assert (await held.chat())[0] == 402
    await held.check_invariants()


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, "0"),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 999}, "0.02"),
        ({"prompt_tokens": -5, "completion_tokens": 5}, None),
        ({"prompt_tokens": "many", "completion_tokens": None}, None),
        ({"prompt_tokens": 1e308, "completion_tokens": 1}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_t71_usage_that_makes_no_sense(
    bank: Any, upstream: Any, usage: Any, charged: str | None
) -> None:
    """Zero stays zero; nonsense is estimated, marked, never a credit and never a crash."""
    held = await bank()
    await held.grant("10")
    upstream.script(reply(usage))
    assert (await held.chat())[0] == 200
    [row] = [row for row in await held.rows() if row["face"] == "openai-chat"]
    if charged is not None:
        assert (Decimal(row["cost_nano"]) / 10**9, row["estimated"]) == (Decimal(charged), 0)
    else:
        assert (row["cost_nano"] > 0, row["estimated"]) == (True, 1)
    await held.check_invariants()


async def test_t69_a_model_without_a_price(bank: Any, upstream: Any) -> None:
    """400 before anybody is asked, unless unpriced models are allowed: then it costs nothing and says so."""
    held = await bank()
    status, _, body = await held.chat(model="mock/nobody-7")
    error = msgspec.json.decode(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "unknown_model_pricing", "model")
    assert upstream.seen == []
    open_handed = await bank(allow_unpriced=True)
    upstream.script(reply())
    status, headers, _ = await open_handed.chat(model="mock/nobody-7")
    assert (status, "X-Raven-Cost" in headers) == (200, False)
    [row] = await open_handed.rows()
    assert (row["cost_nano"], row["priced"]) == (0, 0)


async def test_machines_of_ones_own_need_no_price(raven: Any, upstream: Any) -> None:
    """A server without a key on a private address is nobody's to bill; one elsewhere may be."""
    own = {"name": "own", "provider": "vllm", "base_url": upstream.url}
    cloud = {"name": "cloud", "provider": "vllm", "base_url": "https://llm.example.com/v1"}
    config = {"plugin": {"meter": {"allow_unpriced": False}}}
    gateway = await raven(upstreams=[own, cloud], base=("meter", "openai"), config=config)
    upstream.script(reply())
    for model, expected in (("own/any", 200), ("cloud/any", 400)):
        async with gateway.client.post(CHAT, json=question(model=model)) as answer:
            assert answer.status == expected


async def test_t75_retries_are_charged_once(bank: Any, upstream: Any) -> None:
    """A failure costs nothing, and what is reserved is given back each time."""
    held = await bank()
    await held.grant("1")
    upstream.script(reply().__class__(status=500, body=b"no"), reply())
    assert (await held.chat())[0] == 500
    assert await held.credits() == ("1", "0")
    assert (await held.chat())[0] == 200
    assert await held.credits() == ("0.98", "0")
    await held.check_invariants()


async def test_t73_a_client_that_leaves_pays_for_what_was_produced(bank: Any, upstream: Any) -> None:
    """The record is there at once, with an estimate; nothing stays reserved."""
    held = await bank()
    await held.grant("10")
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    delta = {"index": 0, "delta": {"content": "words and words " * 10}, "finish_reason": None}
    frame = b"data: " + msgspec.json.encode(chunk | {"choices": [delta]}) + b"\n\n"
    upstream.script(ScriptedReply(chunks=[frame] * 3 + [30.0], headers={"Content-Type": "text/event-stream"}))
    async with held.gateway.client.post(CHAT, json=question(stream=True)) as answer:
        await answer.content.readany()
        answer.close()
    await upstream.wait_until(lambda: not held.gateway.gateway.in_flight)
    [row] = [row for row in await held.rows() if row["face"] == "openai-chat"]
    assert (row["outcome"], row["estimated"]) == ("cancelled", 1)
    assert row["completion_tokens"] >= 30
    assert row["cost_nano"] > 0
    await held.check_invariants()


async def test_a_budget_of_a_key_is_that_keys(bank: Any, upstream: Any) -> None:
    held = await bank()
    await held.budget("0.001", scope="key", targetId="key_of_another")
    upstream.script(reply())
    assert (await held.chat())[0] == 200
    await held.budget("0.001", scope="key", targetId=ADMINISTRATOR.key_id, name="mine", period="daily")
    assert (await held.chat())[0] == 402
    await held.check_invariants()


async def test_a_new_budget_counts_what_was_spent_in_its_period(bank: Any, upstream: Any) -> None:
    held = await bank()
    upstream.script(reply())
    await held.chat()
    budget = await held.budget("5", alertThreshold=0.8)
    assert (budget["spent"], budget["remaining"], budget["limitNano"]) == ("0.02", "4.98", 5 * 10**9)
    assert budget["resetsAt"].endswith("-01T00:00:00Z")


async def test_budgets_can_be_managed(bank: Any) -> None:
    """What GET gave can be sent back; names are unique; bad fields are named; a deleted one is gone."""
    held = await bank()
    budget = await held.budget("5", period="weekly")
    path = f"/budgets/{budget['id']}"
    assert await held.ask("PATCH", path, budget) == (200, budget)
    assert await held.ask("GET", path) == (200, budget)
    assert (await held.ask("PATCH", path, {"limit": "7.5"}))[1]["limit"] == "7.5"
    assert (await held.ask("POST", "/budgets", {"name": "test", "limit": "1"}))[0] == 409
    for body, param in (
        ({"name": "x"}, "limit"),
        ({"name": "x", "limit": 5}, "limit"),
        ({"name": "x", "limit": "-5"}, "limit"),
        ({"name": "x", "limit": "5", "period": "hourly"}, "period"),
        ({"name": "x", "limit": "5", "scope": "key"}, "targetId"),
        ({"name": "x", "limit": "5", "alertThreshold": 2}, "alertThreshold"),
    ):
        status, answer = await held.ask("POST", "/budgets", body)
        assert (status, answer["error"]["param"]) == (400, param), answer
    assert await held.ask("DELETE", path) == (200, {"success": True})
    assert (await held.ask("GET", path))[0] == 404


async def test_the_ledger_cannot_be_changed(bank: Any) -> None:
    """By nobody who has the database either: corrections are new entries."""
    held = await bank()
    await held.grant("1")
    storage = held.gateway.gateway.storage
    replace = """INSERT OR REPLACE INTO entries
                   (reference, kind, at, debit, credit, amount_nano, organization_id)
                 SELECT reference, kind, at, debit, credit, 5, organization_id FROM entries"""
    for sql in ("UPDATE entries SET amount_nano = 1", "DELETE FROM entries", replace):
        with pytest.raises(Exception, match="never"):
            await storage.execute(sql)
    await held.grant("-0.25")
    assert await held.credits() == ("0.75", "0")
    _, answer = await held.ask("POST", "/credits/grants", {"amount": "0"})
    assert answer["error"]["param"] == "amount"


async def test_nothing_is_lost_over_a_reload(bank: Any, upstream: Any) -> None:
    """Counters, budgets and what is under way live on."""
    held = await bank()
    await held.grant("1")
    upstream.script(reply(delay_s=0.4), reply())
    running = asyncio.ensure_future(held.chat())  # noqa: TID251
    await upstream.wait_until(lambda: bool(upstream.seen))
    await held.gateway.reload()
    assert Decimal((await held.credits())[1]) > 0
    assert (await running)[0] == 200
    assert (await held.chat())[0] == 200
    assert await held.credits() == ("0.96", "0")
    await held.check_invariants()


async def test_t80_a_mixed_load_leaves_nothing_reserved(bank: Any, upstream: Any) -> None:
    """Good and bad replies, refusals and departures: the books agree at the end."""
    held = await bank(allow_unpriced=True)
    await held.grant("100")
    await held.budget("50", scope="key", targetId=ADMINISTRATOR.key_id)
    models = ("m-1", "fx-500", "fx-429", "fx-reset", "fx-short", "nobody")

    async def one(number: int) -> None:
        model = models[number % len(models)]
        if number % 7 == 0:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held.chat(model="mock/fx-silent"), 0.2)
            return
        if model == "m-1":
            await held.chat(model="mock/cheap", stream=number % 2 == 0)
        else:
            await held.chat(model=f"mock/{model}")

    for batch in range(10):
        await asyncio.gather(*(one(batch * 30 + number) for number in range(30)))
    await upstream.wait_until(lambda: not held.gateway.gateway.in_flight)
    await held.check_invariants()


async def test_grants_do_not_add_up_to_more_than_books_can_hold(bank: Any) -> None:
    """SQLite's sums end at 64 bits, and with them every look at the books."""
    held = await bank()
    for amount, status in (("999999999", 201), ("999999999", 400), ("-999999999", 201), ("-999999999", 201),
                           ("-999999999", 400), ("1", 201)):  # fmt: skip
        got, body = await held.ask("POST", "/credits/grants", {"amount": amount})
        assert got == status, (amount, body)
        if status == 400:
            assert (body["error"]["type"], body["error"]["param"]) == ("validation_error", "amount")
    assert await held.credits() == ("-999999998", "0")


async def test_who_changed_the_books_stands_in_the_audit_log(bank: Any) -> None:
    """A grant with its amount, in the log of the organisation that got it; and a reconciliation."""
    held = await bank()
    _, granted = await held.ask("POST", "/credits/grants", {"amount": "5", "note": "June"})
    assert (await held.ask("POST", "/credits/reconcile"))[0] == 200
    reconciled, grant = (await held.ask("GET", "/audit-logs"))[1]
    assert (grant["action"], grant["targetId"]) == ("credits.grant", granted["id"])
    assert grant["changes"] == {"amount": {"from": None, "to": "5"}, "note": {"from": None, "to": "June"}}
    assert (grant["actor"], reconciled["action"]) == (ADMINISTRATOR.key_id, "credits.reconcile")


async def test_what_costs_nothing_passes_without_money(bank: Any, upstream: Any) -> None:
    """Files and lists are read and cleaned up by who owes; what has no known price does not pass."""
    held = await bank(allow_unpriced=True)
    files = {"data": [], "object": "list"}
    upstream.script(
        reply({"prompt_tokens": 10, "completion_tokens": 500, "total_tokens": 510}),
        ScriptedReply.of_json({"id": "file-1", "object": "file", "purpose": "batch"}),
        *[ScriptedReply.of_json(files)] * 3,
    )
    await held.grant("0.2")
    assert (await held.chat())[0] == 200
    form = FormData({"purpose": "batch"})
    form.add_field("file", b"{}", filename="a.jsonl")
    async with held.gateway.client.post("/v1/files", data=form) as put:
        assert put.status == 200, await put.text()
    for path in ("/v1/files", "/v1/files/file-1", "/v1/batches"):
        async with held.gateway.client.get(path) as got:
            assert got.status == 200, await got.text()
    assert (await held.credits())[1] == "0"
    batch = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    unpriced = {"model": "mock/nobody-knows-its-price", "messages": [{"role": "user", "content": "hi"}]}
    for path, body in (("/v1/batches", batch), ("/v1/chat/completions", unpriced)):
        status, error = await held.ask("POST", path, body)
        assert (status, error["error"]["message"]) == (
            402, "The balance does not cover this request: it is used up.",
        )  # fmt: skip
    await held.check_invariants()
