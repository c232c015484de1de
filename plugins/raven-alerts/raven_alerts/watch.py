"""Judging what was counted against the rules, and acting on what is over a threshold.

An exchange is judged when it is settled, from memory: a stop holds from the next request on. What follows
(the row, the mail, the other workers) is done behind it. Balances and budgets are looked at a second later,
as the meter knows them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

import structlog

from raven_proxy import Exchange
from raven_proxy.events import Event
from raven_proxy.tasks import Tasks

from .deliveries import Courier
from .messages import clean, write_event
from .pauses import Pauses
from .register import Alert, Register
from .rules import Rule, dollars, show_amounts, write_amount
from .tallies import Tallies, Tally, day_of

__all__ = ["Standing", "Watch"]

_log = structlog.get_logger("raven_alerts.watch")
_TELL_EVERY_S = 0.25
_STANDINGS_EVERY_S = 1.0
_PAUSE_S = 1.0  # after a failure
_LOOK_EVERY_S = 60.0  # where nothing happens: days end, money comes and goes in other processes
_MOST = 1 << 40  # more tokens than that are nonsense


class Standing(Protocol):
    """What the meter says of one balance (`budget` is None) or budget."""

    organization_id: str
    limit_nano: int
    spent_nano: int
    budget: Any


class Watch:
    """The rules of one pipeline at work. `standings` asks the meter; it gives nothing where there is none."""

    def __init__(
        self,
        rules: Sequence[Rule],
        tallies: Tallies,
        register: Register,
        pauses: Pauses,
        courier: Courier,
        standings: Callable[[], Awaitable[Sequence[Standing]]],
        publish: Callable[[Event], None],
    ) -> None:
        self._by_name = {rule.name: rule for rule in rules}
        self._by_day = tuple(rule for rule in rules if rule.when == "provider_day")
        self._by_money = tuple(rule for rule in rules if rule.when != "provider_day")
        self._tallies = tallies
        self._register = register
        self._pauses = pauses
        self._courier = courier
        self._standings = standings
        self._publish = publish
        self._fired: set[tuple[str, str, str, str]] = set()
        self._tasks = Tasks()
        self._counted = asyncio.Event()
        self._spent = asyncio.Event()

    # -- what calls us ---------------------------------------------------------------

    def settle(self, exchange: Exchange) -> None:
        """Count an exchange that went upstream, and judge the day of its upstream."""
        principal, candidate, usage = exchange.principal, exchange.candidate, exchange.usage
        if principal is None or candidate is None or not exchange.attempts:
            return
        tokens = 0 if usage is None else usage.total_tokens or usage.prompt_tokens + usage.completion_tokens
        changed = self._tallies.add(
            time.time() - exchange.elapsed_ms() / 1000.0,
            candidate.upstream.name,
            principal.organization_id,
            1,
            min(max(tokens, 0), _MOST),
            exchange.cost_nano or 0,
        )
        self._counted.set()
        if exchange.cost_nano:
            self._spent.set()
        if self._by_day:
            self._judge_days(changed)

    def look_at_all(self) -> None:
        """Judge everything soon, as at the start."""
        self._counted.set()
        self._spent.set()

    async def look_again(self) -> None:
        """Somebody changed a budget or a balance: judge them soon."""
        self._spent.set()

    async def learn(self) -> None:
        """Something fired, or was reactivated, in some process: know of it."""
        fired = await self._register.fired_on(day_of(time.time()))
        self._fired |= fired  # not in one line: what is there now counts, not what was before the wait
        await self._pauses.refresh()

    async def keep_counting(self) -> None:
        """Tell, ask and judge days whenever something was counted, and now and then, until cancelled."""
        while True:
            if await _within(self._counted.wait(), _LOOK_EVERY_S):
                await asyncio.sleep(_TELL_EVERY_S)
            self._counted.clear()
            try:
                await self._tallies.tell()
                self._judge_days(self._tallies.of_today())
                self._forget()
            except Exception as error:
                _log.error("days could not be judged", reason=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_PAUSE_S)
                self._counted.set()

    async def keep_checking_money(self) -> None:
        """Judge balances and budgets whenever something was spent, and now and then, until cancelled."""
        adopted = -_LOOK_EVERY_S
        while True:
            if await _within(self._spent.wait(), _LOOK_EVERY_S):
                await asyncio.sleep(_STANDINGS_EVERY_S)
            self._spent.clear()
            try:
                await self.judge_money()
                if time.monotonic() - adopted >= _LOOK_EVERY_S:
                    adopted = time.monotonic()
                    await self._courier.adopt()
            except Exception as error:
                _log.error("balances could not be judged", reason=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_PAUSE_S)
                self._spent.set()

    async def close(self) -> None:
        """Let what fired be written down, and tell what was counted."""
        await self._tasks.settle(1.0)
        try:
            await self._tallies.tell()
        except Exception as error:
            _log.error("the last counts are lost until the next start", reason=str(error))

    # -- judging -------------------------------------------------------------------

    def _judge_days(self, tallies: Sequence[Tally]) -> None:
        today = day_of(time.time())
        for tally in tallies:
            if tally.day != today:
                continue  # it is over: nothing is stopped for it any more
            for rule in self._by_day:
                amount = tally.amount(rule.measure)
                if amount < rule.threshold or not rule.covers(tally.upstream, tally.organization):
                    continue
                if rule.stop is not None and amount >= rule.stop:
                    self._fire_day(rule, tally, "stop", rule.stop)
                if rule.stop != rule.threshold:
                    self._fire_day(rule, tally, "threshold", rule.threshold)

    def _fire_day(self, rule: Rule, tally: Tally, level: str, threshold: int) -> None:
        subject = tally.upstream if tally.organization is None else f"{tally.upstream}/{tally.organization}"
        key = (rule.name, subject, tally.day, level)
        if key in self._fired:
            return
        amount = tally.amount(rule.measure)
        whom = "" if tally.organization is None else f" for {clean(tally.organization)}"
        text = f"{tally.upstream} has come to {write_amount(rule.measure, amount)} today{whom}; "
        text += f"the {level} is {write_amount(rule.measure, threshold)}."
        if level == "stop":
            text += " It is paused until an administrator reactivates it."
        details = {"when": rule.when, "upstream": tally.upstream, "measure": rule.measure}
        details |= show_amounts(rule.measure, value=amount, threshold=threshold)
        self._fire(
            key, clean(text, 500), details | {"paused": level == "stop"}, tally.organization,
            pauses=tally.upstream if level == "stop" else None,
        )  # fmt: skip

    async def judge_money(self) -> None:
        """Judge every balance and budget."""
        for standing in await self._standings():
            self._judge_exceeded(standing)
            for rule in self._by_money:
                if not rule.is_for(standing.organization_id):
                    continue
                if rule.when == "balance" and standing.budget is None:
                    self._judge_balance(rule, standing)
                elif rule.when == "budget" and standing.budget is not None:
                    self._judge_budget(rule, standing)

    def _judge_balance(self, rule: Rule, standing: Standing) -> None:
        balance = standing.limit_nano - standing.spent_nano
        if balance > rule.threshold:
            return
        organization = standing.organization_id
        text = f"The balance of {organization} is ${dollars(balance)}; the threshold is "
        text += f"${dollars(rule.threshold)}."
        details = {"when": rule.when, **show_amounts("cost", value=balance, threshold=rule.threshold)}
        key = (rule.name, f"balance:{organization}", day_of(time.time()), "threshold")
        self._fire(key, clean(text, 500), details, organization)

    def _judge_budget(self, rule: Rule, standing: Standing) -> None:
        budget, spent, limit = standing.budget, standing.spent_nano, standing.limit_nano
        share = rule.share
        if share is None and budget.alert_threshold is not None:
            share = Decimal(str(budget.alert_threshold))
        if share is None or not limit or spent < share * limit:
            return
        name = clean(budget.name)
        text = f"The budget {name!r} has spent ${dollars(spent)} of ${dollars(limit)} "
        text += f"({100 * spent // limit} %); "
        text += f"the threshold is {share * 100:f}".rstrip("0").rstrip(".") + " %."
        details = {"when": rule.when, "budgetId": budget.id, "budget": name, "period": budget.period}
        details |= show_amounts("cost", value=spent, limit=limit) | {"threshold": str(share)}
        key = (rule.name, f"budget:{budget.id}", day_of(time.time()), "threshold")
        self._fire(key, clean(text, 500), details, standing.organization_id)

    def _judge_exceeded(self, standing: Standing) -> None:
        """Publish that a budget is used up; who has no money is refused without our doing."""
        budget, spent, limit = standing.budget, standing.spent_nano, standing.limit_nano
        day = day_of(time.time())
        if (
            budget is None
            or not limit
            or spent < limit
            or (key := ("", budget.id, day, "exceeded")) in self._fired
        ):
            return
        self._fired.add(key)
        data = {"day": day, "budgetId": budget.id, "budget": clean(budget.name), "period": budget.period}
        self._publish(
            Event(
                id=f"evt_exceeded_{budget.id}_{day}", type="budget.exceeded",
                organization_id=standing.organization_id,
                data=data | show_amounts("cost", value=spent, limit=limit),
            )
        )  # fmt: skip

    # -- acting --------------------------------------------------------------------

    def _fire(
        self,
        key: tuple[str, str, str, str],
        message: str,
        details: dict[str, Any],
        organization: str | None,
        *,
        pauses: str | None = None,
    ) -> None:
        if key in self._fired:
            return
        self._fired.add(key)
        rule, subject, day, level = key
        alert = Alert(
            id=f"alert_{secrets.token_hex(10)}", rule=rule, subject=subject, day=day, level=level,
            created_at=int(time.time()), message=message, organization_id=organization, pauses=pauses,
            details=details,
        )  # fmt: skip
        self._pauses.begin(alert)
        self._tasks.launch(self._record(alert), "alert")

    async def _record(self, alert: Alert) -> None:
        """Write an alert down; deliver it if nobody else did. A pause holds here even if that fails."""
        destinations = self._courier.destinations(self._by_name[alert.rule])
        try:
            deliveries = await self._register.record(alert, destinations)
            await self._pauses.confirm(alert)
        except Exception as error:
            _log.error("an alert could not be written down", alert=alert.message, reason=str(error))
            self._fired.discard(alert.key)
            await asyncio.sleep(_PAUSE_S)
            self._counted.set()
            self._spent.set()
            return
        if deliveries is None:
            return
        _log.warning("alert", alert=alert.message, rule=alert.rule, level=alert.level)
        self._publish(write_event(alert))
        for delivery, destination in zip(deliveries, destinations, strict=True):
            self._courier.dispatch(alert, destination, delivery)

    def _forget(self) -> None:
        today = day_of(time.time())
        self._fired = {key for key in self._fired if key[2] >= today}


async def _within(waiting: Awaitable[Any], timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(waiting, timeout_s)
    except TimeoutError:
        return False
    return True
