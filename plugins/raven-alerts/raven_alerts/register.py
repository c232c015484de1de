"""The register: what fired when, once a day for each rule and subject; what is paused; what was delivered.

Whoever inserts the row of an alert acts on it: that makes it one notification over all workers and
restarts. Rows are kept for 90 days.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raven_proxy.storage import Row, Storage, Transaction

from .tallies import day_of

__all__ = ["TOPIC", "Alert", "Destination", "Register", "migrate"]

TOPIC = "alerts"
"""What is bumped whenever an upstream is paused or reactivated."""

_KEEP_S = 90 * 86_400
_LEASE_S = 120  # longer than all tries of one delivery take
_ADOPT = 100  # deliveries taken over in one look

_MIGRATIONS = (
    """CREATE TABLE alerts (
      id TEXT PRIMARY KEY, rule TEXT NOT NULL, subject TEXT NOT NULL, day TEXT NOT NULL, level TEXT NOT NULL,
      created_at INTEGER NOT NULL, organization_id TEXT, message TEXT NOT NULL, details TEXT NOT NULL,
      UNIQUE (rule, subject, day, level)
    );
    CREATE INDEX alerts_by_time ON alerts (created_at);
    CREATE TABLE alert_deliveries (
      id TEXT PRIMARY KEY, alert_id TEXT NOT NULL, channel TEXT NOT NULL, destination TEXT NOT NULL,
      state TEXT NOT NULL, tries INTEGER NOT NULL, error TEXT, changed_at INTEGER NOT NULL,
      leased_until INTEGER NOT NULL
    );
    CREATE INDEX alert_deliveries_by_alert ON alert_deliveries (alert_id);
    CREATE INDEX alert_deliveries_by_state ON alert_deliveries (state, leased_until);
    CREATE TABLE alert_pauses (
      upstream TEXT NOT NULL, organization_id TEXT NOT NULL, rule TEXT NOT NULL, since INTEGER NOT NULL,
      alert_id TEXT NOT NULL, PRIMARY KEY (upstream, organization_id)
    );
    CREATE TABLE alert_subjects (
      day TEXT NOT NULL, upstream TEXT NOT NULL, organization TEXT NOT NULL,
      PRIMARY KEY (day, upstream, organization)
    );""",
)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that fired. `level` is "threshold" or "stop"; `details` are for the API and the event.

    `organization_id` is whose it is; None where it is the whole gateway's. `pauses` is the upstream that a
    stop takes away, for that organisation or for everybody.
    """

    id: str
    rule: str
    subject: str
    day: str
    level: str
    created_at: int
    message: str
    organization_id: str | None = None
    pauses: str | None = None
    details: Mapping[str, Any] = {}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What there is one of: rule, subject, day, level."""
        return self.rule, self.subject, self.day, self.level


class Destination(msgspec.Struct, frozen=True):
    """Where one notification goes: `channel` is "mail"; `shown` may be seen by anybody."""

    channel: str
    shown: str


async def migrate(storage: Storage) -> None:
    """Bring the tables up to date and drop what is old. Raises ConfigError."""
    await storage.migrate("alerts", _MIGRATIONS)
    before = int(time.time()) - _KEEP_S
    await storage.execute(
        "DELETE FROM alert_deliveries WHERE alert_id IN (SELECT id FROM alerts WHERE created_at < ?)",
        (before,),
    )
    await storage.execute("DELETE FROM alerts WHERE created_at < ?", (before,))
    await storage.execute("DELETE FROM alert_subjects WHERE day < ?", (day_of(time.time() - 86_400),))


class Register:
    """The tables of one gateway."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def record(self, alert: Alert, destinations: Sequence[Destination]) -> list[str] | None:
        """Write an alert down; give the ids of its deliveries, which are the caller's to make.

        None where somebody was faster, or it fired today already.
        """
        deliveries = [f"del_{secrets.token_hex(10)}" for _ in destinations]
        details = msgspec.json.encode(alert.details).decode()
        async with self._storage.transaction() as transaction:
            inserted = await transaction.fetch_all(
                """INSERT INTO alerts (id, rule, subject, day, level, created_at, organization_id, message,
                     details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                   ON CONFLICT (rule, subject, day, level) DO NOTHING RETURNING id""",
                (alert.id, *alert.key, alert.created_at, alert.organization_id, alert.message, details),
            )
            if not inserted:
                return None
            for delivery, destination in zip(deliveries, destinations, strict=True):
                await transaction.execute(
                    "INSERT INTO alert_deliveries VALUES (?, ?, ?, ?, 'pending', 0, NULL, ?, ?)",
                    (
                        delivery, alert.id, destination.channel, destination.shown, alert.created_at,
                        alert.created_at + _LEASE_S,
                    ),
                )  # fmt: skip
            if alert.pauses is not None:
                await transaction.execute(
                    """INSERT INTO alert_pauses VALUES (?, ?, ?, ?, ?)
                       ON CONFLICT (upstream, organization_id) DO NOTHING""",
                    (alert.pauses, alert.organization_id or "", alert.rule, alert.created_at, alert.id),
                )
            await transaction.bump(TOPIC)
        return deliveries

    async def fired_on(self, day: str) -> set[tuple[str, str, str, str]]:
        """Give the keys of what fired on a day."""
        rows = await self._storage.fetch_all(
            "SELECT rule, subject, day, level FROM alerts WHERE day = ?", (day,)
        )
        return {(row["rule"], row["subject"], row["day"], row["level"]) for row in rows}

    async def get(self, alert_id: str) -> Alert | None:
        """Give an alert."""
        row = await self._storage.fetch_one("SELECT * FROM alerts WHERE id = ?", (alert_id,))
        return _read(row) if row is not None else None

    async def list_alerts(self, organization_id: str | None, after: str | None, limit: int) -> list[Row]:
        """List alerts, the newest first, with `details` decoded; those of one organisation, or all."""
        rows = await self._storage.fetch_all(
            """SELECT * FROM alerts WHERE (? IS NULL OR organization_id = ?)
                 AND (? IS NULL OR (created_at, id) < (SELECT created_at, id FROM alerts WHERE id = ?))
               ORDER BY created_at DESC, id DESC LIMIT ?""",
            (organization_id, organization_id, after, after, limit),
        )
        return [row | {"details": msgspec.json.decode(row["details"])} for row in rows]

    async def deliveries_of(self, alerts: Sequence[str]) -> dict[str, list[Row]]:
        """List the deliveries of some alerts, by alert."""
        marks = ", ".join("?" * len(alerts))
        sql = "SELECT * FROM alert_deliveries WHERE alert_id IN (" + marks + ") ORDER BY id"  # noqa: S608
        found: dict[str, list[Row]] = {}
        for row in await self._storage.fetch_all(sql, tuple(alerts)) if alerts else ():
            found.setdefault(row["alert_id"], []).append(row)
        return found

    # -- deliveries ----------------------------------------------------------------

    async def note_try(self, delivery: str, tries: int, state: str, error: str | None) -> None:
        """Write down how a try went: `state` is "pending", "sent" or "failed"."""
        now = int(time.time())
        await self._storage.execute(
            """UPDATE alert_deliveries SET tries = ?, state = ?, error = ?, changed_at = ?, leased_until = ?
               WHERE id = ?""",
            (tries, state, error, now, now + _LEASE_S, delivery),
        )

    async def release(self, delivery: str) -> None:
        """Let somebody else deliver it: we leave."""
        await self._storage.execute(
            "UPDATE alert_deliveries SET leased_until = 0 WHERE id = ? AND state = 'pending'", (delivery,)
        )

    async def adopt(self) -> list[Row]:
        """Take over the deliveries that somebody left behind; each goes to one taker only."""
        now = int(time.time())
        return await self._storage.fetch_all(
            """UPDATE alert_deliveries SET leased_until = ? WHERE id IN (
                 SELECT id FROM alert_deliveries WHERE state = 'pending' AND leased_until < ? LIMIT ?
               ) RETURNING *""",
            (now + _LEASE_S, now, _ADOPT),
        )

    # -- pauses --------------------------------------------------------------------

    async def list_pauses(self) -> list[Row]:
        """List what is paused, the oldest first; `organization_id` is "" where it is for everybody."""
        return await self._storage.fetch_all(
            "SELECT * FROM alert_pauses ORDER BY since, upstream, organization_id"
        )

    async def reactivate(
        self, upstream: str, organization_id: str, *, within: Transaction | None = None
    ) -> bool:
        """End a pause in every process; say whether there was one. `within` is an open transaction."""
        if within is None:
            async with self._storage.transaction() as transaction:
                return await self.reactivate(upstream, organization_id, within=transaction)
        touched = await within.execute(
            "DELETE FROM alert_pauses WHERE upstream = ? AND organization_id = ?", (upstream, organization_id)
        )
        if touched:
            await within.bump(TOPIC)
        return touched > 0


def _read(row: Row) -> Alert:
    return Alert(
        id=row["id"],
        rule=row["rule"],
        subject=row["subject"],
        day=row["day"],
        level=row["level"],
        created_at=row["created_at"],
        message=row["message"],
        organization_id=row["organization_id"],
        details=msgspec.json.decode(row["details"]),
    )
