"""What administrators and keys can ask of the money: credits, budgets, receipts, reconciliation.

JSON of the management API (contract section 8): camelCase, ISO times, amounts as decimal strings in US
dollars with integer twins in nano-dollars. Each caller sees its own organisation.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from raven_proxy import (
    Exchange,
    Face,
    InvalidRequest,
    NotFound,
    Principal,
    Reply,
    Unauthenticated,
    read_nothing,
)
from raven_proxy.counters import Counters
from raven_proxy.judging import judge
from raven_proxy.storage import Row, Storage

from . import ledger
from .books import Books
from .budgets import TOPIC, Budget, BudgetStore, NewBudget
from .pricing import NANO, dollars

__all__ = ["Management", "faces"]

T = TypeVar("T")

_LEDGER_PAGE = 100
_decode_budget = msgspec.json.Decoder(NewBudget).decode


class _Grant(msgspec.Struct, forbid_unknown_fields=True):
    amount: Annotated[str, Meta(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$")]
    note: Annotated[str, Meta(max_length=500)] | None = None


_decode_grant = msgspec.json.Decoder(_Grant).decode
_REMEDIES = {
    "amount": 'Send US dollars as text, such as "25.00".',
    "limit": 'Send US dollars as text, such as "25.00".',
}


class Management:
    """The routes, on one gateway's storage and counters."""

    def __init__(self, storage: Storage, counters: Counters, books: Books) -> None:
        self._storage = storage
        self._counters = counters
        self._books = books
        self._budgets = BudgetStore(storage)

    # -- credits -------------------------------------------------------------------

    async def show_credits(self, exchange: Exchange) -> Reply:
        """`GET /credits`: what the organisation has left, and what of it is reserved."""
        organization = _caller(exchange).organization_id
        await self._storage.flush()
        balance = await ledger.balance_of(self._storage, organization)
        held = await self._counters.held(f"spent:{organization}")
        return _json(_amounts(balance=balance, reserved=held))

    async def grant(self, exchange: Exchange) -> Reply:
        """`POST /credits/grants`: put money on the organisation's account; less than 0 takes it back."""
        asked = _read(_decode_grant, exchange.body, _REMEDIES)
        amount = int(Decimal(asked.amount) * NANO)
        if not amount:
            raise InvalidRequest("amount: grant more than nothing.", type="validation_error", param="amount")
        organization = _caller(exchange).organization_id
        entry = ledger.grant(
            "grant_" + secrets.token_hex(10),
            amount,
            int(time.time()),
            organization_id=organization,
            note=asked.note,
        )
        async with self._storage.transaction() as transaction:
            await transaction.execute(ledger.INSERT_ENTRY, entry.row())
            await transaction.bump(TOPIC)
        fields = {"id": entry.reference, "note": asked.note, "createdAt": _time(entry.at)}
        return _json(fields | _amounts(amount=amount), status=201)

    async def show_ledger(self, exchange: Exchange) -> Reply:
        """`GET /credits/ledger`: the organisation's entries, the newest first; `limit`, `after`."""
        query = exchange.request.query
        await self._storage.flush()
        rows = await self._storage.fetch_all(
            """SELECT * FROM entries WHERE organization_id = ? AND id < ? ORDER BY id DESC LIMIT ?""",
            (
                _caller(exchange).organization_id,
                _number(query.get("after"), "after", 2**62),
                _number(query.get("limit"), "limit", _LEDGER_PAGE, most=1000),
            ),
        )
        return _json([_show_entry(row) for row in rows])

    async def reconcile(self, exchange: Exchange) -> Reply:
        """`POST /credits/reconcile`: compare the counters with the ledger and set them right."""
        del exchange
        drifts = await self._books.reconcile()
        return _json({"drifts": [msgspec.to_builtins(drift) for drift in drifts]})

    # -- budgets -------------------------------------------------------------------

    async def list_budgets(self, exchange: Exchange) -> Reply:
        """`GET /budgets`."""
        budgets = await self._budgets.list_all(_caller(exchange).organization_id)
        return _json([await self._show(budget) for budget in budgets])

    async def create_budget(self, exchange: Exchange) -> Reply:
        """`POST /budgets`."""
        new = _read(_decode_budget, exchange.body, _REMEDIES)
        budget = await self._budgets.create(new, _caller(exchange).organization_id)
        return _json(await self._show(budget), status=201)

    async def get_budget(self, exchange: Exchange) -> Reply:
        """`GET /budgets/{id}`."""
        budget = await self._budgets.get(exchange.params["id"], _caller(exchange).organization_id)
        return _json(await self._show(budget))

    async def change_budget(self, exchange: Exchange) -> Reply:
        """`PATCH /budgets/{id}`: fields that are left out stay; what `GET` gave can be sent back."""
        organization = _caller(exchange).organization_id
        budget = await self._budgets.get(exchange.params["id"], organization)
        changes = _read(_decode_fields, exchange.body)
        kept = {name: value for name, value in _fields(budget).items() if value is not None}
        wanted = kept | {name: value for name, value in changes.items() if name not in _READ_ONLY}
        new = _read(_decode_budget, msgspec.json.encode(wanted), _REMEDIES)
        return _json(await self._show(await self._budgets.replace(budget.id, new, organization)))

    async def delete_budget(self, exchange: Exchange) -> Reply:
        """`DELETE /budgets/{id}`."""
        await self._budgets.delete(exchange.params["id"], _caller(exchange).organization_id)
        return _json({"success": True})

    async def _show(self, budget: Budget) -> dict[str, Any]:
        now = time.time()
        name = budget.counter(now)
        used, held = await self._counters.used(name), await self._counters.held(name)
        _, until = ledger.period_of(budget.period, now)
        amounts = _amounts(spent=used - held, reserved=held, remaining=max(0, budget.limit_nano - used))
        resets = None if budget.period == "total" else _time(until)
        return {
            "id": budget.id,
            **_fields(budget),
            "limitNano": budget.limit_nano,
            **amounts,
            "resetsAt": resets,
        }

    # -- receipts ------------------------------------------------------------------

    async def receipt(self, exchange: Exchange) -> Reply:
        """`GET /v1/requests/{id}`: what one of the calling key's requests used and cost."""
        await self._storage.flush()
        row = await self._storage.fetch_one(
            "SELECT * FROM exchanges WHERE request_id = ? AND key_id = ?",
            (exchange.params["id"], _caller(exchange).key_id),
        )
        if row is None:
            raise NotFound("There is no such request of this key's.")
        return _json(_receipt(row))


