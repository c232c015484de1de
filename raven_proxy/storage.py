"""Where things are kept: a small protocol, and SQLite behind it.

Responsible for one connection and its transactions; `migrations`, `backlog` (writes that may wait)
and `changes` (telling every process) stand on them. What the tables hold is each plugin's affair.
SQL stays in the portable subset: `ON CONFLICT`, `RETURNING`, `?` or `:name`, no SQLite functions.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiosqlite
import structlog

from . import changes, migrations
from .backlog import Backlog, BatchConnection
from .changes import WATCH_INTERVAL_S, Changes, Watcher
from .errors import ConfigError
from .tasks import Tasks

__all__ = ["WATCH_INTERVAL_S", "Params", "Row", "SQLiteStorage", "Storage", "Transaction"]

Params = Sequence[Any] | Mapping[str, Any]
Row = dict[str, Any]

_BUSY_TIMEOUT_S = 5.0

_log = structlog.get_logger("raven_proxy.storage")


class Transaction(Protocol):
    """What can be done inside `async with storage.transaction() as tx`."""

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        """Run a query, or a write with RETURNING; give its rows as dicts by column name."""

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        """Run a query; give its first row."""

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run a write; give the number of rows that it touched."""

    async def bump(self, topic: str) -> None:
        """Announce a change of `topic` to every process, when and only when this commits."""


class Storage(Transaction, Protocol):
    """Rows for plugins. What `Transaction` offers is, called here, a transaction of its own.

    When `bump` returns, this process's own watchers have been called.
    """

    async def migrate(self, plugin: str, steps: Sequence[str]) -> None:
        """Bring a plugin's tables up to date; append to `steps`, never edit one.

        Each step (one or more statements) is one transaction with the row that records it. Raises
        ConfigError naming plugin and step, also if the database is newer than the plugin.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open the one write transaction of this process; await nothing but `tx` inside it.

        An exception rolls back. Calling the storage itself inside is a RuntimeError: use `tx`.
        """

    def write_behind(self, sql: str, row: tuple[Any, ...]) -> None:
        """Queue a write that may wait 250 ms; never blocks. `?` parameters only.

        Rows of one statement keep their order. Statements are grouped within a commit, so one that
        needs another's effect belongs into the same statement (an upsert). What a crash loses is
        the newest rows only. A row that the database refuses is logged and counted.
        """

    @property
    def lost_rows(self) -> int:
        """Count the write-behind rows that never arrived, since the start."""

    async def flush(self) -> None:
        """Write what is queued now. Raises the database's error if that cannot be; the rows are kept."""

    def watch(self, topic: str, callback: Watcher) -> Callable[[], None]:
        """Call `callback` after each `bump` of `topic`, in any process; returns how to stop it.

        Watch first and load second. A callback may come once too often, and comes again if it raises.
        """

    async def close(self) -> None:
        """Flush and let go of the database."""


class SQLiteStorage:
    """`Storage` in one SQLite file: one connection in WAL mode, its work off the event loop.

    A transaction that holds the write lock in another process is waited for, at most 5 s.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._tasks = Tasks()
        self._backlog = Backlog(connection, self.transaction, self._tasks)
        self.changes = Changes(lambda: self.fetch_one("PRAGMA data_version"), self._read_generations)
        self._background = [
            self._tasks.spawn(self._backlog.run(), "storage-write-behind"),
            self._tasks.spawn(self.changes.run(), "storage-watch"),
        ]

    @classmethod
    async def open(cls, path: Path) -> SQLiteStorage:
        """Open or create the database file (mode 0600, its folder 0700). Raises ConfigError."""
        connection: aiosqlite.Connection | None = None
        try:
            _create_private(path)
            connection = await aiosqlite.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, factory=BatchConnection
            )
            await _prepare(connection)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, OSError | sqlite3.Error):
                raise ConfigError(f"the database {path} cannot be opened: {error}") from error
            raise
        return cls(connection)

    @property
    def lost_rows(self) -> int:
        """Count the write-behind rows that never arrived, since the start."""
        return self._backlog.lost

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        async with self._exclusive():
            return await _Transaction(self._connection).fetch_all(sql, params)

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        async with self._exclusive():
            return await _Transaction(self._connection).fetch_one(sql, params)

    async def execute(self, sql: str, params: Params = ()) -> int:
        async with self._exclusive():
            return await _Transaction(self._connection).execute(sql, params)

    async def bump(self, topic: str) -> None:
        async with self.transaction() as transaction:
            await transaction.bump(topic)

    async def migrate(self, plugin: str, steps: Sequence[str]) -> None:
        await migrations.apply_steps(self, plugin, steps)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        transaction = _Transaction(self._connection)
        async with self._exclusive():
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield transaction
                if transaction.bumped:
                    self.changes.expect()  # should we be cancelled now, the next look still tells
                await self._connection.commit()
            except BaseException:
                # Queued behind whatever was cancelled half-way; does nothing where nothing is open.
                await self._connection.rollback()
                raise
        for topic, value in transaction.bumped.items():
            await self.changes.announce(topic, value)

    def write_behind(self, sql: str, row: tuple[Any, ...]) -> None:
        self._backlog.add(sql, row)

    async def flush(self) -> None:
        self._check_outside()
        await self._backlog.flush()

    def watch(self, topic: str, callback: Watcher) -> Callable[[], None]:
        return self.changes.watch(topic, callback)

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background)
        try:
            await self._backlog.flush()
        except sqlite3.Error as error:
            _log.error("write-behind rows lost at shutdown", rows=len(self._backlog), reason=str(error))
        finally:
            await self._connection.close()

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        # Reads take the lock too: on one connection they would see an open transaction's rows.
        self._check_outside()
        async with self._lock:
            self._holder = asyncio.current_task()
            try:
                yield
            finally:
                self._holder = None

    def _check_outside(self) -> None:
        if self._holder is not None and self._holder is asyncio.current_task():
            raise RuntimeError("inside a transaction, call the transaction and not the storage")

    async def _read_generations(self) -> dict[str, int]:
        return {r["topic"]: r["value"] for r in await self.fetch_all("SELECT topic, value FROM generations")}


class _Transaction:
    """`Transaction` on the one connection; its owner holds the lock."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self.bumped: dict[str, int] = {}

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        return list(await self._connection.execute_fetchall(sql, params))  # type: ignore[arg-type]

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        rows = await self.fetch_all(sql, params)
        return rows[0] if rows else None

    async def execute(self, sql: str, params: Params = ()) -> int:
        async with self._connection.execute(sql, params) as cursor:
            return cursor.rowcount

    async def bump(self, topic: str) -> None:
        for row in await self.fetch_all(changes.BUMP, (topic,)):
            self.bumped[topic] = row["value"]


def _create_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


async def _prepare(connection: aiosqlite.Connection) -> None:
    deadline = asyncio.get_running_loop().time() + _BUSY_TIMEOUT_S
    while True:
        try:  # the change to WAL does not always wait for another process that is at it too
            await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)
    # With recursive triggers a row that is replaced counts as deleted, for the triggers that forbid that.
    settings = ("PRAGMA synchronous = NORMAL", "PRAGMA foreign_keys = ON", "PRAGMA recursive_triggers = ON")
    for sql in (*settings, migrations.SCHEMA, changes.SCHEMA):
        await connection.execute_fetchall(sql)
