"""The ledger: who paid what, double-entry, append-only, in whole nano-dollars.

Each entry moves one amount from one account to another, so the books balance by their shape. An
organisation's account `org:ID` is what it has paid in; `grants` is where that came from, `revenue` where
its charges go. The database refuses to change or delete an entry; a correction is a new one. An entry is
named by what it is for, (reference, kind), so that writing it twice writes it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec

from raven_proxy import Principal
from raven_proxy.storage import Storage, Transaction

__all__ = [
    "INSERT_ENTRY", "MIGRATION", "Entry", "Period", "balance_of", "charge", "charged", "grant", "granted",
    "granted_to", "last_id", "period_of", "spent",
]  # fmt: skip

Period = Literal["daily", "weekly", "monthly", "total"]
CHARGE = "charge"
REVENUE = "revenue"
GRANTS = "grants"
_DAY_S = 86400

MIGRATION = """
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, reference TEXT NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL,
  debit TEXT NOT NULL, credit TEXT NOT NULL, amount_nano INTEGER NOT NULL CHECK (amount_nano > 0),
  organization_id TEXT NOT NULL, member_id TEXT, key_id TEXT, note TEXT,
  CHECK (debit <> credit), UNIQUE (reference, kind)
);
CREATE INDEX entries_by_organization ON entries (organization_id, at);
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'entries of the ledger are never changed'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'entries of the ledger are never deleted'); END;
"""

CHARGES = """
CREATE TRIGGER exchanges_are_charged AFTER INSERT ON exchanges
  WHEN NEW.cost_nano > 0 AND NEW.organization_id IS NOT NULL
  BEGIN
    INSERT INTO entries
      (reference, kind, at, debit, credit, amount_nano, organization_id, member_id, key_id)
    VALUES (NEW.request_id, 'charge', NEW.created_at, 'org:' || NEW.organization_id, 'revenue', NEW.cost_nano,
      NEW.organization_id, NEW.member_id, NEW.key_id)
    ON CONFLICT (reference, kind) DO NOTHING;
  END;
"""
"""An exchange that cost something is charged by the database, with its row and never without it."""

_COLUMNS = (
    "reference", "kind", "at", "debit", "credit", "amount_nano", "organization_id", "member_id", "key_id",
    "note",
)  # fmt: skip
INSERT_ENTRY = (
    f"INSERT INTO entries ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    " ON CONFLICT (reference, kind) DO NOTHING"
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of money. `at` is in Unix seconds; a charge's is its request's admission."""

    reference: str
    kind: str
    at: int
    debit: str
    credit: str
    amount_nano: int
    organization_id: str
    member_id: str | None = None
    key_id: str | None = None
    note: str | None = None

    def row(self) -> tuple[Any, ...]:
        """Give the values of `INSERT_ENTRY`."""
        return (
            self.reference, self.kind, self.at, self.debit, self.credit, self.amount_nano,
            self.organization_id, self.member_id, self.key_id, self.note,
        )  # fmt: skip


def charge(request_id: str, payer: Principal, amount_nano: int, at: int) -> Entry:
    """Give the entry that an exchange's row brings into the ledger; `amount_nano` must be above 0."""
    return Entry(
        reference=request_id,
        kind=CHARGE,
        at=at,
        debit=f"org:{payer.organization_id}",
        credit=REVENUE,
        amount_nano=amount_nano,
        organization_id=payer.organization_id,
        member_id=payer.attributes.get("member_id"),
        key_id=payer.key_id,
    )


def grant(reference: str, amount_nano: int, at: int, *, organization_id: str, note: str | None) -> Entry:
    """Credit an organisation with money that it paid in; an amount below 0 takes it back."""
    account = f"org:{organization_id}"
    debit, credit = (GRANTS, account) if amount_nano > 0 else (account, GRANTS)
    return Entry(
        reference=reference,
        kind="grant",
        at=at,
        debit=debit,
        credit=credit,
        amount_nano=abs(amount_nano),
        organization_id=organization_id,
        note=note,
    )


