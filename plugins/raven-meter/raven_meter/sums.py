"""The table `exchanges`, added up: by the hour or day, and by model, key, … if that is asked for.

The table is read in slices of a few hours, so that nobody waits long for the database, and what a slice gave
is added up before the next is read. Latencies are those of whole replies (`histogram`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from raven_proxy.storage import Row, Storage

from .histogram import NO_BIN, quantile, word_bin
from .pricing import dollars

__all__ = ["MOST_GROUPS", "WIDTHS", "GroupBy", "Interval", "Question", "Report", "add_up"]

Interval = Literal["hour", "day"]
GroupBy = Literal["model", "provider", "key", "member", "face", "status", "outcome"]

WIDTHS: Mapping[str, int] = {"hour": 3600, "day": 86400}
MOST_GROUPS = 20
"""How many groups are shown one by one."""

_COLUMNS: Mapping[str, str] = {"key": "key_id", "member": "member_id"}
_SLICE_S = 6 * 3600
_RANKED = 200  # groups of one slice that can come to be among the most
_MOST_RANKED = 20_000  # that are in memory
_ERRORS = "('refused', 'upstream_error', 'truncated', 'failed')"
_BIN = f"CASE WHEN outcome = 'completed' THEN {word_bin('latency_ms')} ELSE {NO_BIN} END"


class Latency(msgspec.Struct, frozen=True):
    """Of the whole replies, in milliseconds; null where there are none."""

    p50: float | None
    p95: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What some requests came to. The cost is in US dollars, and in nano-dollars beside it."""

    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost: str
    cost_nano: int
    latency_ms: Latency


class GroupFigures(Figures, frozen=True, kw_only=True, rename="camel"):
    """Those of one group. `isRest` is all groups together that are not among the largest."""

    group: str | None
    is_rest: bool


class Point(GroupFigures, frozen=True, kw_only=True, rename="camel"):
    """Those of the hour or day (of UTC) that begins at `time`."""

    time: datetime


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer. Hours or days without a request have no point."""

    from_: datetime = msgspec.field(name="from")
    to: datetime
    interval: Interval
    group_by: GroupBy | None
    totals: Figures
    groups: list[GroupFigures]
    series: list[Point]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: from `begin` until before `end`, in Unix seconds."""

    begin: int
    end: int
    interval: Interval
    group_by: GroupBy | None

    @property
    def column(self) -> str:
        """Name the column of the groups; NULL if none are asked for."""
        return "NULL" if self.group_by is None else _COLUMNS.get(self.group_by, self.group_by)


class _Sum:
    """What is added up, and how long the whole replies took."""

    def __init__(self) -> None:
        self.requests = self.errors = self.prompt = self.completion = self.cost = 0
        self.bins: Counter[int] = Counter()

    def add(self, row: Row) -> None:
        self.requests += row["requests"]
        self.errors += row["errors"]
        self.prompt += row["prompt"]
        self.completion += row["completion"]
        self.cost += row["cost"]
        self.bins[row["bin"]] += row["requests"]

    def figures(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "cost": dollars(self.cost),
            "cost_nano": self.cost,
            "latency_ms": Latency(quantile(self.bins, 0.5), quantile(self.bins, 0.95)),
        }


_Group = tuple[str | None, bool]


async def add_up(storage: Storage, question: Question, organization_id: str, passed: list[str]) -> Report:
    """Add up an organisation's requests. `passed` are the faces that do not count."""
    await storage.flush()
    table = _Table(storage, question, organization_id, passed)
    most = await table.rank() if question.group_by is not None else []
    totals, groups, series = _Sum(), dict[_Group, _Sum](), list[Point]()
    width, under_way = WIDTHS[question.interval], dict[tuple[int, _Group], _Sum]()
    async for until, rows in table.read(most):
        for row in rows:
            group = (None if row["name"] is None else str(row["name"]), bool(row["is_rest"]))
            for one in (
                totals,
                groups.setdefault(group, _Sum()),
                under_way.setdefault((row["bucket"], group), _Sum()),
            ):
                one.add(row)
        for bucket, group in [key for key in under_way if (key[0] + 1) * width <= until]:
            series.append(_point(bucket * width, group, under_way.pop((bucket, group))))
    series += [_point(bucket * width, group, one) for (bucket, group), one in under_way.items()]
    ranked = sorted(groups.items(), key=lambda item: (item[0][1], -item[1].requests, item[0][0] or ""))
    return Report(
        from_=datetime.fromtimestamp(question.begin, UTC),
        to=datetime.fromtimestamp(question.end, UTC),
        interval=question.interval,
        group_by=question.group_by,
        totals=Figures(**totals.figures()),
        groups=[GroupFigures(group=name, is_rest=is_rest, **one.figures()) for (name, is_rest), one in ranked]
        if question.group_by is not None
        else [],
        series=sorted(series, key=lambda point: (point.time, point.is_rest, point.group or "")),
    )


