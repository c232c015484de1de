"""The table: who takes a key, for how long, and how much is kept in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from raven_idempotency import entries as module
from raven_idempotency.entries import MIGRATIONS, Entries, State
from raven_idempotency.identity import Identity

from raven_proxy.storage import SQLiteStorage

ONE = Identity("one", "asked")
TWO = Identity("two", "asked")


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
async def storages(tmp_path: Path) -> AsyncIterator[list[SQLiteStorage]]:
    """Two workers' connections to one database."""
    opened = [await SQLiteStorage.open(tmp_path / "raven.db") for _ in range(2)]
    for storage in opened:
        await storage.migrate("idempotency", MIGRATIONS)
    yield opened
    for storage in opened:
        await storage.close()


def entries_of(storage: SQLiteStorage, **settings: Any) -> Entries:
    return Entries(storage, **{"lease_s": 30, "keep_s": 100, "max_total_bytes": 1000} | settings)


async def kept_bytes(storage: SQLiteStorage) -> tuple[int, int]:
    """What the books say is kept, and what really is."""
    row = await storage.fetch_one(
        "SELECT (SELECT bytes FROM idempotency_space) AS said, COALESCE(SUM(LENGTH(reply)), 0) AS held"
        " FROM idempotency"
    )
    assert row is not None
    return row["said"], row["held"]


async def test_of_fifty_at_once_in_two_workers_one_takes_the_key(storages: Any) -> None:
    """Whatever the order: one runs, the others see that it does."""
    workers = [entries_of(storage) for storage in storages]
    results = await asyncio.gather(*(workers[n % 2].take(ONE, f"req_{n}") for n in range(50)))
    winners = [n for n, result in enumerate(results) if result is None]
    assert len(winners) == 1
    assert {r.request_id for r in results if r is not None} == {f"req_{winners[0]}"}
    assert all(r is None or r.state is State.RUNNING for r in results)


async def test_a_lease_that_is_not_renewed_ends(storages: Any, clock: Clock) -> None:
    """A dead worker's key is free after `lease_s`; a living one's stays taken as long as it is renewed."""
    dead, living = (entries_of(storage) for storage in storages)
    assert await dead.take(ONE, "req_dead") is None
    assert await living.take(TWO, "req_living") is None
    for _ in range(5):
        clock.now += 20
        await living.renew({"req_living": TWO.id})
    assert await dead.take(TWO, "req_next") is not None
    assert await living.take(ONE, "req_next") is None


async def test_who_lost_the_lease_changes_nothing_any_more(storages: Any, clock: Clock) -> None:
    """The late one can neither keep, renew nor release what another has taken over."""
    late, next_one = (entries_of(storage) for storage in storages)
    assert await late.take(ONE, "req_late") is None
    clock.now += 31
    assert await next_one.take(ONE, "req_next") is None
    await late.keep(ONE, "req_late", b"late")
    await late.renew({"req_late": ONE.id})
    await late.release(ONE, "req_late")
    assert await kept_bytes(storages[0]) == (0, 0)
    assert await next_one.keep(ONE, "req_next", b"next") is State.KEPT
    found = await late.take(ONE, "req_again")
    assert found is not None
    assert (found.request_id, found.state, found.reply) == ("req_next", State.KEPT, b"next")


async def test_a_kept_reply_is_gone_after_its_time(storages: Any, clock: Clock) -> None:
    """Void at once, deleted by the next sweep, and its bytes are given back."""
    one, other = (entries_of(storage) for storage in storages)
    assert await one.take(ONE, "req_1") is None
    await one.keep(ONE, "req_1", b"x" * 10)
    clock.now += 99
    assert await other.take(ONE, "req_2") is not None
    await other.sweep()
    assert await kept_bytes(storages[0]) == (10, 10)
    clock.now += 2
    await other.sweep()
    assert await kept_bytes(storages[0]) == (0, 0)
    assert await storages[0].fetch_all("SELECT id FROM idempotency") == []
    assert await one.take(ONE, "req_3") is None


async def test_taking_a_void_key_over_gives_its_bytes_back(storages: Any, clock: Clock) -> None:
    """Without waiting for a sweep."""
    entries = entries_of(storages[0])
    assert await entries.take(ONE, "req_1") is None
    await entries.keep(ONE, "req_1", b"x" * 10)
    clock.now += 101
    assert await entries.take(ONE, "req_2") is None
    assert await kept_bytes(storages[0]) == (0, 0)


async def test_all_replies_together_stay_under_the_limit(storages: Any, clock: Clock) -> None:
    """What does not fit is not kept, and is known to be so; what is there stays."""
    entries = entries_of(storages[0], max_total_bytes=25)
    states = []
    for n in range(4):
        identity = Identity(str(n), "asked")
        assert await entries.take(identity, f"req_{n}") is None
        states.append(await entries.keep(identity, f"req_{n}", b"x" * 10))
    assert states == [State.KEPT, State.KEPT, State.NO_ROOM, State.NO_ROOM]
    assert await kept_bytes(storages[0]) == (20, 20)
    found = await entries.take(Identity("3", "asked"), "req_again")
    assert found is not None
    assert (found.state, found.reply) == (State.NO_ROOM, None)


async def test_a_sweep_takes_any_number_of_rows(storages: Any, clock: Clock) -> None:
    """In steps, so that nobody waits long for the write lock."""
    entries = entries_of(storages[0])
    for n in range(1234):
        await storages[0].execute(
            "INSERT INTO idempotency (id, fingerprint, request_id, state, valid_until, size)"
            " VALUES (?, '', '', 'running', 1, 0)",
            (str(n),),
        )
    await entries.sweep()
    assert await storages[0].fetch_all("SELECT id FROM idempotency") == []
