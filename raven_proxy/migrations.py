"""Numbered migrations: how each plugin brings its own tables up to date.

Responsible for order, atomicity and the record of what was done. It knows only the `Storage`
protocol, so it serves any database behind it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from .storage import Storage, Transaction

__all__ = ["SCHEMA", "apply_steps", "split"]

SCHEMA = """CREATE TABLE IF NOT EXISTS migrations (
  plugin TEXT NOT NULL, step INTEGER NOT NULL, applied_at INTEGER NOT NULL, PRIMARY KEY (plugin, step)
)"""


async def apply_steps(storage: Storage, plugin: str, steps: Sequence[str]) -> None:
    """Run the steps that this database has not seen; see `Storage.migrate`."""
    applied = await _count_applied(storage, plugin)
    if applied > len(steps):
        raise ConfigError(
            f"plugin {plugin!r}: the database is at migration step {applied}, "
            f"this version knows {len(steps)}; install the newer version again"
        )
    for number, step in enumerate(steps[applied:], applied + 1):
        try:
            await _apply_step(storage, plugin, number, step)
        except Exception as error:
            raise ConfigError(f"plugin {plugin!r}: migration step {number} failed: {error}") from error


async def _apply_step(storage: Storage, plugin: str, number: int, step: str) -> None:
    async with storage.transaction() as transaction:
        if await _count_applied(transaction, plugin) >= number:
            return  # another process was faster
        for statement in split(step):
            await transaction.execute(statement)
        row = (plugin, number, int(time.time()))
        await transaction.execute("INSERT INTO migrations VALUES (?, ?, ?)", row)


async def _count_applied(where: Storage | Transaction, plugin: str) -> int:
    sql = "SELECT COALESCE(MAX(step), 0) AS step FROM migrations WHERE plugin = ?"
    row = await where.fetch_one(sql, (plugin,))
    return int(row["step"]) if row else 0


def split(script: str) -> Iterator[str]:
    """Split a script at the semicolons that end a statement, not at those in texts and triggers."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip("; \r\n\t"):
                yield statement
            statement = ""
    if statement.strip("; \r\n\t"):
        yield statement
