"""T78, T107: kill -9 at any moment loses no answer that a client has, charges none twice, reserves nothing.

A real process is killed at seeded random moments under a mixed load and started again on its data. The
books are read when the last start has stopped, from the database file itself.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import aiohttp
import msgspec
import pytest
from aiohttp import ClientSession  # noqa: TID251 - the client's side of a test

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config

PRICES = {"m-1": {"input": "10", "output": "20"}}
AUTH = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Load:
    """Clients that ask without a pause, and remember every answer that they got to its last byte."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.answered: dict[str, str] = {}  # request id → whole or stream

    async def run(self, url: str, clients: int = 8) -> None:
        async with ClientSession(url, headers=AUTH, timeout=aiohttp.ClientTimeout(total=20)) as session:
            await asyncio.gather(*(self._ask_on(session) for _ in range(clients)))

    async def _ask_on(self, session: ClientSession) -> None:
        while True:
            stream = self._random.random() < 0.5
            chance = self._random.random()
            model = "mock/m-1" if chance < 0.7 else "mock/fx-500" if chance < 0.85 else "mock/fx-paced-5"
            question = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
            try:
                async with session.post("/v1/chat/completions", json=question) as reply:
                    body = await reply.read()  # raises where the last chunk or byte is missing
            except (aiohttp.ClientError, TimeoutError, OSError):
                return
            if reply.status == 200 and (not stream or b"[DONE]" in body):
                self.answered[reply.headers["X-Request-ID"]] = "stream" if stream else "whole"


async def crash(config: Path, seed: int) -> Load:
    """Serve under load, and be killed at a moment that the seed decides."""
    load = Load(seed)
    async with serve(config) as running:
        asking = asyncio.ensure_future(load.run(running.url))  # noqa: TID251
        await asyncio.sleep(random.Random(seed).uniform(0.02, 0.7))
        running.send(signal.SIGKILL)
        await running.ended()
        with suppress(Exception):
            await asyncio.wait_for(asking, 5)
    return load


async def look(running: Process, path: str) -> dict[str, str]:
    async with ClientSession(running.url, headers=AUTH) as session, session.get(path) as reply:
        answer: dict[str, str] = await reply.json()
        return answer


async def run_crashes(tmp_path: Path, upstream: MockUpstream, times: int) -> int:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))
    settings = {"allow_unpriced": True, "fsync": "never"}
    config = write_config(
        tmp_path,
        upstream,
        catalog=str(catalog),
        plugins=["auth-keys", "meter", "openai"],
        plugin={"meter": settings},
        models_refresh_s=0,
        access_log=False,
        log_level="warning",
    )
    answered: dict[str, str] = {}
    async with serve(config) as running:
        async with (
            ClientSession(running.url, headers=AUTH) as session,
            session.post("/credits/grants", json={"amount": "100000"}) as reply,
        ):
            assert reply.status == 201
        running.send(signal.SIGTERM)
        await running.ended()
    for number in range(times):
        load = await crash(config, crc32(b"%d" % number))
        assert not set(load.answered) & set(answered)
        answered |= load.answered
    async with serve(config) as running:
        money = await look(running, "/credits")
        assert money["reserved"] == "0"
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    check_books(tmp_path / "data" / "raven.db", answered, money)
    assert list((tmp_path / "data" / "journal").iterdir()) == []
    return len(answered)


def check_books(path: Path, answered: dict[str, str], money: dict[str, str]) -> None:
    database = sqlite3.connect(path)
    try:
        [(integrity,)] = database.execute("PRAGMA integrity_check").fetchall()
        rows = database.execute("SELECT request_id, outcome, stream, cost_nano FROM exchanges").fetchall()
        charges = database.execute(
            "SELECT reference, amount_nano FROM entries WHERE kind = 'charge'"
        ).fetchall()
    finally:
        database.close()
    assert integrity == "ok"
    ids = [row[0] for row in rows]
    assert len(ids) == len(set(ids)), "an exchange is recorded twice"
    outcomes = {row[0]: row[1] for row in rows}
    lost = {name: kind for name, kind in answered.items() if outcomes.get(name) != "completed"}
    assert lost == {}, "a client has an answer that the books do not know as completed"
    charged = dict(charges)
    assert len(charged) == len(charges), "an exchange is charged twice"
    assert charged == {row[0]: row[3] for row in rows if row[3]}
    spent = sum(charged.values())
    assert money["balance"] == _dollars(100_000 * 10**9 - spent)


