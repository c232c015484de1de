"""`GET /analytics`: an organisation's requests, added up by time and by what was asked for."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from raven_meter import histogram
from raven_meter.analytics import read_question
from raven_meter.exchanges import COLUMNS, INSERT

from raven_proxy import InvalidRequest
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.storage import SQLiteStorage

CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "hi"}]}
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())
ROW: dict[str, Any] = {
    "key_id": "key_a", "organization_id": "org_default", "face": "openai-chat", "model": "m", "provider": "p",
    "upstream_model": "m", "status": 200, "outcome": "completed", "stream": 0, "prompt_tokens": 10,
    "completion_tokens": 5, "cached_tokens": 0, "reasoning_tokens": 0, "total_tokens": 15, "estimated": 0,
    "attempts": 1, "latency_ms": 100.0, "first_byte_ms": None, "finish_reason": "stop", "error_code": None,
    "cost_nano": 2_000_000, "priced": 1, "cache_write_tokens": 0, "member_id": None,
}  # fmt: skip


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(base=("meter", "openai"), upstreams=[upstream])


class Table:
    """Rows as a meter writes them, at any time."""

    def __init__(self, storage: SQLiteStorage) -> None:
        self._storage = storage
        self._last = 0

    async def add(self, at: int = NOON, times: int = 1, **fields: Any) -> None:
        for _ in range(times):
            self._last += 1
            row = ROW | {"id": self._last, "request_id": f"req_{self._last}", "created_at": at} | fields
            self._storage.write_behind(INSERT, tuple(row[name] for name in COLUMNS))
        await self._storage.flush()


@pytest.fixture
def table(gateway: Any) -> Table:
    return Table(gateway.gateway.storage)


async def ask(gateway: Any, **query: str) -> tuple[int, Any]:
    async with gateway.client.get(f"/analytics?{urlencode(query)}") as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def day(gateway: Any, **query: str) -> Any:
    status, found = await ask(gateway, **{"from": "2026-03-01", "to": "2026-03-01", **query})
    assert status == 200, found
    return found


async def test_R_what_was_just_asked_is_counted(gateway: Any, upstream: MockUpstream) -> None:
    """Up to the moment, errors too; who looks on is no traffic."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    for status in (200, 400):
        upstream.script(ScriptedReply.of_json({"choices": [], "usage": usage}, status=status))
        async with gateway.client.post("/v1/chat/completions", json=CHAT) as reply:
            await reply.read()
    await ask(gateway)
    status, found = await ask(gateway)
    assert status == 200
    totals = found["totals"]
    assert (totals["requests"], totals["errors"], totals["promptTokens"]) == (2, 1, 7)
    assert (totals["completionTokens"], totals["cost"], totals["costNano"]) == (3, "0", 0)
    assert totals["latencyMs"]["p50"] > 0
    assert (found["interval"], found["groupBy"], found["groups"]) == ("hour", None, [])
    assert sum(point["requests"] for point in found["series"]) == 2


async def test_points_are_hours_or_days_of_utc(gateway: Any, table: Table) -> None:
    """Each with its own sums, in order; a time without a request has none; the ends are kept exactly."""
    await table.add(NOON - 1)
    await table.add(NOON, times=2)
    await table.add(NOON + 3599)
    await table.add(NOON + 86400, cost_nano=5)
    hours = await day(gateway, to="2026-03-02", interval="hour")
    assert [(point["time"], point["requests"]) for point in hours["series"]] == [
        ("2026-03-01T11:00:00Z", 1), ("2026-03-01T12:00:00Z", 3), ("2026-03-02T12:00:00Z", 1),
    ]  # fmt: skip
    assert hours["series"][1]["cost"] == "0.006"
    assert (hours["totals"]["cost"], hours["totals"]["costNano"]) == ("0.008000005", 8_000_005)
    days = await day(gateway, to="2026-03-02", interval="day")
    assert [(point["time"], point["requests"]) for point in days["series"]] == [
        ("2026-03-01T00:00:00Z", 4), ("2026-03-02T00:00:00Z", 1),
    ]  # fmt: skip
    exact = await day(gateway, **{"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T12:59:59Z"})
    assert exact["totals"]["requests"] == 2
    assert (exact["from"], exact["to"]) == ("2026-03-01T12:00:00Z", "2026-03-01T12:59:59Z")


