"""T87: what stands behind the money fails; the rule is kept, answers stay quick, and it mends by itself.

The rule: admission is decided in memory, so a database that is away, hung or slow refuses nobody: rows
wait, and the journal keeps what they say. A journal that cannot be written refuses everybody (503), and
so do counters that cannot be: unrecorded or uncounted, nothing goes to a provider.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_meter.journal import Journal

from raven_proxy.harness import ADMINISTRATOR

from .test_money import Bank, reply

PRICES = {"m-1": {"input": "1000", "output": "2000"}}
PATIENCE_S = 0.25


@pytest.fixture
async def start(raven: Any, upstream: Any, tmp_path: Path) -> Callable[..., Any]:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))

    async def start(**config: Any) -> Bank:
        table = {"catalog": str(catalog), "access_log": False, "plugin": {"meter": {}}} | config
        gateway = await raven(
            upstreams=[upstream], base=("meter", "openai"), config=table, principal=ADMINISTRATOR
        )
        bank = Bank(gateway, upstream)
        await bank.grant("1")
        return bank

    return start


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database's write lock, as a process does that was stopped in a transaction."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


async def ask(bank: Bank, status: int, within_s: float = PATIENCE_S) -> Any:
    bank.upstream.script(reply())
    began = time.perf_counter()
    got, headers, body = await bank.chat()
    took = time.perf_counter() - began
    assert got == status, body
    assert took < within_s, f"{took:.3f} s"
    return headers


def segments(bank: Bank) -> list[Path]:
    return sorted((bank.gateway.folder / "data" / "journal").iterdir())


async def test_t87_a_database_that_hangs_holds_up_nobody(start: Any) -> None:
    """Ten answers while its write lock is held; limits hold all the same; then every row is there."""
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    with locked(bank.gateway.folder / "data" / "raven.db"):
        for _ in range(10):
            await ask(bank, 200)
        bank.upstream.script(*[reply() for _ in range(60)])
        statuses = [(await bank.chat())[0] for _ in range(60)]
        assert statuses[-1] == 402, "the balance is counted without the database"
        turning = asyncio.ensure_future(meter._accounting.turn_over())  # noqa: TID251
        await asyncio.sleep(0.1)
        assert len(segments(bank)) == 2, "what the database does not have stays in the journal"
    await turning
    await bank.check_invariants()
    rows = [row for row in await bank.rows() if row["status"] == 200 and row["face"] == "openai-chat"]
    assert len(rows) >= 10
    assert len(segments(bank)) == 1
    assert bank.gateway.gateway.storage.lost_rows == 0


@pytest.mark.parametrize("code", ["SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN"])
async def test_t87_a_database_that_is_gone_is_waited_for(
    start: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Whatever it says; the journal's segments are not thrown away, and it goes on without a restart."""
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    connection = bank.gateway.gateway.storage._connection
    failure = sqlite3.OperationalError("gone")
    failure.sqlite_errorcode = getattr(sqlite3, code)
    with monkeypatch.context() as patch:
        patch.setattr(connection, "execute", lambda *_: (_ for _ in ()).throw(failure))
        for _ in range(3):
            await ask(bank, 200)
        for _ in range(3):
            await meter._accounting.turn_over()
        assert len(segments(bank)) == 2, "one old segment at most, however long it takes"
        await ask(bank, 200)
    await meter._accounting.turn_over()
    assert len(segments(bank)) <= 2
    await bank.check_invariants()
    assert len([row for row in await bank.rows() if row["cost_nano"]]) == 4


async def test_t87_a_slow_database_holds_up_nobody(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 ms a transaction: no reply waits for one."""
    bank = await start()
    connection = bank.gateway.gateway.storage._connection
    real = connection.execute

    async def slow(sql: str, *parameters: Any) -> Any:
        if sql.startswith("BEGIN"):
            await asyncio.sleep(0.5)
        return await real(sql, *parameters)

    with monkeypatch.context() as patch:
        patch.setattr(connection, "execute", slow)
        for _ in range(5):
            await ask(bank, 200)
    await bank.check_invariants()


async def test_t87_a_full_disk_refuses_until_there_is_room(start: Any, upstream: Any) -> None:
    """503 at once, nothing upstream, nothing held; what was under way is charged; no restart is needed."""
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    segment = meter._journal._segment
    upstream.script(reply(delay_s=0.4))
    running = asyncio.ensure_future(bank.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) == 1)
    room, segment.fd = segment.fd, os.open("/dev/full", os.O_WRONLY)
    began = time.perf_counter()
    status, _, body = await bank.chat()
    assert time.perf_counter() - began < PATIENCE_S
    error = msgspec.json.decode(body)["error"]
    assert (status, error["code"]) == (503, "service_unavailable")
    assert "journal" not in error["message"]
    assert (await running)[0] == 200
    assert len(upstream.seen) == 1
    assert await bank.credits() == ("0.98", "0")
    os.close(segment.fd)
    segment.fd = room
    await ask(bank, 200)
    assert await bank.credits() == ("0.96", "0")
    await bank.check_invariants()


async def test_t87_a_full_disk_while_the_journal_turns_over_loses_nothing(
    start: Any, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way cannot be carried over: the old segment stays until it can."""
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    upstream.script(reply(delay_s=0.5))
    running = asyncio.ensure_future(bank.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) == 1)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", _full)
        with pytest.raises(OSError, match="No space"):
            await meter._accounting.turn_over()
        assert len(segments(bank)) == 2
    assert (await running)[0] == 200
    await meter._accounting.turn_over()
    assert len(segments(bank)) == 1
    await bank.check_invariants()


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


async def test_t87_counters_that_hang_admit_nobody_and_lose_no_charge(start: Any, upstream: Any) -> None:
    """Shared by workers and locked by one that was stopped: 503; who is under way is charged, and what
    was held for it is given back when they answer again.
    """
    bank = await start(counters="machine")
    upstream.script(reply(delay_s=0.3))
    running = asyncio.ensure_future(bank.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) == 1)
    with locked(bank.gateway.folder / "data" / "counters.db"):
        status, _, body = await bank.chat()
        assert (status, msgspec.json.decode(body)["error"]["code"]) == (503, "service_unavailable")
        assert (await running)[0] == 200
        assert len(upstream.seen) == 1
        spent = [row["cost_nano"] for row in await bank.rows() if row["cost_nano"]]
        assert spent == [20_000_000]
        assert len(await bank.rows("entries")) == 2
    await upstream.wait_until(lambda: not len(bank.gateway.gateway.tasks))
    await ask(bank, 200, within_s=5)
    assert await bank.credits() == ("0.96", "0")
    await bank.check_invariants()