def _dollars(nano: int) -> str:
    whole, rest = divmod(nano, 10**9)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


async def test_t107_killed_at_random_moments(tmp_path: Path, upstream: MockUpstream) -> None:
    """A few moments here; `make soak` tries two hundred."""
    assert await run_crashes(tmp_path, upstream, 6) > 50


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_t107_killed_at_two_hundred_moments(tmp_path: Path, upstream: MockUpstream) -> None:
    assert await run_crashes(tmp_path, upstream, 200) > 2000


async def test_t78_killed_between_the_providers_last_byte_and_ours(
    tmp_path: Path, upstream: MockUpstream
) -> None:
    """The provider was asked, the client has nothing: one record, and nothing stays reserved."""
    config = write_config(
        tmp_path,
        upstream,
        plugins=["auth-keys", "meter", "openai"],
        plugin={"meter": {"allow_unpriced": True}},
        models_refresh_s=0,
    )
    async with serve(config) as running, ClientSession(running.url, headers=AUTH) as session:
        question = {"model": "mock/fx-slow-5", "messages": [{"role": "user", "content": "Hi"}]}
        asking = asyncio.ensure_future(session.post("/v1/chat/completions", json=question))  # noqa: TID251
        await upstream.wait_until(lambda: bool(upstream.seen))
        running.send(signal.SIGKILL)
        await running.ended()
        with suppress(aiohttp.ClientError):
            await asking
    async with serve(config) as running:
        assert (await look(running, "/credits"))["reserved"] == "0"
        running.send(signal.SIGTERM)
        await running.ended()
    database = sqlite3.connect(tmp_path / "data" / "raven.db")
    rows = database.execute(
        "SELECT outcome, estimated, error_code FROM exchanges WHERE face = 'openai-chat'"
    ).fetchall()
    database.close()
    assert rows == [("failed", 1, "crashed")]


async def test_a_start_after_a_crash_with_a_long_journal_is_quick(tmp_path: Path) -> None:
    """100,000 records: within seconds, each once, and a second start finds nothing to do."""
    from raven_meter import Meter
    from raven_meter.exchanges import RowIds
    from raven_meter.journal import Journal

    config = write_config(tmp_path, plugins=["auth-keys", "meter"], models_refresh_s=0)
    async with serve(config) as running:
        running.send(signal.SIGTERM)
        await running.ended()
    assert Meter is not None
    ids = RowIds(9)
    journal = Journal(tmp_path / "data" / "journal", "never")
    for number in range(50_000):
        row = [
            ids.next(),
            f"req_{number}",
            1,
            "key_a",
            "org_default",
            "chat",
            "m",
            "u",
            "m",
            200,
            "completed",
        ]
        row += [0, 10, 5, 0, 0, 15, 0, 1, 3.5, None, "stop", None, 7, 1, 0, None]
        journal.append(
            {"k": "a", "i": f"req_{number}", "t": 1, "org": "org_default", "stream": False, "rate": "1"}
        )
        journal.append({"k": "f", "i": f"req_{number}", "row": row})
    journal.close()
    began = time.perf_counter()
    async with serve(config) as running:
        took = time.perf_counter() - began
        running.send(signal.SIGTERM)
        await running.ended()
    database = sqlite3.connect(tmp_path / "data" / "raven.db")
    [(rows,)] = database.execute("SELECT COUNT(*) FROM exchanges WHERE request_id LIKE 'req_%'").fetchall()
    [(spent,)] = database.execute("SELECT SUM(amount_nano) FROM entries").fetchall()
    database.close()
    assert (rows, spent) == (50_000, 350_000)
    assert took < 30, "the suite times nothing closely; the figure is in the README"
