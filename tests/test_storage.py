"""The storage keeps what it was given, all of it or none, and tells other processes of changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from raven_proxy import backlog
from raven_proxy import storage as storage_module
from raven_proxy.errors import ConfigError
from raven_proxy.migrations import split
from raven_proxy.storage import SQLiteStorage, Storage

INSERT = "INSERT INTO notes (id, text) VALUES (?, ?)"
NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"


@asynccontextmanager
async def open_storage(path: Path) -> AsyncIterator[SQLiteStorage]:
    # Its thread would keep the test run alive.
    storage = await SQLiteStorage.open(path)
    try:
        yield storage
    finally:
        await storage.close()


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLiteStorage]:
    async with open_storage(tmp_path / "data" / "raven.db") as opened:
        await opened.migrate("notes", [NOTES])
        yield opened


async def ids(storage: Storage) -> list[int]:
    return [row["id"] for row in await storage.fetch_all("SELECT id FROM notes ORDER BY rowid")]


async def start_python(script: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run_python(script: str, *arguments: str) -> None:
    process = await start_python(script, *arguments)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_the_file_is_private_and_in_wal_mode(storage: SQLiteStorage, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    for name in ("raven.db", "raven.db-wal"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1)):
        assert await storage.fetch_one(f"PRAGMA {pragma}") == {pragma: value}


async def test_a_database_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "raven.db").write_bytes(b"this is no database, whatever its name may say" * 100)
    with pytest.raises(ConfigError, match=r"raven\.db cannot be opened"):
        await SQLiteStorage.open(tmp_path / "raven.db")
    with pytest.raises(ConfigError, match="cannot be opened"):
        await SQLiteStorage.open(tmp_path / "raven.db" / "under-a-file" / "raven.db")


async def test_rows_are_dicts_and_parameters_may_be_named(storage: SQLiteStorage) -> None:
    assert await storage.execute(INSERT, (1, "one")) == 1
    sql = "INSERT INTO notes (id, text) VALUES (:id, :text) RETURNING id, text"
    assert await storage.fetch_all(sql, {"id": 2, "text": "two"}) == [{"id": 2, "text": "two"}]
    assert await storage.fetch_one("SELECT text FROM notes WHERE id = ?", (1,)) == {"text": "one"}
    assert await storage.fetch_one("SELECT text FROM notes WHERE id = ?", (9,)) is None
    assert await storage.execute("UPDATE notes SET text = 'x'") == 2


# Migrations


async def test_each_migration_step_runs_once_and_in_order(storage: SQLiteStorage) -> None:
    steps = [NOTES, "ALTER TABLE notes ADD COLUMN mood TEXT", "UPDATE notes SET mood = 'new'"]
    await storage.execute(INSERT, (1, "one"))
    await storage.migrate("notes", steps)
    await storage.execute("UPDATE notes SET mood = 'old'")
    await storage.migrate("notes", steps)
    assert await storage.fetch_one("SELECT mood FROM notes") == {"mood": "old"}
    await storage.migrate("other", ["CREATE TABLE other (id INTEGER)"])
    rows = await storage.fetch_all("SELECT plugin, step FROM migrations ORDER BY plugin, step")
    assert [tuple(row.values()) for row in rows] == [("notes", 1), ("notes", 2), ("notes", 3), ("other", 1)]


async def test_a_failing_step_names_itself_and_leaves_nothing(storage: SQLiteStorage) -> None:
    steps = [NOTES, "CREATE TABLE half (id INTEGER); INSERT INTO nowhere VALUES (1)"]
    with pytest.raises(ConfigError, match=r"plugin 'notes': migration step 2 failed: no such table: nowhere"):
        await storage.migrate("notes", steps)
    assert await storage.fetch_one("SELECT name FROM sqlite_master WHERE name = 'half'") is None
    await storage.migrate("notes", [NOTES, "CREATE TABLE half (id INTEGER)"])


async def test_a_database_of_a_newer_version_is_refused(storage: SQLiteStorage) -> None:
    with pytest.raises(ConfigError, match=r"plugin 'notes'.*step 1, this version knows 0"):
        await storage.migrate("notes", [])


def test_a_step_is_split_only_where_a_statement_ends() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET x = ';'; DELETE FROM b; END"
    script = f"INSERT INTO a VALUES ('one; two');\n{trigger};\nSELECT 1"
    assert [part.strip() for part in split(script)] == [
        "INSERT INTO a VALUES ('one; two');", f"{trigger};", "SELECT 1;",
    ]  # fmt: skip


async def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    script = """
import asyncio, pathlib, sys
from raven_proxy.storage import SQLiteStorage
async def main():
    storage = await SQLiteStorage.open(pathlib.Path(sys.argv[1]))
    steps = ["CREATE TABLE counted (n INTEGER)"] + ["INSERT INTO counted VALUES (1)"] * 20
    await storage.migrate("counted", steps)
    await storage.close()
