"""T83, T86: what is admitted before midnight is that day's, whenever it ends; and it is charged once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_meter import ledger
from raven_meter.budgets import Budget, BudgetStore, NewBudget

from raven_proxy import Outcome, Principal, Refused

from .teller import Clock, Teller, exchange_of, finish, tokens

CALLER = Principal(key_id="key_1", organization_id="org_a")
COST = 30_000_000  # 10 x $0.001 + 10 x $0.002
ENDS = {  # the last second of a period → the period, and the first second of the next one
    "a day": ("2027-03-14T23:59:59", "daily", "2027-03-15"),
    "a month of 31 days": ("2027-01-31T23:59:59", "monthly", "2027-02-01"),
    "February": ("2027-02-28T23:59:59", "monthly", "2027-03-01"),
    "28 February of a leap year": ("2028-02-28T23:59:59", "daily", "2028-02-29"),
    "a leap day": ("2028-02-29T23:59:59", "monthly", "2028-03-01"),
    "a week": ("2027-03-14T23:59:59", "weekly", "2027-03-15"),
    "a year's month": ("2027-12-31T23:59:59", "monthly", "2028-01-01"),
    "a day whose clocks change in Europe": ("2027-03-28T23:59:59", "daily", "2027-03-29"),
    "a day whose clocks change back in Europe": ("2027-10-31T23:59:59", "daily", "2027-11-01"),
}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def clock() -> Any:
    made = Clock(at("2027-03-14T12:00:00"))
    made.install()
    yield made
    made.remove()


@pytest.fixture
async def teller(tmp_path: Path, clock: Clock) -> AsyncIterator[Teller]:
    (tmp_path / "catalog.json").write_bytes(msgspec.json.encode({"m-1": {"input": "1000", "output": "2000"}}))
    made = Teller(tmp_path)
    await made.open()
    yield made
    await made.abandon()


class Customer:
    """Admits and settles, and looks at the budget's counter."""

    def __init__(self, teller: Teller) -> None:
        self.teller = teller
        self.sent = 0

    async def admit(self) -> Any:
        self.sent += 1
        exchange = exchange_of(f"req_{self.sent}", CALLER, "m-1", max_tokens=10)
        await self.teller.meter.check_request(exchange)
        exchange.candidate = exchange.candidates[0]
        await self.teller.meter.before_send(exchange)
        return exchange

    def settle(self, exchange: Any) -> None:
        finish(exchange, tokens(10, 10))
        self.teller.meter.settle_exchange(exchange)

    async def spent(self, budget: Budget, moment: float) -> tuple[int, int]:
        name = budget.counter(moment)
        held = await self.teller.counters.held(name)
        return await self.teller.counters.used(name) - held, held


async def budget_of(teller: Teller, period: Any, limit: str = "1") -> Budget:
    new = NewBudget(name="b", limit=limit, period=period)
    return await BudgetStore(teller.storage).create(new, "org_a")


@pytest.mark.parametrize("end", ENDS)
async def test_t83_a_charge_is_booked_to_the_period_of_its_admission(
    teller: Teller, clock: Clock, end: str
) -> None:
    """Admitted in the last second, settled minutes into the next period: the counter, the hold and the
    ledger are the old period's; the next one begins at nothing, at once.
    """
    moment, period, following = ENDS[end]
    before, after = at(moment), at(following)
    assert after - before == 1
    clock.now = before
    budget = await budget_of(teller, period)
    customer = Customer(teller)
    exchange = await customer.admit()
    assert (await customer.spent(budget, before))[1] > 0
    clock.now = after + 300
    assert await customer.spent(budget, clock.now) == (0, 0)
    customer.settle(exchange)
    assert await customer.spent(budget, before) == (COST, 0)
    assert await customer.spent(budget, clock.now) == (0, 0)
    [entry] = await teller.rows("entries")
    assert entry["at"] == before
    assert ledger.period_of(budget.period, before)[1] == after == ledger.period_of(budget.period, after)[0]
    assert await teller.reconcile() == []


@pytest.mark.parametrize("end", ENDS)
async def test_t83_it_stays_there_over_a_crash(teller: Teller, clock: Clock, end: str) -> None:
    """Died after midnight with the exchange under way: what is billed is billed to the day before."""
    moment, period, following = ENDS[end]
    clock.now = at(moment)
    budget = await budget_of(teller, period)
    customer = Customer(teller)
    exchange = await customer.admit()
    exchange.produced_bytes = 1000
    teller.meter._keeper.record_progress()
    clock.now = at(following) + 60
    await teller.die()
    await teller.open()
    [entry] = await teller.rows("entries")
    assert entry["at"] == at(moment)
    assert await customer.spent(budget, clock.now) == (0, 0)
    assert await teller.reconcile() == []