def _point(at: int, group: _Group, one: _Sum) -> Point:
    return Point(time=datetime.fromtimestamp(at, UTC), group=group[0], is_rest=group[1], **one.figures())


class _Table:
    """The rows that are asked for, slice by slice."""

    def __init__(self, storage: Storage, question: Question, organization_id: str, passed: list[str]) -> None:
        self._storage = storage
        self._question = question
        self._seen = (
            f"organization_id = ? AND created_at >= ? AND created_at < ? AND face NOT IN ({_marks(passed)})"
        )
        self._organization_id = organization_id
        self._passed = passed

    async def rank(self) -> list[Any]:
        """Name the groups with the most requests; exact up to some hundreds of groups in six hours."""
        column, found = self._question.column, Counter[Any]()
        sql = (
            f"SELECT {column} AS name, COUNT(*) AS requests FROM exchanges "  # noqa: S608 - our own names
            f"WHERE {self._seen} AND {column} IS NOT NULL GROUP BY {column} "
            f"ORDER BY 2 DESC LIMIT {_RANKED}"
        )
        async for _, bounds in self._slices():
            for row in await self._storage.fetch_all(sql, bounds):
                found[row["name"]] += row["requests"]
            if len(found) > _MOST_RANKED:
                found = Counter(dict(found.most_common(_RANKED)))
        return [name for name, _ in found.most_common(MOST_GROUPS)]

    async def read(self, most: list[Any]) -> AsyncIterator[tuple[int, list[Row]]]:
        """Give the sums of each slice, and where it ends; groups that are not among `most` are the rest."""
        column, marks = self._question.column, _marks(most)
        sql = (
            f"SELECT created_at / {WIDTHS[self._question.interval]} AS bucket, "  # noqa: S608 - our own names
            f"CASE WHEN {column} IN ({marks}) THEN {column} END AS name, "
            f"CASE WHEN {column} IS NULL OR {column} IN ({marks}) THEN 0 ELSE 1 END AS is_rest, "
            f"{_BIN} AS bin, COUNT(*) AS requests, "
            f"SUM(CASE WHEN outcome IN {_ERRORS} THEN 1 ELSE 0 END) AS errors, "
            "SUM(prompt_tokens) AS prompt, SUM(completion_tokens) AS completion, SUM(cost_nano) AS cost "
            f"FROM exchanges WHERE {self._seen} GROUP BY 1, 2, 3, 4"
        )
        async for until, bounds in self._slices():
            yield until, await self._storage.fetch_all(sql, (*most, *most, *bounds))

    async def _slices(self) -> AsyncIterator[tuple[int, tuple[Any, ...]]]:
        """Give the end of each slice, and what its query is given; only where there are rows at all."""
        start, end = self._question.begin, self._question.end
        sql = (
            "SELECT MIN(created_at) AS next FROM exchanges "
            "WHERE organization_id = ? AND created_at >= ? AND created_at < ?"
        )
        while start < end:
            row = await self._storage.fetch_one(sql, (self._organization_id, start, end))
            if row is None or row["next"] is None:
                return
            start = row["next"]
            until = (start // _SLICE_S + 1) * _SLICE_S
            yield until, (self._organization_id, start, min(until, end), *self._passed)
            start = until


def _marks(values: list[Any]) -> str:
    return ", ".join("?" * len(values))
