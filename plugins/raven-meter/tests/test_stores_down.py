"""T87: what stands behind the money fails; the rule is kept, answers stay quick, and it mends by itself.

The rule: admission is decided in memory, so a database that is away, hung or slow refuses nobody: rows
wait, and the journal keeps what they say. A journal that cannot be written refuses everybody (503), and
so do counters that cannot be: unrecorded or uncounted, nothing goes to a provider.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_meter import ledger
from raven_meter.journal import Journal
from raven_meter.segment import Segment, read_records

from raven_proxy import ConfigError, GatewayError, backlog
from raven_proxy.counters import Claim
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply
from raven_proxy.shared_counters import SharedCounters

from .test_money import Bank, reply

PRICES = {"m-1": {"input": "1000", "output": "2000"}}
PATIENCE_S = 0.25
EVENTS = [("Content-Type", "text/event-stream")]


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
        turning = asyncio.ensure_future(meter._keeper.turn_over())  # noqa: TID251
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
            await meter._keeper.turn_over()
        assert len(segments(bank)) == 2, "one old segment at most, however long it takes"
        await ask(bank, 200)
    await meter._keeper.turn_over()
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


async def test_t87_a_full_disk_refuses_until_there_is_room(
    start: Any, upstream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 at once, nothing upstream, nothing held; what was under way is charged; no restart is needed."""
    bank = await start()
    upstream.script(reply(delay_s=0.4))
    running = asyncio.ensure_future(bank.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) == 1)
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "append", _full)
        began = time.perf_counter()
        status, _, body = await bank.chat()
        assert time.perf_counter() - began < PATIENCE_S
        error = msgspec.json.decode(body)["error"]
        assert (status, error["code"]) == (503, "service_unavailable")
        assert "journal" not in error["message"]
        assert (await running)[0] == 200
        assert len(upstream.seen) == 1
        assert await bank.credits() == ("0.98", "0")
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
            await meter._keeper.turn_over()
        assert len(segments(bank)) == 2
    assert (await running)[0] == 200
    await meter._keeper.turn_over()
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


async def test_t78_the_journal_says_how_many_words_of_a_stream_have_come(start: Any, upstream: Any) -> None:
    """So that a crash is billed by them; they are counted as they are in a stream that was cut."""
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    event = b'data: {"choices":[{"index":0,"delta":{"content":"twelve bytes"}}]}\n\n'
    upstream.script(ScriptedReply(chunks=[event, event, event, 5, b"data: [DONE]\n\n"], headers=EVENTS))
    asking = asyncio.ensure_future(bank.chat(stream=True))  # noqa: TID251
    await upstream.wait_until(lambda: _progress(meter))
    [found] = _progress(meter)
    assert found["w"] == 36
    asking.cancel()


def _progress(meter: Any) -> list[Any]:
    meter._keeper.record_progress()
    [path] = meter._journal._folder.glob("*.log")
    found = [record for record in read_records(Segment(path, -1)) if record["k"] == "p"]
    return found if found and found[-1]["b"] > 200 else []


async def test_t87_a_file_of_counters_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    """A wait holds up the whole process, so that the next ones are short until a step succeeds."""
    counting = SharedCounters(tmp_path / "counters.db")
    with locked(tmp_path / "counters.db"):
        began = time.perf_counter()
        for _ in range(20):
            with pytest.raises(GatewayError):
                await counting.take([Claim("money", 1, 100)])
        assert time.perf_counter() - began < 20 * 0.1, "each would take 0.2 s"
    assert await counting.take([Claim("money", 1, 100)]) is None, "and it mends by itself"
    counting.close()


async def test_t87_counters_that_are_deleted_are_counted_from_the_ledger(start: Any, upstream: Any) -> None:
    """Not from zero, and without a restart."""
    bank = await start(counters="machine")
    await ask(bank, 200)
    assert await bank.credits() == ("0.98", "0")
    other = sqlite3.connect(bank.gateway.folder / "data" / "counters.db")
    other.execute("DELETE FROM amounts")
    other.commit()
    other.close()
    counters = bank.gateway.gateway.counters
    assert await counters.used("spent:org_default") == 0
    async with asyncio.timeout(20):
        while await counters.used("spent:org_default") != 20_000_000:
            await asyncio.sleep(0.1)
    await bank.check_invariants()


async def test_t87_rows_that_a_database_was_away_too_long_for_come_from_the_journal(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = await start()
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "meter")
    monkeypatch.setattr(backlog, "MAX_ROWS", 3)
    with locked(bank.gateway.folder / "data" / "raven.db"):
        for _ in range(8):
            await ask(bank, 200)
    assert bank.gateway.gateway.storage.lost_rows > 0
    monkeypatch.undo()
    await meter._keeper.turn_over()
    assert len([row for row in await bank.rows() if row["cost_nano"]]) == 8
    assert await bank.credits() == ("0.84", "0")
    await bank.check_invariants()


async def test_what_another_process_charged_before_it_knew_of_a_budget_counts(start: Any) -> None:
    """A moment later: the charge comes into the ledger when the budget counts already."""
    bank = await start()
    budget = await bank.budget("1")
    await bank.gateway.gateway.storage.execute(
        ledger.INSERT_ENTRY, ledger.charge("req_elsewhere", ADMINISTRATOR, 20_000_000, int(time.time())).row()
    )
    async with asyncio.timeout(20):
        while (await bank.ask("GET", f"/budgets/{budget['id']}"))[1]["spent"] != "0.02":
            await asyncio.sleep(0.1)
    assert await bank.credits() == ("0.98", "0")


async def test_a_budget_made_in_a_reload_counts_what_the_old_pipeline_still_serves(
    start: Any, upstream: Any
) -> None:
    bank = await start()
    upstream.script(reply(delay_s=0.5))
    running = asyncio.ensure_future(bank.chat())  # noqa: TID251
    await upstream.wait_until(lambda: len(upstream.seen) == 1)
    await bank.gateway.reload()
    budget = await bank.budget("1")
    assert (await running)[0] == 200
    assert (await bank.ask("GET", f"/budgets/{budget['id']}"))[1]["spent"] == "0.02"
    await bank.check_invariants()


async def test_t135_a_catalogue_that_is_suddenly_half_as_long_keeps_the_old_one(start: Any) -> None:
    """And says so; a start takes it, as nothing is in force then."""
    bank = await start()
    path = Path(bank.gateway.gateway.config.catalog)
    path.write_bytes(msgspec.json.encode(PRICES | {f"m-{n}": PRICES["m-1"] for n in range(2, 7)}))
    await bank.gateway.reload()
    whole = path.read_bytes()
    path.write_bytes(msgspec.json.encode(PRICES))
    with pytest.raises(ConfigError, match="it has 1 models where 6 are in force") as caught:
        await bank.gateway.reload()
    assert "restart" in str(caught.value)
    await ask(bank, 200)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="truncated"):
        await bank.gateway.reload()
    await ask(bank, 200)
    path.write_bytes(whole)
    await bank.gateway.reload()
