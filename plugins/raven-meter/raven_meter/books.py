"""The books in memory: which budgets and balances hold for a caller, counted by the gateway's counters.

A snapshot that is read anew when somebody changes a budget or grants money, in any process. Counters hold
what is spent and reserved; the ledger is where they come from, and `reconcile` says whether they agree.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat

import msgspec
import structlog

from raven_proxy import GatewayError, Principal, Refused
from raven_proxy.counters import Claim, Counters, Denial
from raven_proxy.storage import Storage

from . import ledger
from .budgets import Budget, BudgetStore, matching
from .pricing import dollars

__all__ = ["NO_BOUNDS", "Books", "Bounds", "Drift", "Standing"]

_log = structlog.get_logger("raven_meter.books")

_RETRY_S = 0.5
_LOOK_EVERY_S = 2.0  # by then every process has seen a change, and has written what it charged before
_MAX_KEPT = 4096  # callers
_Counted = list[tuple[str, Budget | None]]


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


class Bounds(msgspec.Struct, frozen=True):
    """What bounds a caller from `since` until `until` (Unix seconds): counters, and the limit of each."""

    since: float
    until: float
    counters: tuple[str, ...]
    limits: tuple[int, ...]

    def claims(self, amount: int) -> list[Claim]:
        """List what an exchange that may cost `amount` must be able to take, the balance first."""
        return list(map(Claim, self.counters, repeat(amount), self.limits))


NO_BOUNDS = Bounds(0, 2**62, (), ())
"""What bounds a caller whom nothing does."""


class Books:
    """Budgets and balances. With `prepaid` an organisation without any grant may spend nothing."""

    def __init__(self, storage: Storage, counters: Counters) -> None:
        self.prepaid = False
        self.version = 0  # rises when what bounds anybody changes
        self._storage = storage
        self._counters = counters
        self._budgets: list[Budget] = []
        self._granted: Mapping[str, int] = {}
        self._loaded: set[str] = set()
        self._young: set[str] = set()  # began to count here a moment ago
        self._kept: dict[tuple[str, str, str | None], Bounds] = {}
        self._refreshing = asyncio.Lock()
        self.readers = 0  # of the ledger, just now: then charges are to be noted
        self._recent: list[ledger.Entry] = []  # charged meanwhile

    async def refresh(self) -> None:
        """Read budgets and grants anew; counters that are new here begin with what the ledger says."""
        async with self._refreshing:
            budgets = await BudgetStore(self._storage).list_all()
            granted = await ledger.granted(self._storage)
            now = time.time()
            counted = _counted(budgets, granted, now)
            unknown = [(name, budget) for name, budget in counted if name not in self._loaded]
            booked = await self._book(unknown, now) if unknown else dict
            # From here to the end nothing waits: no charge falls between the ledger and the counters.
            self._budgets, self._granted = budgets, granted
            self._kept.clear()
            self.version += 1
            self._loaded = {name for name, _ in counted}
            totals = booked()
            if totals:
                await self._counters.load(totals, keep=True)
                self._young |= totals.keys()

    async def catch_up(self, names: Iterable[str] | None = None) -> None:
        """Raise counters (all) to what the ledger says, where that is more.

        It can be for a moment after a budget was made: another process may have charged what it spends
        before it knew of it, and a crash brings charges into the ledger that nobody counted.
        """
        now = time.time()
        wanted = None if names is None else set(names)
        counted = _counted(self._budgets, self._granted, now)
        chosen = [one for one in counted if wanted is None or one[0] in wanted]
        if not chosen:
            return
        booked = (await self._book(chosen, now))()
        for name, amount in booked.items():
            spent = await self._counters.used(name) - await self._counters.held(name)
            if spent < amount:
                await self._counters.settle([name], 0, amount - spent)

    async def keep(self) -> None:
        """Look after the counters; runs until it is cancelled.

        Those that are gone (somebody deleted the store) are counted again; those that are new are compared
        with the ledger once every process must know them.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            young, self._young = self._young, set()
            try:
                missing = await self._counters.missing(self._loaded)
                if missing:
                    _log.warning("counters were lost and are counted again", counters=len(missing))
                await self.catch_up([*young, *missing])
            except Exception as error:
                self._young |= young
                _log.error("counters cannot be compared with the ledger", reason=str(error))

    def note(self, request_id: str, principal: Principal, cost_nano: int, at: float) -> None:
        """Take note of a charge on its way into the ledger; without `readers` there is no need to."""
        if self.readers:
            self._recent.append(ledger.charge(request_id, principal, cost_nano, int(at)))

    def bounds(self, principal: Principal, at: float) -> Bounds:
        """Give what bounds a caller at a moment: his balance and his budgets. Kept until a period ends."""
        caller = (principal.organization_id, principal.key_id, principal.attributes.get("member_id"))
        kept = self._kept.get(caller)
        if kept is not None and kept.since <= at < kept.until:
            return kept
        organization = principal.organization_id
        found: list[tuple[str, int]] = []
        limit = self._granted.get(organization)
        if limit is not None:
            found.append((f"spent:{organization}", max(0, limit)))
        elif self.prepaid:
            found.append((f"unpaid:{organization}", 0))
        since, until = 0, 2**62
        for budget in matching(self._budgets, principal):
            found.append((budget.counter(at), budget.limit_nano))
            first, end = ledger.period_of(budget.period, at)
            since, until = max(since, first), min(until, end)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        bounds = Bounds(since, until, tuple([name for name, _ in found]), tuple([n for _, n in found]))
        self._kept[caller] = bounds
        return bounds

    def list_budgets(self) -> Sequence[Budget]:
        """List every budget that is in force."""
        return self._budgets

    def name_of(self, counter: str) -> str:
        """Say in words what a counter counts for."""
        if not counter.startswith("budget:"):
            return "balance"
        name = next((b.name for b in self._budgets if counter.startswith(f"budget:{b.id}:")), "?")
        return f"budget {name!r}"

    async def settle(self, counters: Sequence[str], held: int, cost: int) -> None:
        """End a hold on counters. Out of reach, they are tried again: the ledger has the charge."""
        while True:
            try:
                return await self._counters.settle(counters, held, cost)
            except GatewayError:
                await asyncio.sleep(_RETRY_S)

    def refusal(self, denial: Denial) -> Refused:
        """Word what a denied claim means to the caller (402)."""
        claim = denial.claim
        left = dollars(max(0, claim.limit - denial.used))
        words = f"it may cost ${dollars(claim.amount)}, and ${left} is left"
        if not claim.amount:  # it has no known price
            words = "it is used up"
        if claim.key.startswith(("spent:", "unpaid:")):
            return Refused(
                f"The balance does not cover this request: {words}.",
                status=402,
                code="insufficient_balance",
            )
        return Refused(
            f"The {self.name_of(claim.key)} does not cover this request: {words}.",
            status=402,
            code="budget_exceeded",
        )

    async def standings(self) -> list[Standing]:
        """Say how every balance and every budget stands; what is reserved is not spent yet."""
        found = []
        for name, budget in _counted(self._budgets, self._granted, time.time()):
            spent = await self._counters.used(name) - await self._counters.held(name)
            organization = budget.organization_id if budget is not None else name.removeprefix("spent:")
            limit = budget.limit_nano if budget is not None else self._granted[organization]
            found.append(
                Standing(organization_id=organization, limit_nano=limit, spent_nano=spent, budget=budget)
            )
        return found

    async def reconcile(self) -> list[Drift]:
        """Compare every counter with the ledger and set it right; give those that were wrong.

        Exact while this process serves. What other processes have not written yet counts as drift: run it
        when they are quiet.
        """
        now = time.time()
        counted = _counted(self._budgets, self._granted, now)
        booked = (await self._book(counted, now))()
        drifts = []
        for name, amount in sorted(booked.items()):
            spent = await self._counters.used(name) - await self._counters.held(name)
            if spent != amount:
                drifts.append(Drift(name, spent, amount))
        await self._counters.load({drift.counter: drift.booked for drift in drifts})
        return drifts

    async def _book(self, counted: _Counted, now: float) -> Callable[[], dict[str, int]]:
        """Sum up what the ledger says of counters; give a function that adds what was charged meanwhile.

        Call that at once where the sums are used. Raises the database's error if it cannot be written.
        """
        if not self.readers:
            self._recent = []
        self.readers += 1
        try:
            await self._storage.flush()
            last = await ledger.last_id(self._storage)
            totals = {name: await self._sum(name, budget, now, last) for name, budget in counted}
            known = await ledger.charged(self._storage, [entry.reference for entry in self._recent], last)
        finally:
            self.readers -= 1
        recent = self._recent

        def sums() -> dict[str, int]:
            late = [entry for entry in recent if entry.reference not in known]
            return {
                name: total + sum(entry.amount_nano for entry in late if _belongs(entry, name, budget, now))
                for (name, budget), total in zip(counted, totals.values(), strict=True)
            }

        return sums

    async def _sum(self, name: str, budget: Budget | None, now: float, last: int) -> int:
        if budget is None:
            organization = name.removeprefix("spent:")
            sums = await ledger.spent(self._storage, "organization_id", organization, through=last)
            return sums.get(organization, 0)
        since, until = ledger.period_of(budget.period, now)
        column = {"organization": "organization_id", "member": "member_id", "key": "key_id"}[budget.scope]
        sums = await ledger.spent(self._storage, column, budget.target_id, since, until, through=last)
        return sums.get(budget.organization_id, 0)


def _counted(budgets: Sequence[Budget], granted: Mapping[str, int], now: float) -> _Counted:
    """Name the counters that hold at a moment; the balances' have no budget."""
    balances: _Counted = [(f"spent:{name}", None) for name in granted]
    return [*balances, *((budget.counter(now), budget) for budget in budgets)]


def _belongs(entry: ledger.Entry, name: str, budget: Budget | None, now: float) -> bool:
    return name == f"spent:{entry.organization_id}" if budget is None else budget.covers(entry, now)
