"""Every exchange leaves one row, and a key sees the sum of its own, up to the moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from multidict import MultiDict
from raven_meter import Meter
from raven_meter.exchanges import RowIds

from raven_proxy import Exchange, InvalidRequest, Outcome, Principal, Refused, Usage
from raven_proxy.config import Config
from raven_proxy.counters import LocalCounters
from raven_proxy.exchange import Attempt, Candidate
from raven_proxy.faces import Call, Face, read_nothing
from raven_proxy.storage import SQLiteStorage
from raven_proxy.tasks import Tasks

CHAT = Face(name="chat", path="/v1/chat/completions", read_call=read_nothing)
TODAY = datetime.now(UTC).date()


class Metered:
    """The plugin on a real database, and exchanges to feed it."""

    def __init__(self, storage: SQLiteStorage) -> None:
        self.storage = storage
        self.plugin = Meter()
        self.sent = 0

    async def finish(self, *, key: str | None = "key_a", days_ago: int = 0, **fields: Any) -> Exchange:
        self.sent += 1
        request: Any = SimpleNamespace(query=MultiDict())
        pipeline: Any = None
        exchange = Exchange(request, pipeline, f"req_{id(self)}_{self.sent}")
        exchange.started_at -= days_ago * 86400
        exchange.principal = None if key is None else Principal(key_id=key)
        exchange.face = CHAT
        exchange.call = Call(model=fields.pop("model", "fast"), stream=fields.pop("stream", False))
        exchange.outcome = Outcome.COMPLETED
        exchange.status = 200
        for name, value in fields.items():
            setattr(exchange, name, value)
        self.plugin.settle_exchange(exchange)
        return exchange

    async def rows(self) -> list[dict[str, Any]]:
        await self.storage.flush()
        return await self.storage.fetch_all("SELECT * FROM exchanges ORDER BY id")

    async def usage(self, key: str = "key_a", **query: str) -> dict[str, Any]:
        exchange: Any = SimpleNamespace(
            principal=Principal(key_id=key), request=SimpleNamespace(query=MultiDict(query))
        )
        reply = await self.plugin.serve_usage(exchange)
        assert reply.headers == {"Content-Type": "application/json"}
        assert isinstance(reply.body, bytes)
        decoded: dict[str, Any] = msgspec.json.decode(reply.body)
        return decoded


@asynccontextmanager
async def start(path: Path) -> AsyncIterator[Metered]:
    storage = await SQLiteStorage.open(path)
    try:
        metered = Metered(storage)
        gateway: Any = SimpleNamespace(
            storage=storage,
            config=Config(),
            counters=LocalCounters(),
            tasks=Tasks(),
            data_dir=path.parent,
            pipeline=SimpleNamespace(plugins=()),
            records=None,
        )
        await metered.plugin.startup(gateway)
        yield metered
        await metered.plugin.shutdown()
    finally:
        await storage.close()


@pytest.fixture
async def metered(tmp_path: Path) -> AsyncIterator[Metered]:
    async with start(tmp_path / "raven.db") as started:
        yield started


def tokens(prompt: int, completion: int, **fields: Any) -> Usage:
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **fields
    )


# Rows


async def test_a_row_says_what_became_of_the_exchange(metered: Metered) -> None:
    upstream: Any = SimpleNamespace(name="openai-main", preset="nobody")
    exchange = await metered.finish(
        stream=True,
        candidate=Candidate(upstream, "gpt-4o-mini"),
        attempts=[Attempt("openai-main", "openai", "gpt-4o-mini")] * 2,
        usage=tokens(10, 20, cached_tokens=3, reasoning_tokens=4, estimated=True),
        finish_reason="stop",
        started_at=time.perf_counter() - 0.1,
        first_byte_at=time.perf_counter() - 0.05,
    )
    [row] = await metered.rows()
    assert row.pop("id") > 0
    assert abs(row.pop("created_at") - time.time()) < 5
    assert 49 < row.pop("first_byte_ms") < 99 < row.pop("latency_ms") < 1000
    assert row == {
        "request_id": exchange.id, "key_id": "key_a", "organization_id": "org_default", "face": "chat",
        "model": "fast", "provider": "openai-main", "upstream_model": "gpt-4o-mini", "status": 200,
        "outcome": "completed", "stream": 1, "prompt_tokens": 10, "completion_tokens": 20, "cached_tokens": 3,
        "reasoning_tokens": 4, "total_tokens": 30, "estimated": 1, "attempts": 2, "finish_reason": "stop",
        "error_code": None, "cost_nano": 0, "priced": 0, "cache_write_tokens": 0,
            "member_id": None,
    }  # fmt: skip


async def test_an_exchange_that_came_to_nothing_leaves_a_row_too(metered: Metered) -> None:
    request: Any = SimpleNamespace(query=MultiDict())
    pipeline: Any = None
    metered.plugin.settle_exchange(Exchange(request, pipeline, "req_bare"))
    error = Refused("no", status=403, code="model_not_allowed")
    await metered.finish(key=None, outcome=Outcome.REFUSED, status=403, error=error)
    bare, refused = await metered.rows()
    assert (bare["key_id"], bare["face"], bare["model"], bare["outcome"]) == (
        None,
        "unrouted",
        None,
        "failed",
    )
    assert (refused["key_id"], refused["error_code"], refused["status"]) == (None, "model_not_allowed", 403)
    assert (refused["provider"], refused["total_tokens"], refused["first_byte_ms"]) == (None, 0, None)


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_every_outcome_is_a_row(metered: Metered, outcome: Outcome) -> None:
    await metered.finish(outcome=outcome)
    [row] = await metered.rows()
    assert row["outcome"] == outcome.value


async def test_T71_absurd_usage_neither_loses_the_row_nor_gives_credit(metered: Metered) -> None:
    await metered.finish(usage=Usage(prompt_tokens=-5, completion_tokens=10**30, total_tokens=2**70))
    await metered.finish(usage=Usage(prompt_tokens=3, completion_tokens=4))
    await metered.finish(usage=Usage())
    rows = await metered.rows()
    assert (rows[0]["prompt_tokens"], rows[0]["completion_tokens"], rows[0]["total_tokens"]) == (
        0,
        2**40,
        2**40,
    )
    assert rows[1]["total_tokens"] == 7
    assert rows[2]["total_tokens"] == 0
    assert metered.storage.lost_rows == 0


async def test_a_client_s_endless_model_name_is_cut(metered: Metered) -> None:
    await metered.finish(model="m" * 100_000)
    [row] = await metered.rows()
    assert row["model"] == "m" * 200


async def test_ids_rise_and_no_two_processes_share_one(tmp_path: Path) -> None:
    ids = RowIds(7)
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert made[-1] < 2**63
    async with start(tmp_path / "raven.db") as one, start(tmp_path / "raven.db") as two:
        await asyncio.gather(*[metered.finish() for metered in (one, two) for _ in range(500)])
        await two.storage.flush()
        assert len(await one.rows()) == 1000


async def test_rows_of_a_former_run_are_still_there(tmp_path: Path) -> None:
    for count in (1, 2):
        async with start(tmp_path / "raven.db") as metered:
            await metered.finish()
            assert len(await metered.rows()) == count


# Usage


async def test_RX_usage_has_the_documented_shape(metered: Metered) -> None:
    await metered.finish(usage=tokens(10, 20))
    await metered.finish(usage=tokens(1, 2))
    await metered.finish(usage=tokens(100, 0), model="embed")
    assert await metered.usage() == {
        "object": "usage",
        "total_tokens": 133,
        "total_requests": 3,
        "period_start": TODAY.replace(day=1).isoformat(),
        "period_end": TODAY.isoformat(),
        "breakdown": {
            "embed": {"tokens": 100, "requests": 1, "cost": "0"},
            "fast": {"tokens": 33, "requests": 2, "cost": "0"},
        },
        "daily_breakdown": [{"date": TODAY.isoformat(), "tokens": 133, "requests": 3, "cost": "0"}],
        "total_cost": "0",
    }


async def test_a_key_sees_its_own_usage_only(metered: Metered) -> None:
    await metered.finish(key="key_b", usage=tokens(10, 20))
    await metered.finish(key=None, usage=tokens(10, 20))
    assert (await metered.usage())["total_requests"] == 0
    assert (await metered.usage("key_b"))["total_tokens"] == 30


async def test_only_what_a_provider_answered_counts(metered: Metered) -> None:
    for outcome in Outcome:
        await metered.finish(outcome=outcome, usage=tokens(1, 0))
    await metered.finish(model=None)  # GET /v1/models, and this call itself
    await metered.finish(model=None, usage=tokens(5, 0))  # raw, metered without a name
    usage = await metered.usage()
    assert usage["breakdown"] == {
        "fast": {"tokens": 3, "requests": 3, "cost": "0"},
        "unknown": {"tokens": 5, "requests": 1, "cost": "0"},
    }


async def test_both_ends_of_the_period_are_inclusive_days_of_utc(metered: Metered) -> None:
    for days_ago in (0, 1, 2, 3):
        await metered.finish(days_ago=days_ago, usage=tokens(10**days_ago, 0))
    days = [(TODAY - timedelta(days=days_ago)).isoformat() for days_ago in range(4)]
    usage = await metered.usage(start_date=days[2], end_date=days[1])
    assert usage["total_tokens"] == 110
    assert [day["date"] for day in usage["daily_breakdown"]] == [days[2], days[1]]
    assert (usage["period_start"], usage["period_end"]) == (days[2], days[1])
    assert (await metered.usage(start_date=days[3]))["total_tokens"] == 1111


async def test_the_last_and_first_second_of_a_day_fall_on_their_side(metered: Metered) -> None:
    first, second = await metered.finish(), await metered.finish()
    await metered.rows()
    midnight = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp())
    for request_id, created_at in ((first.id, midnight - 1), (second.id, midnight)):
        sql = "UPDATE exchanges SET created_at = ? WHERE request_id = ?"
        await metered.storage.execute(sql, (created_at, request_id))
    february = await metered.usage(start_date="2025-02-01", end_date="2025-02-28")
    march = await metered.usage(end_date="2025-03-01")
    assert (february["total_requests"], march["total_requests"]) == (1, 1)
    assert march["period_start"] == "2025-03-01"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start_date": "yesterday"}, "start_date"),
        ({"start_date": ""}, "start_date"),
        ({"end_date": "2025-02-30"}, "end_date"),
        ({"end_date": "20250228"}, "end_date"),
        ({"end_date": "2025-W09-5"}, "end_date"),
        ({"end_date": "٢٠٢٥-٠٢-٢٨"}, "end_date"),
        ({"end_date": "2025-02-28T00:00:00"}, "end_date"),
        ({"end_date": "0000-00-00"}, "end_date"),
        ({"start_date": "2025-02-02", "end_date": "2025-02-01"}, "start_date"),
        ({"start_date": "2024-01-01", "end_date": "2025-02-01"}, "start_date"),
        ({"start_date": (date.today() + timedelta(days=3)).isoformat()}, "start_date"),
    ],
)
async def test_a_bad_date_is_a_400_that_names_it(metered: Metered, query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await metered.usage(**query)
    assert (caught.value.status, caught.value.param) == (400, param)


async def test_a_whole_leap_year_and_the_ends_of_time_can_be_asked_for(metered: Metered) -> None:
    assert (await metered.usage(start_date="2024-01-01", end_date="2024-12-31"))["total_requests"] == 0
    assert (await metered.usage(end_date="0001-01-01"))["total_requests"] == 0
    assert (await metered.usage(end_date="9999-12-31"))["total_requests"] == 0


def test_the_face_needs_the_scope_for_usage() -> None:
    faces: list[Face] = []
    Meter().register_faces(faces.append)
    [face] = [face for face in faces if face.path == "/v1/usage"]
    assert (face.path, face.methods, face.scope, face.json_body) == (
        "/v1/usage",
        ("GET",),
        "usage:read",
        False,
    )
    assert not face.public


async def test_an_exchange_is_priced_by_what_was_used(metered: Metered) -> None:
    """By the vendor's model, not by the alias; the sums of `GET /v1/usage` are exact decimals."""
    upstream: Any = SimpleNamespace(name="openai-main", preset="openai")
    for _ in range(3):
        candidate = Candidate(upstream, "gpt-4o-mini-2024-07-18")
        await metered.finish(candidate=candidate, usage=tokens(1000, 100, cached_tokens=400))
    await metered.finish(candidate=Candidate(upstream, "nobody-7"), usage=tokens(5, 5), model="odd")
    await metered.storage.flush()
    *rows, odd = await metered.rows()
    # 600 x $0.15 + 400 x $0.075 + 100 x $0.60, each per million
    assert [(row["cost_nano"], row["priced"]) for row in rows] == [(180_000, 1)] * 3
    assert (odd["cost_nano"], odd["priced"]) == (0, 0)
    usage = await metered.usage()
    assert (usage["total_cost"], usage["breakdown"]["fast"]["cost"]) == ("0.00054", "0.00054")
    assert usage["breakdown"]["odd"]["cost"] == "0"
