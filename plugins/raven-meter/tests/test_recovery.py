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


_ADMITTED: dict[str, Any] = {
    "k": "a", "i": "req_1", "t": 1_700_000_000, "key": "key_a", "org": "org_a", "member": None, "rate": "1",
    "face": "openai-chat", "model": "gpt-4o-mini", "upstream": "first", "preset": "openai",
    "upstream_model": "gpt-4o-mini", "prompt": 400, "stream": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("records", "completion", "nano"),
    [
        ([_ADMITTED], 0, 0),
        ([_ADMITTED, {"k": "p", "i": "req_1", "b": 64_000, "w": 400}], 100, 105_000),
        ([_ADMITTED, {"k": "p", "i": "req_1", "b": 64_000, "w": None}], 1000, 645_000),
        ([_ADMITTED | {"stream": False}, {"k": "p", "i": "req_1", "b": 900, "w": 5}], 100, 105_000),
        (
            [
                _ADMITTED,
                {"k": "p", "i": "req_1", "b": 64_000, "w": 400},
                _ADMITTED | {"upstream": "second", "upstream_model": "gpt-4o"},
                {"k": "p", "i": "req_1", "b": 6_400, "w": 40},
            ],
            10,
            850_000,
        ),
    ],
    ids=["nothing came", "words were counted", "bytes alone", "a whole reply", "a second attempt"],
)
async def test_what_a_crash_cut_is_billed_by_what_was_seen_of_it(
    tmp_path: Path, records: list[dict[str, Any]], completion: int, nano: int
) -> None:
    """By the model's words where they were counted, at the prices of the attempt that was under way."""
    former = Journal(tmp_path / "journal")
    for record in records:
        former.append(record)
    former.close()
    storage = await SQLiteStorage.open(tmp_path / "raven.db")
    try:
        ids = await migrate(storage)
        journal = Journal(tmp_path / "journal")
        assert await recover(journal, storage, ids, Tariffs(load_packaged(), {})) == (0, 1)
        journal.close()
        [row] = await storage.fetch_all(
            "SELECT provider, prompt_tokens, completion_tokens, cost_nano, estimated FROM exchanges"
        )
    finally:
        await storage.close()
    assert row == {
        "provider": records[-2 if len(records) > 2 else 0]["upstream"],
        "prompt_tokens": 300 if completion else 0,
        "completion_tokens": completion,
        "cost_nano": nano,
        "estimated": 1,
    }


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