@pytest.mark.parametrize(
    ("by", "column", "values"),
    [
        ("model", "model", ["a", "b", None]), ("provider", "provider", ["a", "b", None]),
        ("key", "key_id", ["key_a", "key_b", None]), ("member", "member_id", ["mem_a", "mem_b", None]),
        ("face", "face", ["openai-chat", "raw"]), ("status", "status", [200, 499, 429]),
        ("outcome", "outcome", ["completed", "cancelled", "refused", "failed"]),
    ],
)  # fmt: skip
async def test_figures_are_parted_by_what_is_asked_for(
    gateway: Any, table: Table, by: str, column: str, values: list[Any]
) -> None:
    """The groups together are the whole, and what has no such thing is a group of its own."""
    for times, value in enumerate(values, 1):
        await table.add(NOON, times, **{column: value})
    found = await day(gateway, groupBy=by)
    expected = {None if value is None else str(value): times for times, value in enumerate(values, 1)}
    assert {one["group"]: one["requests"] for one in found["groups"]} == expected
    assert {one["group"]: one["requests"] for one in found["series"]} == expected
    assert not any(one["isRest"] for one in found["groups"])
    assert found["totals"]["requests"] == sum(expected.values())


async def test_who_left_is_no_error_and_has_no_latency(gateway: Any, table: Table) -> None:
    """Errors are those that did not get their whole answer; latencies are of whole ones."""
    for outcome in ("completed", "replayed", "cancelled", "refused", "upstream_error", "truncated", "failed"):
        await table.add(outcome=outcome, latency_ms=100.0 if outcome == "completed" else 9e6)
    totals = (await day(gateway))["totals"]
    assert (totals["requests"], totals["errors"]) == (7, 4)
    assert 91 < totals["latencyMs"]["p95"] < 109
    await table.add(NOON + 3600, outcome="refused")
    last = (await day(gateway))["series"][-1]
    assert last["latencyMs"] == {"p50": None, "p95": None}


async def test_beyond_the_largest_groups_the_rest_is_one(gateway: Any, table: Table) -> None:
    """However many names clients make up, an answer is of bounded length and its sums are whole."""
    for number in range(30):
        await table.add(NOON, times=31 - number, model=f"m{number:02}")
    await table.add(NOON, model=None)
    found = await day(gateway, groupBy="model")
    assert [one["group"] for one in found["groups"]] == [
        *(f"m{number:02}" for number in range(20)),
        None,
        None,
    ]
    rest = found["groups"][-1]
    assert (rest["isRest"], rest["requests"]) == (True, sum(range(2, 12)))
    assert found["groups"][-2]["requests"] == 1
    assert sum(one["requests"] for one in found["series"]) == found["totals"]["requests"]


async def test_each_organisation_sees_its_own(raven: Any, gateway: Any, table: Table) -> None:
    await table.add(organization_id="org_b", times=3)
    await table.add(organization_id=None)
    await table.add()
    assert (await day(gateway))["totals"]["requests"] == 1
    who = msgspec.structs.replace(ADMINISTRATOR, organization_id="org_b", role="viewer", is_operator=False)
    other = await raven(base=("meter", "openai"), principal=who)
    await Table(other.gateway.storage).add(organization_id="org_b", times=3)
    assert (await day(other))["totals"]["requests"] == 3