asyncio.run(main())
"""
    path = tmp_path / "raven.db"
    await asyncio.gather(*[run_python(script, str(path)) for _ in range(5)])
    async with open_storage(path) as storage:
        assert await storage.fetch_one("SELECT COUNT(*) AS n FROM counted") == {"n": 20}


# Transactions


async def test_a_transaction_is_all_or_nothing_and_unseen_until_then(storage: SQLiteStorage) -> None:
    async def count() -> int:
        return len(await ids(storage))

    async def fail() -> None:
        async with storage.transaction() as tx:
            await tx.execute(INSERT, (1, "one"))
            readings.append(asyncio.get_running_loop().create_task(count()))
            await asyncio.sleep(0.05)
            assert not readings[0].done()
            raise ZeroDivisionError

    readings: list[asyncio.Task[int]] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await readings[0] == 0
    async with storage.transaction() as tx:
        await tx.execute(INSERT, (1, "one"))
    assert await count() == 1


async def test_calling_the_storage_inside_its_own_transaction_is_an_error(storage: SQLiteStorage) -> None:
    async with storage.transaction() as tx:
        await tx.execute(INSERT, (1, "one"))
        for call in (storage.fetch_all("SELECT 1"), storage.flush(), storage.bump("x")):
            with pytest.raises(RuntimeError, match="inside a transaction"):
                await call
    assert await ids(storage) == [1]


async def test_a_cancelled_transaction_is_rolled_back_at_any_point(storage: SQLiteStorage) -> None:
    async def work() -> None:
        async with storage.transaction() as tx:
            for number in range(5):
                await tx.execute(INSERT, (number, "x"))

    for turns in range(40):
        await storage.execute("DELETE FROM notes")
        task = asyncio.get_running_loop().create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await ids(storage) in ([], [0, 1, 2, 3, 4])


async def test_concurrent_transactions_lose_no_update(storage: SQLiteStorage, tmp_path: Path) -> None:
    script = """
import asyncio, pathlib, sys
from raven_proxy.storage import SQLiteStorage
async def add(storage):
    async with storage.transaction() as tx:
        row = await tx.fetch_one("SELECT text FROM notes WHERE id = 1")
        await tx.execute("UPDATE notes SET text = ? WHERE id = 1", (str(int(row["text"]) + 1),))
async def main():
    storage = await SQLiteStorage.open(pathlib.Path(sys.argv[1]))
    await asyncio.gather(*[add(storage) for _ in range(50)])
    await storage.close()
