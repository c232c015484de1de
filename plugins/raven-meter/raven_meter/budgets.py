"""Budgets: how much an organisation, a member or a key may spend in a period. The table and its rules."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import InvalidRequest, NotFound, Principal, Refused
from raven_proxy.storage import Row, Storage

from .ledger import Entry, Period, period_of
from .pricing import NANO

__all__ = ["MIGRATION", "REVISIONS", "TOPIC", "Budget", "BudgetStore", "NewBudget", "matching", "nano"]

TOPIC = "budgets"
"""What is bumped whenever a budget or a balance changes."""

MIGRATION = """
CREATE TABLE budgets (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL,
  target_id TEXT NOT NULL, limit_nano INTEGER NOT NULL, period TEXT NOT NULL, alert_threshold REAL,
  created_at INTEGER NOT NULL, UNIQUE (organization_id, name)
);
"""
REVISIONS = "ALTER TABLE budgets ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;"
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]
Scope = Literal["organization", "member", "key"]


class NewBudget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /budgets`. `limit` is in US dollars; `target_id` a member's or key's id.

    `alert_threshold` is a share of the limit, above 0 and up to 1.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    scope: Scope = "organization"
    target_id: str | None = None
    limit: Amount
    period: Period = "monthly"
    alert_threshold: Annotated[float, Meta(gt=0, le=1)] | None = None


class Budget(msgspec.Struct, kw_only=True, frozen=True):
    """One budget, as admission needs it.

    `revision` rises when it becomes a budget for something else (scope, target, period): what was counted
    for the old thing must not count for the new one.
    """

    id: str
    organization_id: str
    name: str
    scope: Scope
    target_id: str
    limit_nano: int
    period: Period
    alert_threshold: float | None = None
    revision: int = 0

    def applies_to(self, principal: Principal) -> bool:
        """Say whether a caller spends from it."""
        if principal.organization_id != self.organization_id:
            return False
        if self.scope == "organization":
            return True
        if self.scope == "member":
            return principal.attributes.get("member_id") == self.target_id
        return principal.key_id == self.target_id

    def counter(self, at: float) -> str:
        """Name the counter of the period that a moment lies in."""
        return f"budget:{self.id}:{self.revision}:{period_of(self.period, at)[0]}"

    def covers(self, entry: Entry, at: float) -> bool:
        """Say whether a charge counts in the period that a moment lies in."""
        since, until = period_of(self.period, at)
        if entry.organization_id != self.organization_id or not since <= entry.at < until:
            return False
        if self.scope == "organization":
            return True
        return self.target_id == (entry.member_id if self.scope == "member" else entry.key_id)


class BudgetStore:
    """The budgets of a gateway; every change is announced to all processes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def list_all(self, organization_id: str | None = None) -> list[Budget]:
        """List the budgets, the oldest first."""
        rows = await self._storage.fetch_all("SELECT * FROM budgets ORDER BY created_at, id")
        return [_read(row) for row in rows if organization_id in (None, row["organization_id"])]

    async def get(self, budget_id: str, organization_id: str) -> Budget:
        """Give one budget. Raises NotFound, also for another organisation's."""
        row = await self._storage.fetch_one(
            "SELECT * FROM budgets WHERE id = ? AND organization_id = ?", (budget_id, organization_id)
        )
        if row is None:
            raise NotFound("There is no such budget.")
        return _read(row)

    async def create(self, new: NewBudget, organization_id: str) -> Budget:
        """Make a budget. Raises InvalidRequest, and Refused (409) for a name that is taken."""
        fields = {"id": "bud_" + secrets.token_hex(10), "organization_id": organization_id}
        return await self._write(fields | _columns(new, organization_id))

    async def replace(self, budget_id: str, new: NewBudget, organization_id: str) -> Budget:
        """Put new fields in the place of a budget's. Raises NotFound and what `create` raises."""
        old = await self.get(budget_id, organization_id)
        columns = _columns(new, organization_id)
        is_another = any(columns[name] != getattr(old, name) for name in ("scope", "target_id", "period"))
        fields = {"id": budget_id, "organization_id": organization_id, "revision": old.revision + is_another}
        return await self._write(fields | columns)

    async def delete(self, budget_id: str, organization_id: str) -> None:
        """Take a budget away; what was spent stays in the ledger. Raises NotFound."""
        await self.get(budget_id, organization_id)
        async with self._storage.transaction() as transaction:
            await transaction.execute("DELETE FROM budgets WHERE id = ?", (budget_id,))
            await transaction.bump(TOPIC)

    async def _write(self, fields: dict[str, Any]) -> Budget:
        names = [*fields, "created_at"]
        sql = (
            f"INSERT INTO budgets ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
            f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in fields)} RETURNING *"
        )
        async with self._storage.transaction() as transaction:
            taken = await transaction.fetch_one(
                "SELECT id FROM budgets WHERE organization_id = ? AND name = ? AND id <> ?",
                (fields["organization_id"], fields["name"], fields["id"]),
            )
            if taken is not None:
                raise Refused(f"There is a budget named {fields['name']!r} already.", status=409)
            rows = await transaction.fetch_all(sql, (*fields.values(), int(time.time())))
            await transaction.bump(TOPIC)
        return _read(rows[0])


def nano(amount: str) -> int:
    """Read an amount in US dollars (at most nine decimals) as nano-dollars."""
    return int(Decimal(amount) * NANO)


def matching(budgets: Iterable[Budget], principal: Principal) -> list[Budget]:
    """Pick the budgets that a caller spends from."""
    return [budget for budget in budgets if budget.applies_to(principal)]


def _columns(new: NewBudget, organization_id: str) -> dict[str, Any]:
    target = organization_id if new.scope == "organization" else new.target_id
    if not target:
        raise InvalidRequest(
            f"targetId: name the {new.scope} that the budget is for.",
            type="validation_error",
            param="targetId",
        )
    return {
        "name": new.name,
        "scope": new.scope,
        "target_id": target,
        "limit_nano": nano(new.limit),
        "period": new.period,
        "alert_threshold": new.alert_threshold,
    }


def _read(row: Row) -> Budget:
    return Budget(**{name: row[name] for name in Budget.__struct_fields__})
