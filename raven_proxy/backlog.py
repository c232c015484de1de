"""Rows that may be written a moment later: the queue, and the quick way to insert many at once.

Responsible for how `Storage.write_behind` batches, retries and bounds what it was given. The
transaction a batch is written in is the storage's.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from itertools import chain
from typing import Any

import aiosqlite
import structlog

from .tasks import Tasks

__all__ = ["MAX_ROWS", "Backlog", "BatchConnection"]

MAX_ROWS = 100_000
"""Rows that may wait; what comes beyond is lost, and said so."""

_FLUSH_INTERVAL_S = 0.25
_FLUSH_ROWS = 2_000  # the larger a batch, the less often it takes the core's caches from the event loop
_COMMIT_ROWS = 5_000  # a long backlog must not hold the write lock for long
_RETRY_S = 1.0
_VALUES = re.compile(r"\bVALUES\s*(\(\s*\?(?:\s*,\s*\?)*\s*\))", re.IGNORECASE)
_PIECES = (256, 64, 16, 4, 1)  # few sizes, so that each statement is prepared once
_MAX_PARAMETERS = 32_766  # SQLite's own limit since 3.32
# Failures of the moment: the rows are kept and tried again. Any other failure is the row's own.
_PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
}  # fmt: skip

_log = structlog.get_logger("raven_proxy.storage")


class Backlog:
    """Rows on their way to the database.

    `lost` counts those that never arrived: refused by the database, or over `MAX_ROWS`.
    """

    def __init__(
        self,
        connection: aiosqlite.Connection,
        transaction: Callable[[], AbstractAsyncContextManager[Any]],
        tasks: Tasks,
    ) -> None:
        self.lost = 0
        self._connection = connection
        self._transaction = transaction
        self._tasks = tasks
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._writing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, sql: str, row: tuple[Any, ...]) -> None:
        """Queue one row; see `Storage.write_behind`."""
        rows = self._rows
        size = len(rows)
        if size == 0:
            self._some.set()
        elif size == _FLUSH_ROWS - 1:
            self._many.set()
        elif size >= MAX_ROWS:
            self._lose(f"{MAX_ROWS} rows are waiting already", sql)
            return
        rows.append((sql, row))

    async def run(self) -> None:
        """Write for ever: at most 250 ms after a row came, sooner if many did."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_INTERVAL_S):
                    await self._many.wait()
            try:
                await self.flush()
            except Exception as error:
                _log.error("write-behind has to wait", rows=len(self._rows), reason=str(error))
                await asyncio.sleep(_RETRY_S)

    async def flush(self) -> None:
        """Write what is queued now. Raises if that cannot be; the rows are kept."""
        if not self._rows and not self._writing.locked():
            return
        # A caller who is cancelled must not leave a batch both committed and queued.
        error = await asyncio.shield(self._tasks.spawn(self._drain(), "storage-drain"))
        if error is not None:
            raise error

    async def _drain(self) -> Exception | None:
        async with self._writing:
            left = len(self._rows)
            while left > 0:
                batch, self._rows = self._rows[:_COMMIT_ROWS], self._rows[_COMMIT_ROWS:]
                left -= len(batch)
                self._many.clear()
                try:
                    await self._write(batch)
                except Exception as error:
                    self._rows = batch + self._rows
                    return error
                finally:
                    if not self._rows:
                        self._some.clear()
            return None

    async def _write(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        groups: dict[str, list[tuple[Any, ...]]] = {}
        for sql, row in batch:
            groups.setdefault(sql, []).append(row)
        try:
            async with self._transaction():
                for sql, rows in groups.items():
                    cursor = await self._connection.executemany(sql, rows)
                    await cursor.close()
        except Exception as error:
            if _is_passing(error):
                raise
            await self._write_singly(batch)

    async def _write_singly(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        async with self._transaction() as transaction:
            for sql, row in batch:
                try:
                    await transaction.execute(sql, row)
                except Exception as error:
                    if _is_passing(error):
                        raise
                    self._lose(f"{type(error).__name__}: {error}", sql)

    def _lose(self, reason: str, sql: str) -> None:
        self.lost += 1
        if self.lost <= 10 or self.lost % 10_000 == 0:
            _log.error("write-behind row lost", reason=reason, sql=sql, lost=self.lost)


def _is_passing(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _PASSING  # the low byte of an extended code is its kind


class BatchConnection(sqlite3.Connection):
    """A connection whose rows are dicts and whose `executemany` inserts many rows per statement.

    sqlite3 releases and takes the interpreter lock for each step. Beside a busy event loop on another
    core that made a row twice as dear in the writer and each turn of the loop twice as slow.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.row_factory = _as_dict

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """Do the same as `sqlite3.Connection.executemany`, with fewer statements where they allow it."""
        rows = list(rows)
        places = _VALUES.findall(sql)
        width = places[0].count("?") if len(places) == 1 else 0
        if sql.count("?") != width or set(map(len, rows)) != {width}:
            return super().executemany(sql, rows)
        cursor = self.cursor()
        done = 0
        for size in _PIECES:
            if size * width > _MAX_PARAMETERS:
                continue
            text = sql.replace(places[0], ", ".join([places[0]] * size), 1)
            while len(rows) - done >= size:
                cursor.execute(text, tuple(chain.from_iterable(rows[done : done + size])))
                done += size
        return cursor


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
