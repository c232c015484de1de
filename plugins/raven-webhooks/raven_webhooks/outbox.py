"""The table of deliveries: what is to be sent, what was, and whose turn a try is.

A delivery is one event for one webhook; the same event is taken once, whatever the number of processes that
saw it. Who claims a delivery holds it for a minute, longer than a try takes; if its process dies meanwhile,
another one's turn comes after that.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Collection

from raven_proxy.storage import Row, Storage, Transaction

from .sending import Result

__all__ = ["MIGRATIONS", "PAUSES_S", "Outbox", "name_delivery"]

PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0)
"""After each failed try, give or take a seventh; together about 21 hours."""

MIGRATIONS = (
    """CREATE TABLE webhooks (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL, url TEXT NOT NULL,
      events TEXT NOT NULL, secret BLOB NOT NULL, is_enabled INTEGER NOT NULL, failing_since INTEGER
    );
    CREATE TABLE webhook_deliveries (
      id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL, event_id TEXT NOT NULL, type TEXT NOT NULL,
      payload BLOB NOT NULL, created_at INTEGER NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL,
      next_at REAL NOT NULL, leased_until REAL NOT NULL, first_tried_at INTEGER, tried_at INTEGER,
      status INTEGER, error TEXT, duration_ms REAL, UNIQUE (webhook_id, event_id)
    );
    CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, next_at);
    CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, created_at, id);
    CREATE TABLE webhook_trail (name TEXT PRIMARY KEY, position TEXT NOT NULL);
    INSERT INTO webhook_trail (name, position) SELECT 'audit', COALESCE(MAX(id), '') FROM audit_log;""",
)
_LEASE_S = 60.0
_MOST_WAITING = 1000  # of one webhook; what comes beyond is not told
_SPREAD = 0.15


class Outbox:
    """The deliveries of one gateway's database."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def add(
        self, transaction: Transaction, webhook: str, event_id: str, type: str, body: bytes
    ) -> bool:
        """Queue an event for a webhook; False where it was there already, or too many wait."""
        now = time.time()
        waiting = await transaction.fetch_one(
            "SELECT COUNT(*) AS number FROM webhook_deliveries WHERE webhook_id = ? AND state = 'pending'",
            (webhook,),
        )
        if waiting is not None and waiting["number"] >= _MOST_WAITING:
            return False
        added = await transaction.execute(
            """INSERT INTO webhook_deliveries
                 (id, webhook_id, event_id, type, payload, created_at, state, tries, next_at, leased_until)
               VALUES (?, ?, ?, ?, ?, ?, 'pending', 0, ?, 0) ON CONFLICT (webhook_id, event_id) DO NOTHING""",
            (name_delivery(), webhook, event_id, type, body, int(now), now),
        )
        return added > 0

    async def claim(self, number: int, busy: Collection[str]) -> list[Row]:
        """Take over deliveries whose turn it is, of webhooks that are not `busy`; each goes to one taker."""
        now = time.time()
        marks = ", ".join("?" * len(busy))
        due = "state = 'pending' AND next_at <= ? AND leased_until < ?"
        due += f" AND webhook_id NOT IN ({marks})" if busy else ""
        sql = f"SELECT id FROM webhook_deliveries WHERE {due} ORDER BY next_at LIMIT ?"  # noqa: S608 - ours
        values = (now, now, *busy, number)
        if not await self._storage.fetch_one(sql, values):
            return []  # most looks end here, without the lock that a write takes
        return await self._storage.fetch_all(
            f"UPDATE webhook_deliveries SET leased_until = ? WHERE id IN ({sql}) RETURNING *",  # noqa: S608
            (now + _LEASE_S, *values),
        )

    async def next_due(self) -> float:
        """Say in how many seconds the next try is due; infinite where none is."""
        row = await self._storage.fetch_one(
            """SELECT MIN(CASE WHEN leased_until > next_at THEN leased_until ELSE next_at END) AS due
               FROM webhook_deliveries WHERE state = 'pending'"""
        )
        due = (row or {}).get("due")
        return float("inf") if due is None else max(0.0, due - time.time())

    async def note(self, row: Row, result: Result) -> Row:
        """Write down how a try went; give the delivery as it is now."""
        now, tries = time.time(), row["tries"] + 1
        state, next_at = "delivered", now
        if result.error is not None:
            state = "pending" if tries <= len(PAUSES_S) else "failed"
            spread = random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - not everybody at once again
            next_at = now + PAUSES_S[tries - 1] * spread if state == "pending" else now
        async with self._storage.transaction() as transaction:
            rows = await transaction.fetch_all(
                """UPDATE webhook_deliveries SET state = ?, tries = ?, next_at = ?, leased_until = 0,
                     status = ?, error = ?, duration_ms = ?, tried_at = ?,
                     first_tried_at = COALESCE(first_tried_at, ?),
                     payload = CASE WHEN ? = 'pending' THEN payload ELSE '' END
                   WHERE id = ? RETURNING *""",
                (state, tries, next_at, result.status, result.error, result.duration_ms, int(now), int(now),
                 state, row["id"]),
            )  # fmt: skip
            await self._note_health(transaction, row["webhook_id"], is_well=result.error is None)
        return rows[0] if rows else row

    async def give_up(self, row: Row, reason: str) -> None:
        """End a delivery that cannot be tried."""
        await self._storage.execute(
            """UPDATE webhook_deliveries SET state = 'failed', error = ?, payload = '', leased_until = 0
               WHERE id = ?""",
            (reason, row["id"]),
        )

    async def record_test(self, name: str, webhook: str, event_id: str, type: str, result: Result) -> None:
        """Write down a try that was made at once."""
        now = int(time.time())
        state = "delivered" if result.error is None else "failed"
        await self._storage.execute(
            """INSERT INTO webhook_deliveries
                 (id, webhook_id, event_id, type, payload, created_at, state, tries, next_at, leased_until,
                  first_tried_at, tried_at, status, error, duration_ms)
               VALUES (?, ?, ?, ?, '', ?, ?, 1, ?, 0, ?, ?, ?, ?, ?)""",
            (name, webhook, event_id, type, now, state, now, now, now, result.status, result.error,
             result.duration_ms),
        )  # fmt: skip

    async def release(self, names: Collection[str]) -> None:
        """Let somebody else try these: we leave."""
        for name in names:
            await self._storage.execute(
                "UPDATE webhook_deliveries SET leased_until = 0 WHERE id = ? AND state = 'pending'", (name,)
            )

    async def list_of(self, webhook: str, limit: int, after: str | None) -> list[Row]:
        """List the deliveries of a webhook, the newest first."""
        return await self._storage.fetch_all(
            """SELECT * FROM webhook_deliveries WHERE webhook_id = ? AND (? IS NULL OR (created_at, id) <
                 (SELECT created_at, id FROM webhook_deliveries WHERE id = ? AND webhook_id = ?))
               ORDER BY created_at DESC, id DESC LIMIT ?""",
            (webhook, after, after, webhook, limit),
        )

    async def forget_old(self, keep_days: int) -> None:
        """Drop what ended long ago."""
        before = int(time.time()) - keep_days * 86_400
        await self._storage.execute(
            "DELETE FROM webhook_deliveries WHERE state <> 'pending' AND created_at < ?", (before,)
        )

    async def health_of(self, webhook: str) -> int | None:
        """Say since when (Unix seconds) nothing could be delivered to a webhook; None if it is well."""
        row = await self._storage.fetch_one("SELECT failing_since FROM webhooks WHERE id = ?", (webhook,))
        return None if row is None else row["failing_since"]

    async def _note_health(self, transaction: Transaction, webhook: str, *, is_well: bool) -> None:
        if is_well:
            sql = "UPDATE webhooks SET failing_since = NULL WHERE id = ? AND failing_since IS NOT NULL"
            await transaction.execute(sql, (webhook,))
        else:
            sql = "UPDATE webhooks SET failing_since = ? WHERE id = ? AND failing_since IS NULL"
            await transaction.execute(sql, (int(time.time()), webhook))


def name_delivery() -> str:
    """Name a delivery."""
    # Names rise with time, so that deliveries of one second keep their order.
    return f"del_{time.time_ns():016x}{secrets.token_hex(4)}"
