"""What administrators and keys can ask of the money: credits, receipts, reconciliation.

JSON of the management API: camelCase, ISO times, amounts as decimal strings in US
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
    Forbidden,
    InvalidRequest,
    NotFound,
    Principal,
    Reply,
    Unauthenticated,
    read_nothing,
)
from raven_proxy.counters import Counters
from raven_proxy.faces import Doc, Query
from raven_proxy.judging import judge
from raven_proxy.resources import Records, audit
from raven_proxy.resources.routes import caller_of
from raven_proxy.storage import Row, Storage

from . import ledger
from .books import Books
from .budgets import TOPIC
from .pricing import NANO, dollars

__all__ = ["Management", "faces"]

T = TypeVar("T")

_LEDGER_PAGE = 100


class Grant(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a grant, in US dollars; less than 0 takes money back."""

    amount: Annotated[str, Meta(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,9})?\Z")]
    note: Annotated[str, Meta(max_length=500)] | None = None


class Granted(msgspec.Struct, rename="camel", kw_only=True):
    """A grant that was made."""

    id: str
    note: str | None
    created_at: datetime
    amount: str
    amount_nano: int


class Credits(msgspec.Struct, rename="camel", kw_only=True):
    """What an organisation has left, and what of it is reserved for requests under way; in US dollars."""

    balance: str
    balance_nano: int
    reserved: str
    reserved_nano: int


class Entry(msgspec.Struct, rename="camel", kw_only=True):
    """One entry of the ledger: so much went from one account to another."""

    id: int
    reference: str
    kind: str
    created_at: datetime
    debit: str
    credit: str
    key_id: str | None
    note: str | None
    amount: str
    amount_nano: int


class Reconciled(msgspec.Struct):
    """Where counters and ledger differed; they are set right."""

    drifts: list[Any]


_PAGING = (
    Query(name="limit", type=Annotated[int, Meta(ge=1, le=1000)], summary="At most so many"),
    Query(name="after", type=Annotated[int, Meta(ge=1)], summary="The id of the last one that you have seen"),
)
_MOST_GRANTED = 10**9 * NANO  # so that no sum of the books comes near 64 bits
_decode_grant = msgspec.json.Decoder(Grant).decode
_REMEDIES = {
    "amount": 'Send US dollars as text, such as "25.00".',
}


class Management:
    """The routes, on one gateway's storage and counters."""

    def __init__(self, storage: Storage, counters: Counters, books: Books, records: Records) -> None:
        self._storage = storage
        self._records = records
        self._counters = counters
        self._books = books

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
        if not _caller(exchange).is_operator:
            raise Forbidden("Only who runs the gateway grants credits.")
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
            if abs(await ledger.granted_to(transaction, organization) + amount) > _MOST_GRANTED:
                raise InvalidRequest(
                    f"amount: an account holds at most ${dollars(_MOST_GRANTED)}; grant less.",
                    type="validation_error",
                    param="amount",
                )
            await transaction.execute(ledger.INSERT_ENTRY, entry.row())
            await transaction.bump(TOPIC)
            changes = audit.compare({}, {"amount": dollars(amount), "note": asked.note})
            await audit.record(transaction, caller_of(exchange), "credits.grant", entry.reference, changes)
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
        """`POST /credits/reconcile`: compare the counters with the ledger and set them right, everybody's."""
        if not _caller(exchange).is_operator:
            raise Forbidden("Only who runs the gateway reconciles its books.")
        drifts = await self._books.reconcile()
        await self._records.note(
            caller_of(exchange), "credits.reconcile", "", audit.compare({}, {"drifts": len(drifts)})
        )
        return _json({"drifts": [msgspec.to_builtins(drift) for drift in drifts]})

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


def faces(find: Callable[[], Management]) -> list[Face]:
    """List the routes; `find` gives the object behind them once the plugin has started."""

    def route(method: str, path: str, serve: str, doc: Doc) -> Face:
        async def call(exchange: Exchange) -> Reply:
            reply: Reply = await getattr(find(), serve)(exchange)
            return reply

        is_receipt = path.startswith("/v1/")
        scope = "admin:read" if method == "GET" else "admin:write"
        return Face(
            name=serve.replace("_", "-"), path=path, methods=(method,), read_call=read_nothing, serve=call,
            scope="usage:read" if is_receipt else scope, json_body=doc.request is not None, doc=doc,
            role=None if is_receipt else "viewer" if method == "GET" else "admin",
        )  # fmt: skip

    return [
        route("GET", "/credits", "show_credits", _doc("What the organisation has left", Credits)),
        route(
            "POST", "/credits/grants", "grant",
            _doc("Put money on the account, or take it back", Granted, request=Grant, status=201),
        ),
        route("GET", "/credits/ledger", "show_ledger", _doc("The entries", list[Entry], query=_PAGING)),
        route("POST", "/credits/reconcile", "reconcile", _doc("Compare counters and ledger", Reconciled)),
        route(
            "GET", "/v1/requests/{id}", "receipt",
            Doc(summary="What one request used and cost", tag="usage", reply=dict[str, Any]),
        ),
    ]  # fmt: skip


def _doc(summary: str, reply: Any, **more: Any) -> Doc:
    return Doc(summary=summary, tag="credits", reply=reply, **more)


def _read(decode: Callable[[bytes], T], body: bytes, remedies: Mapping[str, str] | None = None) -> T:
    """Read a body of the management API; what is wrong with it is its own type of error."""
    try:
        return judge(decode, body, remedies or {})
    except InvalidRequest as error:
        error.type = "validation_error"
        raise


def _caller(exchange: Exchange) -> Principal:
    if exchange.principal is None:
        raise Unauthenticated("Send a key.")
    return exchange.principal


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