async def test_t83_constant_traffic_does_not_postpone_a_reset(teller: Teller, clock: Clock) -> None:
    """A request every minute for three days: each day's budget admits the same number, from midnight on."""
    clock.now = at("2028-02-28T00:00:00")
    await budget_of(teller, "daily", limit="0.3")
    customer = Customer(teller)
    admitted: dict[str, list[str]] = {}
    for minute in range(0, 3 * 1440, 10):
        clock.now = at("2028-02-28T00:00:00") + minute * 60
        try:
            customer.settle(await customer.admit())
        except Refused:
            continue
        moment = datetime.fromtimestamp(clock.now, UTC)
        admitted.setdefault(moment.date().isoformat(), []).append(moment.strftime("%H:%M"))
    assert list(admitted) == ["2028-02-28", "2028-02-29", "2028-03-01"]
    assert {len(times) for times in admitted.values()} == {len(admitted["2028-02-28"])}
    assert {times[0] for times in admitted.values()} == {"00:00"}
    assert await teller.reconcile() == []


async def test_t83_a_period_is_reset_once(teller: Teller, clock: Clock) -> None:
    """Clocks that go back a little find the old day's counter as it was."""
    clock.now = at("2027-03-14T23:59:59")
    budget = await budget_of(teller, "daily")
    customer = Customer(teller)
    customer.settle(await customer.admit())
    clock.now += 2
    customer.settle(await customer.admit())
    customer.settle(await customer.admit())
    clock.now -= 2
    assert await customer.spent(budget, clock.now) == (COST, 0)
    customer.settle(await customer.admit())
    clock.now += 2
    assert await customer.spent(budget, clock.now) == (2 * COST, 0)
    assert await teller.reconcile() == []


def test_t83_periods_follow_one_another_without_gap_for_years() -> None:
    """Every day of 2024 to 2033 lies in one period of each kind, and the next begins where it ends."""
    for number in range(3653):
        day = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)
        for period in ("daily", "weekly", "monthly"):
            since, until = ledger.period_of(period, day.timestamp())  # type: ignore[arg-type]
            assert since <= day.timestamp() < until
            assert ledger.period_of(period, until - 1) == (since, until)  # type: ignore[arg-type]
            assert ledger.period_of(period, until)[0] == until  # type: ignore[arg-type]


async def test_t86_settled_twice_is_charged_once(teller: Teller) -> None:
    """By the same process, by a replay of the journal, and by a second copy of the journal."""
    budget = await budget_of(teller, "total")
    customer = Customer(teller)
    other = await customer.admit()
    exchange = await customer.admit()
    held = (await customer.spent(budget, 0.0))[1]
    for _ in range(3):
        customer.settle(exchange)
    assert await customer.spent(budget, 0.0) == (COST, held // 2), "the other's hold is not touched"
    copies = [path.read_bytes() for path in (teller.folder / "journal").iterdir()]
    customer.settle(other)
    await teller.rows()
    await teller.die()
    for number, copy in enumerate(copies * 2):
        (teller.folder / "journal" / f"{number:020d}-1-0.log").write_bytes(copy)
    await teller.open()
    assert len(await teller.rows()) == 2
    assert [entry["amount_nano"] for entry in await teller.rows("entries")] == [COST, COST]
    assert await customer.spent(budget, 0.0) == (2 * COST, 0)
    assert await teller.reconcile() == []


async def test_t86_reconcile_finds_and_mends_a_counter_that_is_wrong(teller: Teller) -> None:
    """Also one that was wiped: it is built anew from the ledger, and not from zero."""
    budget = await budget_of(teller, "total")
    customer = Customer(teller)
    customer.settle(await customer.admit())
    under_way = await customer.admit()
    for wrong in (0, 5, COST * 7):
        await teller.counters.load({budget.counter(0.0): wrong})
        [drift] = await teller.reconcile()
        assert (drift.counted, drift.booked) == (wrong, COST)
        assert await teller.reconcile() == []
    customer.settle(under_way)
    assert await customer.spent(budget, 0.0) == (2 * COST, 0)


async def test_a_budget_for_something_else_counts_anew(teller: Teller, clock: Clock) -> None:
    """From one day to the month, to another key and back: what it was for before does not count, what it
    is for now counts all of its period.
    """
    clock.now = at("2027-03-01T10:00:00")
    store = BudgetStore(teller.storage)
    customer = Customer(teller)
    budget = await budget_of(teller, "daily")
    customer.settle(await customer.admit())
    clock.now = at("2027-03-05T10:00:00")
    customer.settle(await customer.admit())
    wanted = [
        ("monthly", "organization", None, 2),
        ("daily", "key", "key_9", 0),
        ("daily", "key", "key_1", 1),
    ]
    wanted += [("weekly", "organization", None, 2), ("total", "organization", None, 2)]
    for period, scope, target, times in wanted:
        kind: Any = {"period": period, "scope": scope, "target_id": target}
        new = NewBudget(name="b", limit="1", **kind)
        budget = await store.replace(budget.id, new, "org_a")
        assert await customer.spent(budget, clock.now) == (times * COST, 0), (period, scope)
        assert await teller.reconcile() == []


async def test_nothing_is_held_for_what_ends_without_an_admission(teller: Teller) -> None:
    exchange = exchange_of("req_bare", CALLER, "m-1")
    finish(exchange, None, Outcome.FAILED)
    teller.meter.settle_exchange(exchange)
    assert [row["cost_nano"] for row in await teller.rows()] == [0]
