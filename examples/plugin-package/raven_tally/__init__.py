"""The plugin `tally`: counts requests and tokens for each model, in a table of its own.

What `raven-proxy new-plugin tally` writes, grown a little: settings, a table, a hook that observes, a
route (`GET /tally`) and a command (`raven-proxy tally`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import click
import msgspec

from raven_proxy import Exchange, Face, Reply, hookimpl, read_nothing
from raven_proxy.gateway import Gateway
from raven_proxy.storage import SQLiteStorage, Storage

__all__ = ["Tally"]

MIGRATIONS = [
    # Never edit a step that is out; append another.
    "CREATE TABLE tally (model TEXT PRIMARY KEY, requests INTEGER NOT NULL)",
    "ALTER TABLE tally ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0",
]
COUNT = """INSERT INTO tally (model, requests, tokens) VALUES (?, 1, ?)
           ON CONFLICT (model) DO UPDATE SET
             requests = tally.requests + 1, tokens = tally.tokens + excluded.tokens"""
READ = "SELECT model, requests, tokens FROM tally ORDER BY requests DESC, model"


class Row(msgspec.Struct):
    """One line of the tally."""

    model: str
    requests: int
    tokens: int


class Tally:
    """Built once per start and per reload, with its config."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.tally]`. Models that match a pattern of `ignore` are not counted."""

        ignore: tuple[str, ...] = ()

    def __init__(self, config: Config) -> None:
        self._ignore = config.ignore
        self._storage: Storage

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Bring the table up to date before the first request."""
        self._storage = gateway.storage
        await gateway.storage.migrate("tally", MIGRATIONS)

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Count what went through. The client has its reply already; the write may wait."""
        model = exchange.model
        if model is None or exchange.usage is None:
            return
        if not any(fnmatchcase(model, pattern) for pattern in self._ignore):
            self._storage.write_behind(COUNT, (model, exchange.usage.total_tokens))

    @hookimpl
    def register_routes(self, register: Callable[[Face], None]) -> None:
        """Offer `GET /tally` to keys with the scope usage:read."""
        register(
            Face(
                name="tally",
                path="/tally",
                methods=("GET",),
                scope="usage:read",
                read_call=read_nothing,
                json_body=False,
                serve=self._serve,
            )
        )

    @hookimpl
    def register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Add `raven-proxy tally`."""
        register(show_tally)

    async def _serve(self, exchange: Exchange) -> Reply:
        del exchange  # whoever may ask sees every model
        await self._storage.flush()  # what is counted but not written yet
        body = msgspec.json.encode(await read_rows(self._storage))
        return Reply(200, {"Content-Type": "application/json"}, body)


async def read_rows(storage: Storage) -> list[Row]:
    """Read the tally, the most used model first."""
    return msgspec.convert(await storage.fetch_all(READ), list[Row])


@click.command("tally")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
def show_tally(data_dir: Path) -> None:
    """Print how often each model was used, and the tokens it took."""
    for row in asyncio.run(_read_file(data_dir / "raven.db")):
        click.echo(f"{row.requests:>8}  {row.tokens:>12}  {row.model}")


async def _read_file(path: Path) -> list[Row]:
    if not path.is_file():
        raise click.ClickException(f"there is no database at {path}; is --data-dir right?")
    storage = await SQLiteStorage.open(path)
    try:
        await storage.migrate("tally", MIGRATIONS)
        return await read_rows(storage)
    finally:
        await storage.close()
