"""The books in memory: which budgets and balances hold for a caller, counted by the gateway's counters.

A snapshot that is read anew when somebody changes a budget or grants money, in any process. Counters hold
what is spent and reserved; the ledger is where they come from, and `reconcile` says whether they agree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from raven_proxy import Principal, Refused
from raven_proxy.counters import Claim, Counters, Denial
from raven_proxy.storage import Storage

from . import ledger
from .budgets import Budget, BudgetStore, matching
from .pricing import dollars

__all__ = ["Books", "Drift", "Standing"]


class Drift(msgspec.Struct, frozen=True):
    """A counter that is not what the ledger says, both in nano-dollars."""

    counter: str
    counted: int
    booked: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a balance (`budget` is None) or a budget stands now: of `limit_nano`, `spent_nano` is spent."""

    organization_id: str
    limit_nano: int
    spent_nano: int
    budget: Budget | None = None


class Books:
    """Budgets and balances. `prepaid` says whether an organisation without any grant may spend nothing."""

    def __init__(self, storage: Storage, counters: Counters, *, prepaid: bool) -> None:
        self._storage = storage
        self._counters = counters
        self._prepaid = prepaid
        self._budgets: list[Budget] = []
        self._granted: Mapping[str, int] = {}
        self._loaded: set[str] = set()
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read budgets and grants anew; counters that are new here begin with what the ledger says."""
        async with self._refreshing:
            self._budgets = await BudgetStore(self._storage).list_all()
            self._granted = await ledger.granted(self._storage)
            unknown = {name for name, _ in self._counted() if name not in self._loaded}
            if unknown:
                await self._storage.flush()
                await self._counters.load(await self._book(unknown), keep=True)
                self._loaded |= unknown

    def claims(self, principal: Principal, amount: int, at: float) -> list[Claim]:
        """List what an exchange that may cost `amount` must be able to take, the balance first."""
        organization = principal.organization_id
        found = []
        limit = self._granted.get(organization)
        if limit is not None or self._prepaid:
            found.append(Claim(f"spent:{organization}", amount, max(0, limit or 0)))
        found += [
            Claim(budget.counter(at), amount, budget.limit_nano)
            for budget in matching(self._budgets, principal)
        ]
        return found

    def counters_of(self, principal: Principal, at: float) -> list[str]:
        """Name the counters that a charge at a moment belongs to."""
        return [claim.key for claim in self.claims(principal, 0, at)]

    def refusal(self, denial: Denial) -> Refused:
        """Word what a denied claim means to the caller (402)."""
        claim = denial.claim
        left = dollars(max(0, claim.limit - denial.used))
        need = dollars(claim.amount)
        if claim.key.startswith("spent:"):
            return Refused(
                f"The balance does not cover this request: it may cost ${need}, and ${left} is left.",
                status=402,
                code="insufficient_balance",
            )
        name = next((b.name for b in self._budgets if claim.key.startswith(f"budget:{b.id}:")), "?")
        return Refused(
            f"The budget {name!r} does not cover this request: it may cost ${need}, and ${left} is left.",
            status=402,
            code="budget_exceeded",
        )

    async def standings(self) -> list[Standing]:
        """Say how every balance and every budget stands; what is reserved is not spent yet."""
        found = []
        for name, budget in self._counted():
            spent = await self._counters.used(name) - await self._counters.held(name)
            organization = budget.organization_id if budget is not None else name.removeprefix("spent:")
            limit = budget.limit_nano if budget is not None else self._granted[organization]
            found.append(
                Standing(organization_id=organization, limit_nano=limit, spent_nano=spent, budget=budget)
            )
        return found

    async def reconcile(self) -> list[Drift]:
        """Compare every counter with the ledger and set it right; give those that were wrong.

        What is still on its way into the ledger counts as drift: run it when nobody writes.
        """
        await self._storage.flush()
        names = {name for name, _ in self._counted()}
        booked = await self._book(names)
        drifts = []
        for name in sorted(names):
            counted = await self._counters.used(name) - await self._counters.held(name)
            if counted != booked[name]:
                drifts.append(Drift(name, counted, booked[name]))
        await self._counters.load({drift.counter: drift.booked for drift in drifts})
        return drifts

    def _counted(self) -> list[tuple[str, Budget | None]]:
        now = time.time()
        organizations = [(f"spent:{name}", None) for name in self._granted]
        return [*organizations, *((budget.counter(now), budget) for budget in self._budgets)]

    async def _book(self, names: set[str]) -> dict[str, int]:
        """Sum up what the ledger says of each counter."""
        by_organization = await ledger.spent(self._storage)
        totals: dict[str, int] = {}
        for name, budget in self._counted():
            if name not in names:
                continue
            if budget is None:
                totals[name] = by_organization.get(name.removeprefix("spent:"), 0)
                continue
            since, until = ledger.period_of(budget.period, time.time())
            column = {"organization": "organization_id", "member": "member_id", "key": "key_id"}[budget.scope]
            sums = await ledger.spent(self._storage, column, budget.target_id, since, until)
            totals[name] = sums.get(budget.organization_id, 0)
        return totals
