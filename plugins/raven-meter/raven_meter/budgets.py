"""Budgets: how much an organisation, a member or a key may spend in a period. The table and its rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import Principal
from raven_proxy.counters import Counters
from raven_proxy.resources import SYSTEM, Caller, Change, Record, Records, Resource, invalid
from raven_proxy.storage import Row, Storage

from .ledger import Entry, Period, period_of
from .pricing import NANO, dollars

__all__ = [
    "AMOUNTS", "MIGRATION", "REVISIONS", "TOPIC", "Budget", "BudgetStore", "Budgets", "NewBudget",
    "matching", "nano",
]  # fmt: skip

TOPIC = "budgets"
"""What is bumped whenever a budget or a balance changes."""

MIGRATION = """
CREATE TABLE budgets (
  id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL,
  target_id TEXT NOT NULL, limit_nano INTEGER NOT NULL, period TEXT NOT NULL, alert_threshold REAL,
  created_at INTEGER NOT NULL, UNIQUE (organization_id, name)
);
"""
AMOUNTS = """
ALTER TABLE budgets ADD COLUMN "limit" TEXT NOT NULL DEFAULT '0';
UPDATE budgets SET "limit" = CAST(limit_nano / 1000000000 AS TEXT) || '.' ||
  substr(CAST(1000000000 + limit_nano % 1000000000 AS TEXT), 2);
"""
REVISIONS = "ALTER TABLE budgets ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;"
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?\Z")]
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


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What reading a budget adds: how it stands in the period of now. Amounts are in US dollars."""

    limit_nano: int
    spent: str
    spent_nano: int
    reserved: str
    reserved_nano: int
    remaining: str
    remaining_nano: int
    resets_at: datetime | None


class Budgets:
    """The resource `/budgets`, on one gateway's counters."""

    def __init__(self, counters: Callable[[], Counters], find_resource: Callable[[str], Any]) -> None:
        self._counters = counters
        self._find_resource = find_resource
        self.resource = make_resource(check=self._judge, show=self._show)

    async def _judge(self, change: Change[NewBudget]) -> None:
        await judge_budget(change)
        if change.body.scope == "key":
            await self._check_target(change, "keys")
        elif change.body.scope == "member":
            await self._check_target(change, "members")

    async def _check_target(self, change: Change[NewBudget], kind: str) -> None:
        """Refuse a budget for nobody: it would bound nothing, and nobody would notice."""
        resource = self._find_resource(kind)
        if resource is None:
            return  # whoever keeps them is not here
        sql = f"SELECT id FROM {resource.table} WHERE id = ? AND organization_id = ?"  # noqa: S608
        place = (change.body.target_id, change.caller.organization_id)
        if await change.transaction.fetch_one(sql, place) is None:
            raise invalid("targetId", f"there is no such {change.body.scope} in this organisation")

    async def _show(self, record: Record[NewBudget]) -> Mapping[str, Any]:
        now = time.time()
        budget = read_budget(record.columns)
        counters, name = self._counters(), budget.counter(now)
        used, held = await counters.used(name), await counters.held(name)
        _, until = period_of(budget.period, now)
        left = max(0, budget.limit_nano - used)
        amounts = {"spent": used - held, "reserved": held, "remaining": left}
        shown: dict[str, Any] = {"limitNano": budget.limit_nano}
        for word, amount in amounts.items():
            shown |= {word: dollars(amount), f"{word}Nano": amount}
        resets_at = None if budget.period == "total" else datetime.fromtimestamp(until, UTC)
        return shown | {"resetsAt": resets_at}


async def judge_budget(change: Change[NewBudget]) -> None:
    """Fill the columns that follow from a budget's fields. Raises InvalidRequest."""
    new, before = change.body, change.before
    target = change.caller.organization_id if new.scope == "organization" else new.target_id
    if not target:
        raise invalid("targetId", f"name the {new.scope} that the budget is for")
    change.body = new = msgspec.structs.replace(new, target_id=target)
    change.columns["limit_nano"] = nano(new.limit)
    if before is not None:
        old = before.body
        is_another = (old.scope, old.target_id, old.period) != (new.scope, new.target_id, new.period)
        change.columns["revision"] = before.columns["revision"] + is_another


def make_resource(**rules: Any) -> Resource[NewBudget]:
    """Declare `/budgets`."""
    return Resource(
        name=TOPIC, singular="budget", table="budgets", prefix="bud_", body=NewBudget, shown=Shown,
        summary="How much an organisation, a member or a key may spend in a period",
        example={"name": "team blue", "limit": "25.00", "period": "monthly"}, **rules,
    )  # fmt: skip


class BudgetStore:
    """Budgets for the books, the command line and tests: what `/budgets` does, without HTTP."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._records = Records(storage)
        self._resource = make_resource(check=judge_budget)

    async def list_all(self, organization_id: str | None = None) -> list[Budget]:
        """List the budgets, the oldest first."""
        rows = await self._storage.fetch_all("SELECT * FROM budgets ORDER BY created_at, id")
        return [read_budget(row) for row in rows if organization_id in (None, row["organization_id"])]

    async def create(self, new: NewBudget, organization_id: str) -> Budget:
        """Make a budget. Raises InvalidRequest, and Refused (409) for a name that is taken."""
        caller = _operator(organization_id)
        made = await self._records.create(self._resource, msgspec.json.encode(new), caller)
        return read_budget((await self._records.get(self._resource, made["id"], caller)).columns)

    async def replace(self, budget_id: str, new: NewBudget, organization_id: str) -> Budget:
        """Put new fields in the place of a budget's. Raises NotFound and what `create` raises."""
        caller = _operator(organization_id)
        body = msgspec.json.encode(new)
        await self._records.change(self._resource, budget_id, body, caller, replace=True)
        return read_budget((await self._records.get(self._resource, budget_id, caller)).columns)

    async def delete(self, budget_id: str, organization_id: str) -> None:
        """Take a budget away; what was spent stays in the ledger. Raises NotFound."""
        await self._records.delete(self._resource, budget_id, _operator(organization_id))


def nano(amount: str) -> int:
    """Read an amount in US dollars (at most nine decimals) as nano-dollars."""
    return int(Decimal(amount) * NANO)


def matching(budgets: Iterable[Budget], principal: Principal) -> list[Budget]:
    """Pick the budgets that a caller spends from."""
    return [budget for budget in budgets if budget.applies_to(principal)]


def read_budget(row: Row) -> Budget:
    """Read a row of the table."""
    return Budget(**{name: row[name] for name in Budget.__struct_fields__})


def _operator(organization_id: str) -> Caller:
    return msgspec.structs.replace(SYSTEM, organization_id=organization_id)
