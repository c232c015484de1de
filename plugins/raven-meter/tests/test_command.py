"""`raven-proxy reconcile`: the books of a stopped gateway, added up twice; status 1 where they differ."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from raven_meter.budgets import BudgetStore, NewBudget
from raven_meter.command import reconcile

from raven_proxy import Principal

from .teller import Teller, exchange_of, finish, tokens

CALLERS = [
    Principal(key_id="key_1", organization_id="org_a", attributes={"member_id": "mem_1"}),
    Principal(key_id="key_2", organization_id="org_b"),
]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Data of a gateway that served six requests and stopped."""
    (tmp_path / "catalog.json").write_bytes(msgspec.json.encode({"m-1": {"input": "1000", "output": "2000"}}))
    teller = Teller(tmp_path)
    await teller.open()
    store = BudgetStore(teller.storage)
    await store.create(NewBudget(name="members", limit="9", scope="member", target_id="mem_1"), "org_a")
    await store.create(NewBudget(name="all", limit="9", period="total"), "org_a")
    await store.create(NewBudget(name="another", limit="9", scope="key", target_id="key_9"), "org_b")
    for number in range(6):
        exchange = exchange_of(f"req_{number}", CALLERS[number % 2], "m-1")
        await teller.meter.check_request(exchange)
        exchange.candidate = exchange.candidates[0]
        await teller.meter.before_send(exchange)
        finish(exchange, tokens(10, 5))
        teller.meter.settle_exchange(exchange)
    await teller.close()
    return tmp_path


def run(folder: Path) -> Result:
    return CliRunner().invoke(reconcile, ["--data-dir", str(folder)])


def lines(result: Result) -> dict[str, list[str]]:
    table = [line.split("  ") for line in result.output.splitlines()[1:] if "  " in line]
    return {name: [cell.strip() for cell in cells if cell.strip()] for name, *cells in table}


def test_books_that_agree_are_an_exit_status_of_0(folder: Path) -> None:
    """Every organisation and budget is shown with what was spent."""
    result = run(folder)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "ok: the books agree"), result.output
    assert lines(result) == {
        "organization org_a": ["0.06", "0.06", "0"],
        "organization org_b": ["0.06", "0.06", "0"],
        "budget members (monthly, org_a)": ["0.06", "0.06", "0"],
        "budget all (total, org_a)": ["0.06", "0.06", "0"],
        "budget another (monthly, org_b)": ["0", "0", "0"],
    }


@pytest.mark.parametrize(
    ("sql", "drift"),
    [
        ("UPDATE exchanges SET cost_nano = cost_nano - 5 WHERE request_id = 'req_0'", "0.000000005"),
        ("DELETE FROM exchanges WHERE request_id = 'req_2'", "0.02"),
        (
            """INSERT INTO entries
                 (reference, kind, at, debit, credit, amount_nano, organization_id, member_id)
               VALUES ('req_x', 'charge', {now}, 'org:org_a', 'revenue', 7, 'org_a', 'mem_1')""",
            "0.000000007",
        ),
    ],
)
def test_a_drift_is_shown_and_is_an_exit_status_of_1(folder: Path, sql: str, drift: str) -> None:
    """To the nano-dollar, for the organisation and for each budget that it touches, and for no other."""
    database = sqlite3.connect(folder / "raven.db")
    database.execute(sql.format(now=int(time.time())))
    database.commit()
    database.close()
    result = run(folder)
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, "3 of 5 differ"), result.output
    drifts = {name: cells[2] for name, cells in lines(result).items()}
    assert drifts == {
        "organization org_a": drift,
        "organization org_b": "0",
        "budget members (monthly, org_a)": drift,
        "budget all (total, org_a)": drift,
        "budget another (monthly, org_b)": "0",
    }


async def test_what_waits_in_the_journal_is_said(tmp_path: Path) -> None:
    """After a crash; nothing is booked by looking."""
    teller = Teller(tmp_path, allow_unpriced=True)
    await teller.open()
    exchange = exchange_of("req_1", CALLERS[0], "nobody-7")
    await teller.meter.check_request(exchange)
    await teller.meter.before_send(exchange)
    await teller.die()
    before = [path.read_bytes() for path in (tmp_path / "journal").iterdir()]
    result = await asyncio.to_thread(run, tmp_path)
    assert result.exit_code == 0
    assert "1 records wait in the journal" in result.output
    assert [path.read_bytes() for path in (tmp_path / "journal").iterdir()] == before


def test_a_folder_without_a_database_is_said_so(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "no database" in result.output
    assert list(tmp_path.iterdir()) == []
