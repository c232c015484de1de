"""What a start makes of the journal of a former run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from raven_meter.catalogue import load_packaged
from raven_meter.exchanges import COLUMNS, migrate
from raven_meter.journal import Journal
from raven_meter.records import finished, recover
from raven_meter.tariffs import Tariffs

from raven_proxy.storage import SQLiteStorage

_ROW: tuple[Any, ...] = (
    1, "req_1", 1_700_000_000, "key_a", "org_a", "chat", "m", "u", "m", 200, "completed", 0,
    10, 5, 0, 0, 15, 0, 1, 3.5, None, "stop", None, 7, 1, 0, "mem_a",
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "member"),
    [(_ROW, "mem_a"), (_ROW[:-1], None), ((*_ROW, "a column of tomorrow"), "mem_a")],
    ids=["this version's", "an older version's", "a newer version's"],
)
async def test_a_row_of_another_version_is_booked_too(
    tmp_path: Path, row: tuple[Any, ...], member: str | None
) -> None:
    assert len(_ROW) == len(COLUMNS)
    former = Journal(tmp_path / "journal")
    former.append(finished(row))
    former.close()
    storage = await SQLiteStorage.open(tmp_path / "raven.db")
    try:
        ids = await migrate(storage)
        journal = Journal(tmp_path / "journal")
        assert await recover(journal, storage, ids, Tariffs(load_packaged(), {})) == (1, 0)
        journal.close()
        [entry] = await storage.fetch_all("SELECT reference, at, amount_nano, member_id FROM entries")
    finally:
        await storage.close()
    assert entry == {"reference": "req_1", "at": 1_700_000_000, "amount_nano": 7, "member_id": member}


async def test_a_row_is_charged_once(tmp_path: Path) -> None:
    """Written by the gateway and found in the journal again: one row and one entry."""
    storage = await SQLiteStorage.open(tmp_path / "raven.db")
    try:
        ids = await migrate(storage)
        for _ in range(2):
            former = Journal(tmp_path / "journal")
            former.append(finished(_ROW))
            former.close()
            journal = Journal(tmp_path / "journal")
            await recover(journal, storage, ids, Tariffs(load_packaged(), {}))
            journal.close()
        counts = await storage.fetch_all(
            "SELECT (SELECT COUNT(*) FROM exchanges) AS rows, (SELECT COUNT(*) FROM entries) AS entries"
        )
    finally:
        await storage.close()
    assert counts == [{"rows": 1, "entries": 1}]
