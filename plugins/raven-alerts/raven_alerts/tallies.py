"""What each upstream did today: requests, tokens, cost; for everybody, and for each organisation.

Counted twice: here at once, and a moment later in the gateway's counters, which all workers share. What is
read is what everybody has told plus what is only known here, so that one process sees its own thresholds
to the request. A day is of UTC, and an exchange belongs to the day on which it was admitted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, date, datetime

import msgspec

from raven_proxy.counters import Counters
from raven_proxy.storage import Storage

from .settings import Measure

__all__ = ["MEASURES", "Tallies", "Tally", "day_of"]

MEASURES: tuple[Measure, ...] = ("requests", "tokens", "cost")
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_TALLIES = 10_000  # a day; organisations beyond it count only for everybody
_REMEMBER = """INSERT INTO alert_subjects (day, upstream, organization) VALUES (?, ?, ?)
               ON CONFLICT (day, upstream, organization) DO NOTHING"""


class Tally(msgspec.Struct):
    """One day of one upstream, for one organisation or (None) for all; amounts in the order of `MEASURES`."""

    day: str
    upstream: str
    organization: str | None
    told: list[int]  # what the shared counters said last
    untold: list[int]  # what they have not been told

    def amount(self, measure: Measure) -> int:
        """Give what is known of one measure; cost in nano-dollars."""
        index = MEASURES.index(measure)
        return self.told[index] + self.untold[index]

    def counter(self, index: int) -> str:
        """Name its counter; an organisation's name cannot be mistaken for "all"."""
        whose = "all" if self.organization is None else f"org:{self.organization}"
        return f"alerts:{self.day}:{self.upstream}:{MEASURES[index]}:{whose}"


class Tallies:
    """Today's tallies, and yesterday's for exchanges that began then."""

    def __init__(self, storage: Storage, counters: Counters) -> None:
        self._storage = storage
        self._counters = counters
        self._days: dict[str, dict[tuple[str, str | None], Tally]] = {}
        self._untold: dict[int, Tally] = {}

    def add(
        self, at: float, upstream: str, organization: str, requests: int, tokens: int, cost_nano: int
    ) -> list[Tally]:
        """Count an exchange that was admitted at a moment; give the tallies that it changed."""
        day = day_of(at)
        changed = []
        for whose in (None, organization):
            tally = self._find(day, upstream, whose)
            if tally is not None:
                for index, amount in enumerate((requests, tokens, cost_nano)):
                    tally.untold[index] += amount
                self._untold[id(tally)] = tally
                changed.append(tally)
        return changed

    def of_today(self) -> list[Tally]:
        """List today's tallies that this process knows."""
        return list(self._days.get(day_of(time.time()), {}).values())

    async def tell(self) -> None:
        """Tell the shared counters what is new, and ask what everybody told. Raises GatewayError.

        What could not be told is kept for the next time.
        """
        for tally in list(self._untold.values()):
            for index, amount in enumerate(tally.untold):
                if amount:
                    await self._tell(tally, index, amount)
            if not any(tally.untold):
                self._untold.pop(id(tally), None)
            await self._ask(tally)
        await self._forget()

    async def refresh(self) -> list[Tally]:
        """List everybody's tallies of today with what is counted by now."""
        day = day_of(time.time())
        await self._storage.flush()
        rows = await self._storage.fetch_all(
            "SELECT upstream, organization FROM alert_subjects WHERE day = ? ORDER BY upstream, organization",
            (day,),
        )
        for row in rows:
            for whose in (None, row["organization"]):
                tally = self._find(day, row["upstream"], whose)
                if tally is not None:
                    await self._ask(tally)
        return self.of_today()

    async def rebuild(self) -> None:
        """Count today's exchanges from the meter's table; counters that somebody keeps already stay."""
        await self._load(day_of(time.time()))
        await self.refresh()

    async def _load(self, day: str) -> None:
        meter = "SELECT COUNT(*) AS steps FROM migrations WHERE plugin = 'meter'"
        row = await self._storage.fetch_one(meter)
        if row is None or row["steps"] < 2:  # no meter has ever kept a table of what was used
            return
        first = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        rows = await self._storage.fetch_all(
            """SELECT provider, organization_id, COUNT(*) AS requests, SUM(total_tokens) AS tokens,
                 SUM(cost_nano) AS cost
               FROM exchanges WHERE created_at >= ? AND created_at < ? AND attempts > 0
                 AND provider IS NOT NULL AND organization_id IS NOT NULL
               GROUP BY provider, organization_id""",
            (first, first + _DAY_S),
        )
        totals: dict[str, int] = {}
        for row in rows:
            for whose in (None, row["organization_id"]):
                tally = self._find(day, row["provider"], whose)
                if tally is None:
                    continue
                for index, measure in enumerate(MEASURES):
                    name = tally.counter(index)
                    totals[name] = totals.get(name, 0) + (row[measure] or 0)
        await self._counters.load(totals, keep=True)

    async def _tell(self, tally: Tally, index: int, amount: int) -> None:
        tally.untold[index] -= amount  # first: nobody may count it twice in between
        try:
            await self._counters.settle([tally.counter(index)], 0, amount)
        except BaseException:
            tally.untold[index] += amount
            raise

    async def _ask(self, tally: Tally) -> None:
        tally.told = [await self._counters.used(tally.counter(index)) for index in range(len(MEASURES))]

    def _find(self, day: str, upstream: str, organization: str | None) -> Tally | None:
        tallies = self._days.get(day)
        if tallies is None:
            tallies = self._days[day] = {}
        tally = tallies.get((upstream, organization))
        if tally is None:
            if len(tallies) >= _MAX_TALLIES and organization is not None:
                return None
            tally = Tally(day, upstream, organization, [0, 0, 0], [0, 0, 0])
            tallies[upstream, organization] = tally
            if organization is not None:
                self._storage.write_behind(_REMEMBER, (day, upstream, organization))
        return tally

    async def _forget(self) -> None:
        """Drop the days before yesterday, here, among the counters and in the table."""
        oldest = day_of(time.time() - _DAY_S)
        for day in [day for day in self._days if day < oldest]:
            await self._counters.forget(_names(self._days.pop(day).values()))
            await self._storage.execute("DELETE FROM alert_subjects WHERE day < ?", (oldest,))


def day_of(at: float) -> str:
    """Give the UTC day of a moment, as YYYY-MM-DD."""
    return date.fromordinal(_EPOCH + int(at) // _DAY_S).isoformat()


def _names(tallies: Iterable[Tally]) -> list[str]:
    return [tally.counter(index) for tally in tallies for index in range(len(MEASURES))]
