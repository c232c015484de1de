"""Whatever happens in whatever order, the books balance: a random walk through the life of a meter.

The walk drives the real plugin on a real database file and a real journal. `Ledgers` is what ought to be
true, kept in plain numbers by code that shares only the published estimate with the plugin.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from raven_meter import ledger
from raven_meter.budgets import TOPIC, BudgetStore, NewBudget
from raven_meter.pricing import NANO, dollars

from raven_proxy import Exchange, Outcome, Principal, Refused

from .teller import Clock, Teller, exchange_of, finish, tokens

PRICES = [("10", "20"), ("0.15", "0.6"), ("3", "15")]
CALLERS = [
    Principal(key_id="key_1", organization_id="org_a", attributes={"member_id": "mem_1"}),
    Principal(key_id="key_2", organization_id="org_a", attributes={"rate_multiplier": "1.5"}),
    Principal(key_id="key_3", organization_id="org_b", attributes={"rate_multiplier": None}),
]
TARGETS = {"organization": None, "member": "mem_1", "key": "key_2"}
PERIODS = ["daily", "weekly", "monthly", "total"]
START = datetime(2028, 2, 27, 22, tzinfo=UTC).timestamp()  # two days before a leap day, on a Sunday
EXCHANGES: Any = Bundle("exchanges")


class Limit:
    """A budget or a balance: what may be spent, and by how much estimates missed since it is there."""

    def __init__(self, limit: int, baseline: int) -> None:
        self.limit = limit
        self.baseline = baseline
        self.missed: Counter[int] = Counter()  # by the period's first second


class Books(RuleBasedStateMachine):
    """The walk."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="meter-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.runner = asyncio.Runner()
        self.clock = Clock(START)
        self.clock.install()
        self.sent = 0
        self.prices = PRICES[0]
        self.under_way: dict[str, tuple[Exchange, Any]] = {}  # with the meter that admitted it
        self.admitted: dict[str, tuple[float, int, tuple[str, ...]]] = {}  # when, what is held, of whom
        self.recorded: set[str] = set()
        self.costs: dict[str, int] = {}  # of what ended
        self.ends: dict[str, tuple[float, Principal]] = {}
        self.granted: Counter[str] = Counter()
        self.budgets: dict[str, Any] = {}
        self.limits: dict[str, Limit] = {}

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(prepaid=st.booleans())
    def begin(self, prepaid: bool) -> None:
        self.teller = Teller(self.folder, prepaid=prepaid)
        self.write_prices(PRICES[0])
        self.run(self.teller.open())

    def write_prices(self, prices: tuple[str, str]) -> None:
        self.prices = prices
        catalog = {"m-1": {"input": prices[0], "output": prices[1]}}
        (self.folder / "catalog.json").write_bytes(msgspec.json.encode(catalog))

    # -- what callers and providers do ------------------------------------------------

    @rule(target=EXCHANGES, caller=st.sampled_from(CALLERS), longest=st.sampled_from([1, 50, 2000]))
    def admit(self, caller: Principal, longest: int) -> str:
        self.sent += 1
        name = f"req_{self.sent}"
        exchange = exchange_of(name, caller, "m-1", max_tokens=longest)
        expected = self.wanted(exchange)
        within = all(limit - used >= expected for limit, used in self.bounds(caller))
        try:
            self.run(self.teller.meter.check_request(exchange))
        except Refused as refused:
            assert refused.status == 402  # noqa: PT017 - either way is tested
            assert not within, "refused although there was money"
            self.settle_with(self.teller.meter, exchange, None, Outcome.REFUSED)
            return name
        assert within, "admitted although there was no money"
        names = tuple(self.names(caller))
        self.admitted[name] = (self.clock.now, expected if names else 0, names)
        self.under_way[name] = (exchange, self.teller.meter)
        return name

    @rule(name=EXCHANGES, times=st.integers(1, 2))
    def send(self, name: str, times: int) -> None:
        """Upstream, and once more where the first attempt came to nothing."""
        if name in self.under_way:
            exchange, meter = self.under_way[name]
            for _ in range(times):
                exchange.candidate = exchange.candidates[0]
                self.run(meter.before_send(exchange))
            self.recorded.add(name)

    @rule(name=EXCHANGES, size=st.integers(1, 5000))
    def progress(self, name: str, size: int) -> None:
        if name in self.under_way and name in self.recorded:
            exchange, meter = self.under_way[name]
            exchange.produced_bytes += size
            meter._keeper.record_progress()

    @rule(
        name=consumes(EXCHANGES),
        prompt=st.integers(0, 300),
        completion=st.integers(0, 4000),
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.CANCELLED, Outcome.TRUNCATED]),
        twice=st.booleans(),
    )
    def settle(self, name: str, prompt: int, completion: int, outcome: Outcome, twice: bool) -> None:
        """It ends well, or the client leaves, or it breaks off; now and then that is told twice."""
        if name in self.recorded and name in self.under_way:
            exchange, meter = self.under_way.pop(name)
            self.settle_with(meter, exchange, tokens(prompt, completion), outcome, twice=twice)

    @rule(name=consumes(EXCHANGES), outcome=st.sampled_from([Outcome.UPSTREAM_ERROR, Outcome.FAILED]))
    def fail(self, name: str, outcome: Outcome) -> None:
        """Nothing was produced: before it was sent, or after."""
        if name in self.under_way:
            exchange, meter = self.under_way.pop(name)
            self.settle_with(meter, exchange, None, outcome)

    # -- what administrators do -----------------------------------------------------------

    @rule(organization=st.sampled_from(["org_a", "org_b"]), cents=st.integers(-3, 60).filter(bool))
    def grant(self, organization: str, cents: int) -> None:
        amount = cents * NANO // 1000
        entry = ledger.grant(
            f"grant_{self.sent}", amount, int(self.clock.now), organization_id=organization, note=None
        )
        self.sent += 1

        async def book() -> None:
            async with self.teller.storage.transaction() as transaction:
                await transaction.execute(ledger.INSERT_ENTRY, entry.row())
                await transaction.bump(TOPIC)

        self.run(book())
        self.granted[organization] += amount
        self.set_limit(f"spent:{organization}", max(0, self.granted[organization]))

    @rule(
        number=st.integers(1, 3),
        scope=st.sampled_from(sorted(TARGETS)),
        period=st.sampled_from(PERIODS),
        cents=st.integers(1, 60),
    )
    def budget(self, number: int, scope: Any, period: Any, cents: int) -> None:
        """A new one, or other fields in the place of an old one's."""
        new = NewBudget(
            name=f"budget {number}",
            scope=scope,
            target_id=TARGETS[scope],
            limit=dollars(cents * NANO // 1000),
            period=period,
        )
        store = BudgetStore(self.teller.storage)
        old = self.budgets.get(new.name)
        made = self.run(store.replace(old.id, new, "org_a") if old else store.create(new, "org_a"))
        self.budgets[new.name] = made
        self.set_limit(made.id, made.limit_nano)

    @precondition(lambda self: len(self.teller.meters) == 1)
    @rule(name=consumes(EXCHANGES), number=st.integers(4, 6), turns=st.integers(0, 12))
    def settle_while_a_budget_is_made(self, name: str, number: int, turns: int) -> None:
        """No charge may fall between the ledger that a new counter begins with and the counter.

        Two meters of one process do not know of each other's charges: in the moments of a reload one may
        be missed, until somebody reconciles.
        """
        if name not in self.recorded or name not in self.under_way or f"budget {number}" in self.budgets:
            return
        exchange, meter = self.under_way.pop(name)
        new = NewBudget(name=f"budget {number}", limit="0.01", period="total")

        async def both() -> Any:
            making = asyncio.ensure_future(BudgetStore(self.teller.storage).create(new, "org_a"))  # noqa: TID251
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            self.settle_with(meter, exchange, tokens(10, 10), Outcome.COMPLETED, retire=False)
            return await making

        made = self.run(both())
        self.retire_idle()
        self.budgets[new.name] = made
        self.set_limit(made.id, made.limit_nano)

    @rule(number=st.integers(1, 6))
    def drop_budget(self, number: int) -> None:
        budget = self.budgets.pop(f"budget {number}", None)
        if budget is not None:
            self.run(BudgetStore(self.teller.storage).delete(budget.id, "org_a"))

    @rule(prices=st.sampled_from(PRICES))
    def change_prices(self, prices: tuple[str, str]) -> None:
        """By a reload: what is under way ends on the old meter."""
        self.write_prices(prices)
        self.run(self.teller.reload())
        self.retire_idle()

    # -- what happens to the process ----------------------------------------------------

    @rule(hours=st.sampled_from([0.5, 2, 24, 24 * 7, 24 * 29]))
    def later(self, hours: float) -> None:
        self.clock.now += hours * 3600

    @rule()
    def turn_over(self) -> None:
        self.run(self.teller.meter._keeper.turn_over())

    @precondition(lambda self: not self.under_way)
    @rule()
    def restart(self) -> None:
        self.run(self.teller.close())
        self.run(self.teller.open())

    @rule(torn=st.binary(max_size=40))
    def crash(self, torn: bytes) -> None:
        """Die with whatever is under way, perhaps in the middle of a record, and come back."""
        self.run(self.teller.die())
        segments = sorted((self.folder / "journal").iterdir())
        if segments and torn:
            with segments[-1].open("ab") as file:
                file.write(torn.replace(b"\n", b" "))
        self.run(self.teller.open())
        self.adopt_the_unfinished()

    def adopt_the_unfinished(self) -> None:
        """What was on its way up is billed by what was seen of it; the rest never was."""
        lost, self.under_way = self.under_way, {}
        rows = {row["request_id"]: row for row in self.run(self.teller.rows())}
        for name, (exchange, _) in lost.items():
            assert (name in rows) == (name in self.recorded)
            if name in rows:
                row = rows[name]
                assert (row["error_code"], row["estimated"]) == ("crashed", 1)
                assert bool(row["cost_nano"]) == bool(exchange.produced_bytes)
                self.note_end(exchange, row["cost_nano"], held=0)

    # -- what ought to be true ----------------------------------------------------------

    @invariant()
    def counters_are_what_was_charged_and_held(self) -> None:
        """At every step, without waiting for the database."""
        if not hasattr(self, "teller"):
            return
        held: Counter[str] = Counter()
        for name in self.under_way:
            _, amount, names = self.admitted[name]
            held.update(dict.fromkeys(names, amount))
        for name in [*self.current(), *held]:
            assert self.run(self.teller.counters.held(name)) == held[name], name
        for name, used in self.current().items():
            assert self.run(self.teller.counters.used(name)) - held[name] == used, name

    @invariant()
    def nobody_overspends(self) -> None:
        """Beyond a limit goes only what estimates missed, and what was spent or held when it was set."""
        for name, limit in self.limits.items():
            budget = next((one for one in self.budgets.values() if one.id == name), None)
            if budget is not None or name.startswith("spent:"):
                start, used = self.spent_of(name, budget)
                assert used <= max(limit.limit, limit.baseline) + limit.missed[start]

    @rule()
    def check(self) -> None:
        """The database agrees, entry by entry."""
        rows = self.run(self.teller.rows())
        assert sorted(row["request_id"] for row in rows) == sorted(self.costs)
        assert {row["request_id"]: row["cost_nano"] for row in rows} == self.costs
        entries = self.run(self.teller.rows("entries"))
        charges = {e["reference"]: e["amount_nano"] for e in entries if e["kind"] == "charge"}
        assert charges == {name: cost for name, cost in self.costs.items() if cost}
        accounts: Counter[str] = Counter()
        for entry in entries:
            accounts[entry["debit"]] -= entry["amount_nano"]
            accounts[entry["credit"]] += entry["amount_nano"]
        assert sum(accounts.values()) == 0
        assert accounts["revenue"] == sum(self.costs.values())
        for organization in ("org_a", "org_b"):
            balance = self.granted[organization] - self.total(organization)
            assert accounts[f"org:{organization}"] == balance
            assert self.run(ledger.balance_of(self.teller.storage, organization)) == balance
        assert self.run(self.teller.reconcile()) == []
        assert self.teller.storage.lost_rows == 0

    def teardown(self) -> None:
        try:
            if hasattr(self, "teller"):
                for name in list(self.under_way):
                    exchange, meter = self.under_way.pop(name)
                    self.settle_with(meter, exchange, tokens(1, 1), Outcome.COMPLETED)
                self.counters_are_what_was_charged_and_held()
                self.check()
                self.run(self.teller.close())
                assert list((self.folder / "journal").iterdir()) == []
        finally:
            if hasattr(self, "teller"):
                self.run(self.teller.abandon())
            self.runner.close()
            self.clock.remove()
            shutil.rmtree(self.folder)

    # -- the model's arithmetic -----------------------------------------------------------

    def settle_with(
        self,
        meter: Any,
        exchange: Exchange,
        usage: Any,
        outcome: Outcome,
        *,
        twice: bool = False,
        retire: bool = True,
    ) -> None:
        finish(exchange, usage, outcome)
        if usage is not None:
            exchange.candidate = exchange.candidates[0]
        prices = self.prices_of(meter)
        meter.settle_exchange(exchange)
        if twice:
            meter.settle_exchange(exchange)
        cost = 0 if usage is None else price(usage.prompt_tokens, usage.completion_tokens, prices, exchange)
        _, held, _ = self.admitted.get(exchange.id, (0.0, 0, ()))
        self.note_end(exchange, cost, held=held)
        if retire:
            self.retire_idle()

    def note_end(self, exchange: Exchange, cost: int, *, held: int) -> None:
        assert exchange.principal is not None
        at, _, names = self.admitted.get(exchange.id, (self.clock.now, 0, ()))
        self.costs[exchange.id] = cost
        self.ends[exchange.id] = (at, exchange.principal)
        for name, limit in self.limits.items():
            budget = next((one for one in self.budgets.values() if one.id == name), None)
            start = ledger.period_of(budget.period, at)[0] if budget else 0
            claimed = any(claim.startswith(name if not budget else f"budget:{name}:") for claim in names)
            limit.missed[start] += max(0, cost - (held if claimed else 0))

    def retire_idle(self) -> None:
        busy = {id(meter) for _, meter in self.under_way.values()}
        for meter in self.teller.meters[:-1]:
            if id(meter) not in busy:
                self.run(self.teller.retire(meter))

    def prices_of(self, meter: Any) -> tuple[str, str]:
        own = meter._operator_models["m-1"]
        return own.input, own.output

    def total(self, organization: str) -> int:
        return sum(
            cost for name, cost in self.costs.items() if self.ends[name][1].organization_id == organization
        )

    def spent_of(self, name: str, budget: Any) -> tuple[int, int]:
        """Give the first second of the period that is now, and what was spent in it."""
        if budget is None:
            return 0, self.total(name.removeprefix("spent:"))
        since, until = ledger.period_of(budget.period, self.clock.now)
        used = sum(
            cost
            for one, cost in self.costs.items()
            if since <= self.ends[one][0] < until and budget.applies_to(self.ends[one][1])
        )
        return since, used

    def current(self) -> dict[str, int]:
        """Name the counters that hold now, and what each should have been spent of."""
        found = {f"spent:{name}": self.total(name) for name in self.granted}
        for budget in self.budgets.values():
            found[budget.counter(self.clock.now)] = self.spent_of(budget.id, budget)[1]
        return found

    def names(self, caller: Principal) -> list[str]:
        found = [b.counter(self.clock.now) for b in self.budgets.values() if b.applies_to(caller)]
        organization = caller.organization_id
        if organization in self.granted:
            found.append(f"spent:{organization}")
        elif self.teller.settings.prepaid:
            found.append(f"unpaid:{organization}")
        return found

    def bounds(self, caller: Principal) -> list[tuple[int, int]]:
        """Give limit and use of all that a caller spends from."""
        current = self.current()
        found = []
        for name in self.names(caller):
            held = sum(self.admitted[one][1] for one in self.under_way if name in self.admitted[one][2])
            budget = next((b for b in self.budgets.values() if name == b.counter(self.clock.now)), None)
            limit = budget.limit_nano if budget else max(0, self.granted[caller.organization_id])
            found.append((limit, current.get(name, 0) + held))
        return found

    def wanted(self, exchange: Exchange) -> int:
        """The published rule: a third of the bytes and 64 as prompt, and what the client allows as answer."""
        prompt, answer = 64 - (-len(exchange.body) // 3), exchange.call.max_output_tokens
        prices = self.prices_of(self.teller.meter)
        whole = price(prompt, answer or 0, prices, None)
        assert exchange.principal is not None
        return int(whole * Decimal(exchange.principal.attributes.get("rate_multiplier") or 1))

    def set_limit(self, name: str, amount: int) -> None:
        budget = next((one for one in self.budgets.values() if one.id == name), None)
        counter = budget.counter(self.clock.now) if budget else name
        held = sum(self.admitted[one][1] for one in self.under_way if counter in self.admitted[one][2])
        self.limits[name] = Limit(amount, self.spent_of(name, budget)[1] + held)


def price(prompt: int, completion: int, prices: tuple[str, str], exchange: Exchange | None) -> int:
    """Price by hand, in nano-dollars, rounded half up."""
    whole = prompt * Decimal(prices[0]) + completion * Decimal(prices[1])
    rate = exchange.principal.attributes.get("rate_multiplier") if exchange and exchange.principal else None
    exact = whole * 1000 * Decimal(rate or 1)
    return int(exact.to_integral_value(ROUND_HALF_UP))


def _walk(times: int) -> None:
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=times, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_the_books_balance_after_any_walk() -> None:
    """Admissions, ends, failures, crashes, restarts, reloads, budgets, grants, prices, days: in any order."""
    _walk(60)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_books_balance_after_a_thousand_walks() -> None:
    _walk(1000)