async def test_a_long_time_is_read_in_slices(gateway: Any, table: Table, monkeypatch: Any) -> None:
    """No query covers more than six hours, so that others get at the database; empty times cost nothing."""
    await table.add(NOON - 300 * 86400)
    for hour in range(30):
        await table.add(NOON - hour * 3600, latency_ms=2.0**hour)
    storage, spans = gateway.gateway.storage, list[int]()
    fetch_all = storage.fetch_all

    async def watch(sql: str, params: Any = ()) -> Any:
        if "GROUP BY" in sql:
            begin = next(index for index, one in enumerate(params) if one == "org_default") + 1
            spans.append(params[begin + 1] - params[begin])
        return await fetch_all(sql, params)

    monkeypatch.setattr(storage, "fetch_all", watch)
    found = await day(gateway, **{"from": "2025-01-01"}, groupBy="model", interval="day")
    assert found["totals"]["requests"] == 31
    assert max(spans) <= 6 * 3600
    assert len(spans) < 20


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"interval": "minute"}, "interval"), ({"groupBy": "colour"}, "groupBy"), ({"from": "soon"}, "from"),
        ({"to": "2026-02-30"}, "to"), ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-03-01", "interval": "hour"}, "interval"),
        ({"from": "2026-01-01", "to": "2026-03-01", "interval": "hour", "groupBy": "key"}, "interval"),
        ({"from": "1900-01-01", "to": "2026-03-01"}, "from"),
        ({"from": "1900-01-01", "to": "2026-03-01", "interval": "hour"}, "from"),
        ({"from": "2024-01-01", "to": "2026-03-01", "groupBy": "key"}, "from"),
        ({"from": "0001-01-01T00:00:00+23:59", "to": "0001-01-02"}, "from"),
        ({"from": "9999-12-30", "to": "9999-12-31T23:59:59-23:59"}, "to"), ({"to": "9999-12-31"}, "to"),
    ],
)  # fmt: skip
async def test_a_bad_question_names_its_parameter(gateway: Any, query: dict[str, str], param: str) -> None:
    """400, also where the answer would have too many points."""
    status, answer = await ask(gateway, **query)
    error = answer["error"]
    assert (status, error["type"], error["param"]) == (400, "validation_error", param)


@pytest.mark.parametrize("edge", [{"to": "0001-01-02"}, {"from": "9999-12-30", "to": "9999-12-30"}])
async def test_the_first_and_last_days_can_be_asked_for(gateway: Any, edge: dict[str, str]) -> None:
    """What is left out of such a question is no time that cannot be written."""
    status, found = await ask(gateway, **edge)
    assert (status, found["totals"]["requests"]) == (200, 0)


def test_what_is_left_out_is_usual() -> None:
    """The last day by the hour, the last 30 by the day; longer than a week by the day."""
    now = float(NOON)
    question = read_question({}, now)
    assert (question.interval, question.end - question.begin) == ("hour", 86400)
    question = read_question({"interval": "day"}, now)
    assert (question.interval, question.end - question.begin) == ("day", 30 * 86400)
    assert read_question({"from": "2026-02-20"}, now).interval == "day"
    assert read_question({"from": "2026-02-25"}, now).interval == "hour"
    with pytest.raises(InvalidRequest):
        read_question({"from": str(datetime.fromtimestamp(now, UTC).date() + timedelta(days=2))}, now)


def test_the_database_finds_the_bin() -> None:
    """The tree of comparisons gives what counting up the edges gives, at every edge and beyond."""
    import sqlite3

    edges = [2 ** (place / 8) for place in range(200)]
    values = [0.0, 0.4, *edges, *(edge * 0.9999 for edge in edges), 1e12]
    connection = sqlite3.connect(":memory:")
    for value in values:
        sql = f"SELECT {histogram.word_bin('v')} FROM (SELECT ? AS v)"
        assert connection.execute(sql, (value,)).fetchone()[0] == histogram.bin_of(value)
    connection.close()


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_quantile_is_within_nine_per_cent(share: float) -> None:
    """Of the value that the sorted list has at that rank, whatever the latencies are."""
    chance = random.Random(7)
    for size in (1, 2, 3, 20, 1000):
        latencies = sorted(chance.lognormvariate(6, 2) for _ in range(size))
        counts = Counter(histogram.bin_of(one) for one in latencies)
        counts[histogram.NO_BIN] = 50
        true = latencies[-int(-share * size // 1) - 1]
        found = histogram.quantile(counts, share)
        assert found is not None
        assert found == pytest.approx(true, rel=0.09, abs=0.5)
    assert histogram.quantile(Counter({histogram.NO_BIN: 3}), share) is None
