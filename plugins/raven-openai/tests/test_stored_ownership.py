"""Each stored thing has one owner, who is known at once in this process and soon in every other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from raven_openai.stored import ownership as module
from raven_openai.stored.ownership import Ownership

from raven_proxy.storage import SQLiteStorage


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLiteStorage]:
    opened = await SQLiteStorage.open(tmp_path / "raven.db")
    yield opened
    await opened.close()


async def test_an_owner_is_known_at_once_and_after_a_restart(storage: SQLiteStorage) -> None:
    here = await Ownership.open(storage)
    here.note("file", "file-1", "main", "org_a")
    assert await here.owner_of("file", "file-1") == ("main", "org_a")
    assert await here.owner_of("batch", "file-1") is None
    await storage.flush()
    assert await (await Ownership.open(storage)).owner_of("file", "file-1") == ("main", "org_a")


async def test_an_id_stays_its_first_owners_until_it_is_deleted(storage: SQLiteStorage) -> None:
    first, second = await Ownership.open(storage), await Ownership.open(storage)
    first.note("file", "file-1", "main", "org_a")
    first.note("file", "file-1", "other", "org_b")
    await storage.flush()
    second.note("file", "file-1", "main", "org_b")
    await storage.flush()
    assert await (await Ownership.open(storage)).owner_of("file", "file-1") == ("main", "org_a")
    first.forget("file", "file-1")
    first.note("file", "file-1", "main", "org_c")
    await storage.flush()
    assert await (await Ownership.open(storage)).owner_of("file", "file-1") == ("main", "org_c")


@pytest.mark.parametrize("flushes", [True, False])
async def test_what_was_deleted_is_forgotten_at_once(storage: SQLiteStorage, flushes: bool) -> None:
    owners = await Ownership.open(storage)
    owners.note("file", "file-1", "main", "org_a")
    if flushes:
        await storage.flush()
    owners.forget("file", "file-1")
    assert await owners.owner_of("file", "file-1") is None
    assert await owners.ids_of("file", "main", "org_a") == frozenset()
    await storage.flush()
    assert await (await Ownership.open(storage)).owner_of("file", "file-1") is None
    assert await storage.fetch_all("SELECT id FROM openai_objects") == []


async def test_a_list_holds_what_is_written_and_what_is_still_to_be(storage: SQLiteStorage) -> None:
    owners = await Ownership.open(storage)
    owners.note("file", "file-1", "main", "org_a")
    await storage.flush()
    for number, upstream, organization in [
        ("2", "main", "org_a"),
        ("3", "main", "org_b"),
        ("4", "x", "org_a"),
    ]:
        owners.note("file", f"file-{number}", upstream, organization)
    owners.note("batch", "batch-5", "main", "org_a")
    assert await owners.ids_of("file", "main", "org_a") == {"file-1", "file-2"}
    await storage.flush()
    assert await (await Ownership.open(storage)).ids_of("file", "main", "org_a") == {"file-1", "file-2"}


async def test_memory_is_bounded_and_forgets_nothing_that_is_written(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    owners = await Ownership.open(storage)
    for number in range(50):
        owners.note("file", f"file-{number}", "main", "org_a")
    assert len(owners._recent) == 10
    await storage.flush()
    assert await owners.owner_of("file", "file-0") == ("main", "org_a")


@pytest.mark.parametrize("id", ["", "x" * 513])
async def test_what_is_no_id_is_nobodys(storage: SQLiteStorage, id: str) -> None:
    owners = await Ownership.open(storage)
    owners.note("file", id, "main", "org_a")
    owners.forget("file", id)
    assert await owners.owner_of("file", id) is None
    await storage.flush()
    assert await storage.fetch_all("SELECT id FROM openai_objects") == []


async def test_what_another_process_noted_just_now_is_waited_for(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OTHERS_WRITE_S", 0.3)
    here, other = await Ownership.open(storage, waits_for_others=True), await Ownership.open(storage)
    other.note("file", "file-1", "main", "org_a")
    assert await here.owner_of("file", "file-1") == ("main", "org_a")
    assert await here.owner_of("file", "file-2") is None
