"""The table `exchanges`: one row for each exchange that was finished.

Responsible for its columns and for the row that an `Exchange` becomes. Rows are written behind the
reply and are never changed. `cost_nano` is in nano-dollars; `priced` is 0 where no price was known.
A row that cost something brings its charge into the ledger (`ledger.CHARGES`), at its `created_at`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from raven_proxy import Exchange, Usage
from raven_proxy.exchange import Candidate
from raven_proxy.storage import Storage

from . import budgets, ledger

__all__ = ["COLUMNS", "INSERT", "MIGRATIONS", "RowIds", "insert", "make_row", "migrate", "name_parts"]

MIGRATIONS = (
    """CREATE TABLE exchanges (
      id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, created_at INTEGER NOT NULL,
      key_id TEXT, organization_id TEXT, face TEXT NOT NULL,
      model TEXT, provider TEXT, upstream_model TEXT,
      status INTEGER NOT NULL, outcome TEXT NOT NULL, stream INTEGER NOT NULL,
      prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
      reasoning_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL,
      attempts INTEGER NOT NULL, latency_ms REAL NOT NULL, first_byte_ms REAL,
      finish_reason TEXT, error_code TEXT
    );
    CREATE INDEX exchanges_by_key ON exchanges (key_id, created_at);
    CREATE TABLE exchange_writers (name TEXT PRIMARY KEY, number INTEGER NOT NULL);""",
    """ALTER TABLE exchanges ADD COLUMN cost_nano INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE exchanges ADD COLUMN priced INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE exchanges ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0;""",
    "CREATE UNIQUE INDEX exchanges_by_request ON exchanges (request_id);"
    + ledger.MIGRATION
    + budgets.MIGRATION,
    budgets.REVISIONS,
    budgets.AMOUNTS,
    "ALTER TABLE exchanges ADD COLUMN member_id TEXT;" + ledger.CHARGES,
    "CREATE INDEX exchanges_by_organization ON exchanges (organization_id, created_at);",
)

# Add only at the end: journals of other versions are read by the place.
COLUMNS = (
    "id", "request_id", "created_at", "key_id", "organization_id", "face", "model", "provider",
    "upstream_model", "status", "outcome", "stream", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "total_tokens", "estimated", "attempts", "latency_ms", "first_byte_ms",
    "finish_reason", "error_code", "cost_nano", "priced", "cache_write_tokens",
    "member_id",
)  # fmt: skip


def insert(columns: Sequence[str]) -> str:
    """Word the insertion of some columns, once for each request."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    return f"INSERT INTO exchanges ({names}) VALUES ({marks}) ON CONFLICT (request_id) DO NOTHING"  # noqa: S608


INSERT = insert(COLUMNS)

_EPOCH_US = 1_704_067_200_000_000  # 2024; with 12 bits for the writer this lasts until 2095
_WRITER_BITS = 12
_TOKEN_BITS = 40  # more is nonsense, and must not cost the row
_MAX_NAME = 200  # clients write model names as long as they like
_NOTHING = Usage()


class RowIds:
    """Row ids that rise with time, so that inserts append, and that no two writers share.

    `writer` is this process's number.
    """

    def __init__(self, writer: int) -> None:
        self._writer = writer & ((1 << _WRITER_BITS) - 1)
        self._last_us = 0

    def next(self) -> int:
        """Give the next id: microseconds and the writer."""
        now_us = time.time_ns() // 1000 - _EPOCH_US
        if now_us <= self._last_us:
            now_us = self._last_us + 1
        self._last_us = now_us
        return now_us << _WRITER_BITS | self._writer


async def migrate(storage: Storage) -> RowIds:
    """Bring the tables up to date and give this process its ids. Raises ConfigError."""
    await storage.migrate("meter", MIGRATIONS)
    rows = await storage.fetch_all(
        """INSERT INTO exchange_writers (name, number) VALUES ('last', 1)
           ON CONFLICT (name) DO UPDATE SET number = exchange_writers.number + 1 RETURNING number"""
    )
    return RowIds(rows[0]["number"])


def name_parts(exchange: Exchange, candidate: Candidate | None) -> tuple[str | None, ...]:
    """Give what a row says of who asked whom for what: the columns from `key_id` to `upstream_model`."""
    principal, model = exchange.principal, exchange.model
    return (
        None if principal is None else principal.key_id,
        None if principal is None else principal.organization_id,
        exchange.face.name,
        None if model is None else model[:_MAX_NAME],
        None if candidate is None else candidate.upstream.name,
        None if candidate is None or candidate.model is None else candidate.model[:_MAX_NAME],
    )


def make_row(
    exchange: Exchange,
    row_id: int,
    at: int | None,
    names: tuple[str | None, ...],
    member_id: str | None,
    cost_nano: int | None,
) -> tuple[Any, ...]:
    """Make the row of a finished exchange, in the order of `COLUMNS`; a cost of None is an unknown one.

    `at` is when it was admitted (Unix seconds), which its charge is booked to; None if it never was. `names`
    are its `name_parts`.
    """
    started_at, first_byte_at, error = exchange.started_at, exchange.first_byte_at, exchange.error
    latency_s = time.perf_counter() - started_at
    usage = exchange.usage or _NOTHING
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    cached, reasoning, written = usage.cached_tokens, usage.reasoning_tokens, usage.cache_write_tokens
    if not total:
        total = prompt + completion
    if (prompt | completion | cached | reasoning | total | written) >> _TOKEN_BITS:  # negative or absurd
        prompt, completion, cached, reasoning, total, written = (
            min(max(count, 0), 1 << _TOKEN_BITS)
            for count in (prompt, completion, cached, reasoning, total, written)
        )
    asked = row_id, exchange.id, int(time.time() - latency_s) if at is None else at
    return asked + names + (  # not starred: that takes a step for each member
        exchange.status,
        exchange.outcome._value_,  # `.value` is a Python call, and this is the hot path
        1 if exchange.call.stream else 0,
        prompt, completion, cached, reasoning, total, 1 if usage.estimated else 0,
        len(exchange.attempts),
        latency_s * 1000.0,
        (first_byte_at - started_at) * 1000.0 if first_byte_at else None,
        exchange.finish_reason,
        None if error is None else error.code,
        cost_nano or 0, 0 if cost_nano is None else 1,
        written, member_id,
    )  # fmt: skip