asyncio.run(main())
"""
    await storage.execute(INSERT, (1, "0"))
    path = str(tmp_path / "data" / "raven.db")
    await asyncio.gather(run_python(script, path), run_python(script, path))
    assert await storage.fetch_one("SELECT text FROM notes") == {"text": "100"}


# Write-behind


@pytest.mark.parametrize("count", [1, 2, 5, 63, 321, 1500])
async def test_rows_written_behind_arrive_in_order(storage: SQLiteStorage, count: int) -> None:
    for number in range(count):
        storage.write_behind("INSERT INTO notes (text, id) VALUES (?, ?)", (f"n{number}", number))
    await storage.flush()
    rows = await storage.fetch_all("SELECT id, text FROM notes ORDER BY rowid")
    assert rows == [{"id": number, "text": f"n{number}"} for number in range(count)]


async def test_rows_are_written_without_a_flush_within_moments(storage: SQLiteStorage) -> None:
    for round_number in range(3):
        storage.write_behind(INSERT, (round_number, "x"))
        async with asyncio.timeout(2):
            while len(await ids(storage)) <= round_number:
                await asyncio.sleep(0.02)


async def test_statements_that_are_no_plain_insert_work_too(storage: SQLiteStorage) -> None:
    upsert = f"{INSERT} ON CONFLICT (id) DO UPDATE SET text = excluded.text"
    with_constant = "INSERT INTO notes (id, text) VALUES (?, 'constant')"
    for number in range(70):
        storage.write_behind(upsert, (number % 3, f"v{number}"))
    storage.write_behind(with_constant, (7,))
    storage.write_behind("UPDATE notes SET text = ? WHERE id = ?", ("changed", 2))
    await storage.flush()
    rows = await storage.fetch_all("SELECT id, text FROM notes ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [(0, "v69"), (1, "v67"), (2, "changed"), (7, "constant")]


async def test_one_bad_row_does_not_lose_the_others(storage: SQLiteStorage) -> None:
    bad: list[tuple[object, ...]] = [
        (5, "twice"),
        (1000, None),
        (1001, "\ud800"),
        (2**70, "x"),
        (1,),
        (1, 2, 3),
    ]
    with capture_logs() as logs:
        for number in range(100):
            storage.write_behind(INSERT, (number, "good"))
        for row in bad:
            storage.write_behind(INSERT, row)
        storage.write_behind("INSERT INTO nowhere VALUES (?)", (1,))
        storage.write_behind(INSERT, (100, "good"))
        await storage.flush()
    assert await ids(storage) == list(range(101))
    assert storage.lost_rows == len(bad) + 1
    lost = [line for line in logs if line["event"] == "write-behind row lost"]
    assert len(lost) == len(bad) + 1
    assert "UNIQUE constraint failed: notes.id" in lost[0]["reason"]
    assert "twice" not in str(logs), "values stay out of the log"


async def test_rows_wait_while_the_database_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_BUSY_TIMEOUT_S", 0.01)
    monkeypatch.setattr(backlog, "_RETRY_S", 0.05)
    async with open_storage(tmp_path / "raven.db") as storage:
        await storage.migrate("notes", [NOTES])
        other = sqlite3.connect(tmp_path / "raven.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            storage.write_behind(INSERT, (number, "x"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await storage.flush()
        with capture_logs() as logs:
            await asyncio.sleep(0.3)
        assert {line["event"] for line in logs} == {"write-behind has to wait"}
        storage.write_behind(INSERT, (10, "x"))
        other.execute("ROLLBACK")
        other.close()
        await storage.flush()
        assert await ids(storage) == list(range(11))
        assert storage.lost_rows == 0


async def test_the_backlog_is_bounded_and_says_what_it_lost(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_ROWS", 1000)
    with capture_logs() as logs:
        for number in range(1200):
            storage.write_behind(INSERT, (number, "x"))
    assert storage.lost_rows == 200
    assert len(logs) == 10, "loud, but not one line per row"
    await storage.flush()
    assert len(await ids(storage)) == 1000


async def test_a_cancelled_flush_writes_each_row_once(storage: SQLiteStorage) -> None:
    for turns in range(30):
        storage.write_behind(INSERT, (turns, "x"))
        task = asyncio.get_running_loop().create_task(storage.flush())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await storage.flush()
    assert await ids(storage) == list(range(30))
    assert storage.lost_rows == 0


async def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    async with open_storage(tmp_path / "raven.db") as storage:
        await storage.migrate("notes", [NOTES])
        for number in range(1234):
            storage.write_behind(INSERT, (number, "x"))
    with sqlite3.connect(tmp_path / "raven.db") as reader:
        assert reader.execute("SELECT COUNT(*) FROM notes").fetchone() == (1234,)
    reader.close()


async def test_a_crash_loses_only_the_newest_rows(tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib, sys
from raven_proxy.storage import SQLiteStorage
async def main():
    storage = await SQLiteStorage.open(pathlib.Path(sys.argv[1]))
    await storage.migrate("notes", [{NOTES!r}])
    number = 0
    while True:
        for _ in range(37):
            storage.write_behind({INSERT!r}, (number, "x"))
            storage.write_behind("INSERT INTO notes (text, id) VALUES (?, ?)", ("y", number + 1))
            number += 2
        if number > 20_000 and number % 74 == 0:
            print(number, flush=True)
        await asyncio.sleep(0.001)
asyncio.run(main())
"""
    process = await start_python(script, str(tmp_path / "raven.db"))
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    async with open_storage(tmp_path / "raven.db") as storage:
        rows = await storage.fetch_all("SELECT id FROM notes ORDER BY id")
        assert [row["id"] for row in rows] == list(range(len(rows)))
        assert len(rows) > 10_000


# Changes


async def test_a_bump_reaches_watchers_here_before_it_returns(storage: SQLiteStorage) -> None:
    calls: list[str] = []

    async def note() -> None:
        calls.append(str(len(await ids(storage))))

    async def bump_and_fail() -> None:
        async with storage.transaction() as tx:
            await tx.bump("notes")
            raise ZeroDivisionError

    stop = storage.watch("notes", note)
    async with storage.transaction() as tx:
        await tx.execute(INSERT, (1, "one"))
        await tx.bump("notes")
        assert calls == []
    assert calls == ["1"]
    await storage.bump("something else")
    with pytest.raises(ZeroDivisionError):
        await bump_and_fail()
    stop()
    stop()
    await storage.bump("notes")
    await asyncio.sleep(0.3)
    assert calls == ["1"]


async def test_a_bump_reaches_other_processes_in_time(storage: SQLiteStorage, tmp_path: Path) -> None:
    script = """
import asyncio, pathlib, sys
from raven_proxy.storage import SQLiteStorage
async def main():
    storage = await SQLiteStorage.open(pathlib.Path(sys.argv[1]))
    await storage.bump("notes")
    await storage.close()
asyncio.run(main())
"""
    called = asyncio.Event()

    async def note() -> None:
        called.set()

    storage.watch("notes", note)
    for _ in range(2):
        called.clear()
        await run_python(script, str(tmp_path / "data" / "raven.db"))
        async with asyncio.timeout(0.5):
            await called.wait()


async def test_a_watcher_that_fails_is_called_again(storage: SQLiteStorage) -> None:
    calls: list[int] = []
    done = asyncio.Event()

    async def flaky() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            raise ValueError("not now")
        done.set()

    storage.watch("notes", flaky)
    with capture_logs() as logs:
        await storage.bump("notes")
        async with asyncio.timeout(3):
            await done.wait()
    assert [line["event"] for line in logs] == ["watcher failed", "watcher failed"]