async def granted(storage: Storage) -> dict[str, int]:
    """Sum up what each organisation was given, less what was taken back."""
    rows = await storage.fetch_all(
        """SELECT organization_id,
             SUM(CASE WHEN debit = 'grants' THEN amount_nano ELSE -amount_nano END) AS amount
           FROM entries WHERE kind = 'grant' GROUP BY organization_id"""
    )
    return {row["organization_id"]: row["amount"] for row in rows}


async def granted_to(transaction: Transaction, organization_id: str) -> int:
    """Sum up what one organisation was given, less what was taken back."""
    row = await transaction.fetch_one(
        """SELECT
             COALESCE(SUM(CASE WHEN debit = 'grants' THEN amount_nano ELSE -amount_nano END), 0) AS amount
           FROM entries WHERE kind = 'grant' AND organization_id = ?""",
        (organization_id,),
    )
    return int(row["amount"]) if row is not None else 0


async def last_id(storage: Storage) -> int:
    """Give the newest entry's id. The ledger only grows: what stands up to it never changes."""
    row = await storage.fetch_one("SELECT COALESCE(MAX(id), 0) AS id FROM entries")
    return int(row["id"]) if row is not None else 0


async def charged(storage: Storage, references: Sequence[str], through: int) -> set[str]:
    """Say which of some requests have their charge among the entries up to the id `through`."""
    found: set[str] = set()
    for start in range(0, len(references), 500):
        some = references[start : start + 500]
        marks = ", ".join("?" * len(some))
        sql = f"SELECT reference FROM entries WHERE kind = 'charge' AND id <= ? AND reference IN ({marks})"  # noqa: S608
        found |= {row["reference"] for row in await storage.fetch_all(sql, (through, *some))}
    return found


async def spent(
    storage: Storage,
    column: str | None = None,
    value: str | None = None,
    since: int = 0,
    until: int = 2**62,
    *,
    through: int = 2**62,
) -> dict[str, int]:
    """Sum up charges by organisation, of those where `column` is `value`, admitted in a time.

    `through` is the id of the last entry that counts.
    """
    if column not in (None, "organization_id", "member_id", "key_id"):
        raise ValueError(column)
    where = f" AND {column} = ?" if column is not None else ""
    rows = await storage.fetch_all(
        f"""SELECT organization_id, SUM(amount_nano) AS amount FROM entries
            WHERE kind = 'charge' AND at >= ? AND at < ? AND id <= ?{where} GROUP BY organization_id""",  # noqa: S608
        (since, until, through, *((value,) if column is not None else ())),
    )
    return {row["organization_id"]: row["amount"] for row in rows}


async def balance_of(storage: Storage, organization_id: str) -> int:
    """Give what is left on an organisation's account: all that was credited less all that was debited."""
    account = f"org:{organization_id}"
    row = await storage.fetch_one(
        """SELECT COALESCE(SUM(CASE WHEN credit = ? THEN amount_nano ELSE -amount_nano END), 0) AS amount
           FROM entries WHERE credit = ? OR debit = ?""",
        (account, account, account),
    )
    return int(row["amount"]) if row is not None else 0


def period_of(period: Period, at: float) -> tuple[int, int]:
    """Give the first second of the period that a moment lies in, and the first after it, in UTC.

    Weeks begin on Monday. "total" has one period, from 0 to the end of time.
    """
    if period == "total":
        return 0, 2**62
    day = int(at // _DAY_S)
    if period == "daily":
        return day * _DAY_S, (day + 1) * _DAY_S
    if period == "weekly":
        monday = day - (day + 3) % 7  # 1970-01-01 was a Thursday
        return monday * _DAY_S, (monday + 7) * _DAY_S
    first = datetime.fromtimestamp(at, UTC).date().replace(day=1)
    return _second(first), _second((first + timedelta(days=31)).replace(day=1))


def _second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
