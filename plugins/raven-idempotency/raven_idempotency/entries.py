"""The table `idempotency`: one row for each key in use, seen by every worker.

A row is void when `valid_until` has passed: the end of the lease while its request is under way
(renewed until it ends, so that a worker that died blocks nobody for long), the end of its keeping
afterwards. Whoever finds a void row takes it over; a sweep deletes the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from raven_proxy.storage import Storage, Transaction

from .identity import Identity

__all__ = ["MIGRATIONS", "Entries", "Entry", "State"]

# BYTEA is PostgreSQL's word; SQLite takes any and keeps bytes as they are.
MIGRATIONS = (
    """CREATE TABLE idempotency (
      id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, request_id TEXT NOT NULL, state TEXT NOT NULL,
      valid_until BIGINT NOT NULL, size BIGINT NOT NULL, reply BYTEA
    );
    CREATE INDEX idempotency_by_end ON idempotency (valid_until);
    CREATE TABLE idempotency_space (name TEXT PRIMARY KEY, bytes BIGINT NOT NULL);
    INSERT INTO idempotency_space (name, bytes) VALUES ('replies', 0);""",
)

_SWEEP_ROWS = 500  # between two commits: a long sweep must not hold the write lock for long
_READ = "SELECT fingerprint, request_id, state, valid_until, reply FROM idempotency WHERE id = ?"
_TAKE = (
    "INSERT INTO idempotency (id, fingerprint, request_id, state, valid_until, size)"
    " VALUES (?, ?, ?, 'running', ?, 0) ON CONFLICT (id) DO NOTHING"
)
_RENEW = "UPDATE idempotency SET valid_until = ? WHERE id = ? AND request_id = ? AND state = 'running'"
_RELEASE = "DELETE FROM idempotency WHERE id = ? AND request_id = ? AND state = 'running'"
_END = (
    "UPDATE idempotency SET state = ?, valid_until = ?, size = ?, reply = ?"
    " WHERE id = ? AND request_id = ? AND state = 'running'"
)
_REMOVE_VOID = "DELETE FROM idempotency WHERE id = ? AND valid_until <= ? RETURNING size"
_SWEEP = (
    "DELETE FROM idempotency WHERE valid_until <= ? AND id IN"
    " (SELECT id FROM idempotency WHERE valid_until <= ? LIMIT ?) RETURNING size"
)
_FILL = "UPDATE idempotency_space SET bytes = bytes + ? WHERE name = 'replies' AND bytes + ? <= ?"
_FREE = "UPDATE idempotency_space SET bytes = bytes - ? WHERE name = 'replies'"


class State(StrEnum):
    """What is known of a key's first request."""

    RUNNING = "running"
    KEPT = "kept"
    TOO_LONG = "too_long"  # it ended; its reply was over `max_reply_bytes`
    NO_ROOM = "no_room"  # it ended; all replies together were at `max_total_bytes`


class Entry(msgspec.Struct):
    """A key that is in use. `reply` is sealed; None unless the state is KEPT."""

    fingerprint: str
    request_id: str
    state: State
    reply: bytes | None


class Entries:
    """Takes, renews, ends and deletes rows. Times are Unix milliseconds in the table, seconds here."""

    def __init__(self, storage: Storage, *, lease_s: float, keep_s: float, max_total_bytes: int) -> None:
        self._storage = storage
        self._lease_s = lease_s
        self._keep_s = keep_s
        self._max_total_bytes = max_total_bytes

    async def take(self, identity: Identity, request_id: str) -> Entry | None:
        """Take a key for a request, for the length of a lease; if another has it, give its entry."""
        row: dict[str, Any] | None = None
        async with self._storage.transaction() as tx:
            for _ in range(2):  # a second look where another won between the first and the insert
                row = await tx.fetch_one(_READ, (identity.id,))
                if row is not None and row["valid_until"] > _now_ms():
                    break
                if row is not None:
                    await _free(tx, await tx.fetch_all(_REMOVE_VOID, (identity.id, _now_ms())))
                values = (identity.id, identity.fingerprint, request_id, _now_ms(self._lease_s))
                if await tx.execute(_TAKE, values):
                    return None
        if row is None:
            raise RuntimeError("an idempotency key can be neither read nor taken")
        return Entry(row["fingerprint"], row["request_id"], State(row["state"]), row["reply"])

    async def renew(self, held: Mapping[str, str]) -> None:
        """Make the leases of requests (their id → the entry's) last from now."""
        async with self._storage.transaction() as tx:
            for request_id, entry_id in held.items():
                await tx.execute(_RENEW, (_now_ms(self._lease_s), entry_id, request_id))

    async def release(self, identity: Identity, request_id: str) -> None:
        """Let go of a key: its request came to nothing, and the next one runs."""
        await self._storage.execute(_RELEASE, (identity.id, request_id))

    async def keep(self, identity: Identity, request_id: str, sealed: bytes | None) -> State:
        """End a request with its reply, or with None for one that is too long; say what it came to.

        Nothing happens if the lease was lost to another request meanwhile.
        """
        size = len(sealed) if sealed is not None else 0
        state = State.TOO_LONG if sealed is None else State.KEPT
        async with self._storage.transaction() as tx:
            if size and not await tx.execute(_FILL, (size, size, self._max_total_bytes)):
                state, sealed, size = State.NO_ROOM, None, 0
            values = (state.value, _now_ms(self._keep_s), size, sealed, identity.id, request_id)
            if not await tx.execute(_END, values) and size:
                await tx.execute(_FREE, (size,))
        return state

    async def sweep(self) -> None:
        """Delete what is void."""
        rows: list[dict[str, Any]] = []
        while True:
            async with self._storage.transaction() as tx:
                rows = await tx.fetch_all(_SWEEP, (_now_ms(), _now_ms(), _SWEEP_ROWS))
                await _free(tx, rows)
            if len(rows) < _SWEEP_ROWS:
                return


async def _free(tx: Transaction, rows: list[dict[str, Any]]) -> None:
    if size := sum(row["size"] for row in rows):
        await tx.execute(_FREE, (size,))


def _now_ms(later_s: float = 0.0) -> int:
    return int((time.time() + later_s) * 1000)