_READ_ONLY = frozenset(
    "id limitNano spent spentNano reserved reservedNano remaining remainingNano resetsAt createdAt".split()
)
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


def faces(find: Callable[[], Management]) -> list[Face]:
    """List the routes; `find` gives the object behind them once the plugin has started."""

    def route(name: str, method: str, path: str, scope: str, serve: str) -> Face:
        async def call(exchange: Exchange) -> Reply:
            reply: Reply = await getattr(find(), serve)(exchange)
            return reply

        return Face(
            name=name, path=path, methods=(method,), scope=scope, read_call=read_nothing, serve=call,
            json_body=method in {"POST", "PATCH"} and serve != "reconcile",
        )  # fmt: skip

    return [
        route("credits", "GET", "/credits", "admin:read", "show_credits"),
        route("credits-grant", "POST", "/credits/grants", "admin:write", "grant"),
        route("credits-ledger", "GET", "/credits/ledger", "admin:read", "show_ledger"),
        route("credits-reconcile", "POST", "/credits/reconcile", "admin:write", "reconcile"),
        route("budgets", "GET", "/budgets", "admin:read", "list_budgets"),
        route("budgets-create", "POST", "/budgets", "admin:write", "create_budget"),
        route("budget", "GET", "/budgets/{id}", "admin:read", "get_budget"),
        route("budget-change", "PATCH", "/budgets/{id}", "admin:write", "change_budget"),
        route("budget-delete", "DELETE", "/budgets/{id}", "admin:write", "delete_budget"),
        route("receipt", "GET", "/v1/requests/{id}", "usage:read", "receipt"),
    ]


def _read(decode: Callable[[bytes], T], body: bytes, remedies: Mapping[str, str] | None = None) -> T:
    """Read a body of the management API; what is wrong with it is its own type of error (contract 8)."""
    try:
        return judge(decode, body, remedies or {})
    except InvalidRequest as error:
        error.type = "validation_error"
        raise


def _caller(exchange: Exchange) -> Principal:
    if exchange.principal is None:
        raise Unauthenticated("Send a key.")
    return exchange.principal


def _fields(budget: Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "scope": budget.scope,
        "targetId": budget.target_id,
        "limit": dollars(budget.limit_nano),
        "period": budget.period,
        "alertThreshold": budget.alert_threshold,
    }


def _amounts(**nanos: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, amount in nanos.items():
        found |= {name: dollars(amount), f"{name}Nano": amount}
    return found


def _show_entry(row: Row) -> dict[str, Any]:
    fields = {
        "id": row["id"],
        "reference": row["reference"],
        "kind": row["kind"],
        "createdAt": _time(row["at"]),
    }
    fields |= {"debit": row["debit"], "credit": row["credit"], "keyId": row["key_id"], "note": row["note"]}
    return fields | _amounts(amount=row["amount_nano"])


def _receipt(row: Row) -> dict[str, Any]:
    tokens = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    usage = {name: row[name] for name in (*tokens, "total_tokens")}
    told = ("model", "provider", "status", "outcome", "attempts", "latency_ms", "finish_reason")
    return {
        "id": row["request_id"],
        "object": "request",
        "created": row["created_at"],
        **{name: row[name] for name in told},
        "stream": bool(row["stream"]),
        "usage": usage | {"estimated": bool(row["estimated"])},
        "cost": dollars(row["cost_nano"]),
        "cost_nano": row["cost_nano"],
        "priced": bool(row["priced"]),
    }


def _number(text: str | None, param: str, default: int, most: int = 2**62) -> int:
    if text is None:
        return default
    if text.isascii() and text.isdigit() and 1 <= int(text[:19]) <= most:
        return int(text[:19])
    raise InvalidRequest(
        f"{param}: send a whole number from 1 to {most}.", type="validation_error", param=param
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, msgspec.json.encode(value))
