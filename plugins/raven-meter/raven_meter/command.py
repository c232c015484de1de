"""The command `raven-proxy reconcile`: recompute the money from the books of a gateway that is stopped.

It adds up what the entries of the ledger and the rows of the exchanges say, each for itself, and prints
where they differ. It books nothing: the counters of a running gateway are `POST /credits/reconcile`'s.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click
import msgspec

from raven_proxy import ConfigError
from raven_proxy.config import Config, load
from raven_proxy.storage import SQLiteStorage, Storage

from . import ledger
from .budgets import BudgetStore
from .exchanges import MIGRATIONS
from .pricing import dollars
from .segment import Segment, read_records

__all__ = ["Finding", "audit", "reconcile"]


class Finding(msgspec.Struct, frozen=True):
    """One organisation's or one budget's spend in nano-dollars, by the ledger and by the exchanges."""

    name: str
    by_entries: int
    by_exchanges: int

    @property
    def drift(self) -> int:
        """Give what the ledger has too much (or, below 0, too little)."""
        return self.by_entries - self.by_exchanges


@click.command(short_help="Say where ledger and exchanges differ.")
@click.option(
    "--config", "config_path", envvar="RAVEN_CONFIG", type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file that names the data folder. [env: RAVEN_CONFIG]",
)  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the database.")
def reconcile(config_path: Path | None, data_dir: Path | None) -> None:
    """Recompute what was spent, and say where ledger and exchanges differ (exit status 1).

    For a gateway that is stopped. What a crash left in the journal comes into the database at the next
    start; until then it is only counted here.
    """
    try:
        config = load(config_path, upstreams=(), models=()) if config_path else Config()
        folder = data_dir or Path(config.data_dir)
        if not (folder / "raven.db").is_file():
            raise ConfigError(f"there is no database in {folder}")
        findings, waiting = asyncio.run(_look(folder))
    except ConfigError as error:
        click.echo(f"raven-proxy: {error}", err=True)
        sys.exit(2)
    width = max(len(one.name) for one in [*findings, Finding("what", 0, 0)])
    click.echo(f"{'what':<{width}}  {'ledger':>16}  {'exchanges':>16}  {'drift':>16}")
    for one in findings:
        amounts = (dollars(n) for n in (one.by_entries, one.by_exchanges, one.drift))
        click.echo(f"{one.name:<{width}}  " + "  ".join(f"{amount:>16}" for amount in amounts))
    if waiting:
        click.echo(f"{waiting} records wait in the journal; the next start of the gateway books them")
    wrong = [one for one in findings if one.drift]
    click.echo(f"{len(wrong)} of {len(findings)} differ" if wrong else "ok: the books agree")
    sys.exit(1 if wrong else 0)


async def _look(folder: Path) -> tuple[list[Finding], int]:
    storage = await SQLiteStorage.open(folder / "raven.db")
    try:
        await storage.migrate("meter", MIGRATIONS)
        return await audit(storage), _count_waiting(folder / "journal")
    finally:
        await storage.close()


async def audit(storage: Storage) -> list[Finding]:
    """Compare every organisation, and every budget in the period that is now; organisations come first."""
    booked = await ledger.spent(storage)
    rows = await storage.fetch_all(
        "SELECT organization_id AS name, SUM(cost_nano) AS cost FROM exchanges "
        "WHERE organization_id IS NOT NULL GROUP BY organization_id"
    )
    used = {row["name"]: row["cost"] for row in rows if row["cost"]}
    found = [
        Finding(f"organization {name}", booked.get(name, 0), used.get(name, 0))
        for name in sorted(booked.keys() | used.keys())
    ]
    for budget in await BudgetStore(storage).list_all():
        since, until = ledger.period_of(budget.period, time.time())
        column = {"organization": "organization_id", "member": "member_id", "key": "key_id"}[budget.scope]
        sums = await ledger.spent(storage, column, budget.target_id, since, until)
        total = await storage.fetch_one(
            f"""SELECT COALESCE(SUM(x.cost_nano), 0) AS cost FROM entries e
                JOIN exchanges x ON x.request_id = e.reference
                WHERE e.kind = 'charge' AND e.{column} = ? AND e.organization_id = ?
                  AND e.at >= ? AND e.at < ?""",  # noqa: S608 - one of three names of our own
            (budget.target_id, budget.organization_id, since, until),
        )
        by_exchanges = int(total["cost"]) if total is not None else 0
        name = f"budget {budget.name} ({budget.period}, {budget.organization_id})"
        found.append(Finding(name, sums.get(budget.organization_id, 0), by_exchanges))
    return found


def _count_waiting(folder: Path) -> int:
    segments = [Segment(path, -1) for path in sorted(folder.glob("*.log"))]
    return sum(1 for segment in segments for _ in read_records(segment))
