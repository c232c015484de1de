"""Counting days: exact over midnight and over failures, in memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from raven_alerts import tallies
from raven_alerts.register import migrate
from raven_alerts.tallies import Tallies, day_of

from raven_proxy.counters import LocalCounters
from raven_proxy.errors import GatewayError
from raven_proxy.storage import SQLiteStorage


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLiteStorage]:
    opened = await SQLiteStorage.open(tmp_path / "raven.db")
    await migrate(opened)
    yield opened
    await opened.close()


async def test_an_exchange_belongs_to_the_day_of_its_admission(
    storage: SQLiteStorage, monkeypatch: Any
) -> None:
    """Over midnight; what lies before yesterday is dropped from memory, counters and table."""
    counters = LocalCounters()
    held = Tallies(storage, counters)
    midnight = 1_750_032_000.0  # 2025-06-16T00:00:00Z
    now = midnight - 1
    monkeypatch.setattr(tallies.time, "time", lambda: now)
    held.add(midnight - 1, "mock", "org_a", 1, 10, 100)
    await held.tell()
    now = midnight + 1
    held.add(midnight - 1, "mock", "org_a", 1, 10, 100)
    held.add(midnight + 1, "mock", "org_a", 1, 1, 1)
    await held.tell()
    assert [t.amount("tokens") for t in held.of_today()] == [1, 1]
    assert await counters.used("alerts:2025-06-15:mock:requests:all") == 2
    await storage.flush()
    before = len(counters)
    now += 2 * 86_400
    held.add(now, "mock", "org_a", 1, 1, 1)
    await held.tell()
    assert len(counters) == before - 6  # one day came, two went
    assert len(held._days) == 1
    await storage.flush()
    rows = await storage.fetch_all("SELECT day FROM alert_subjects")
    assert [row["day"] for row in rows] == ["2025-06-18"]


async def test_counts_that_cannot_be_told_are_kept(storage: SQLiteStorage) -> None:
    """A store that is busy loses nothing, and nothing is counted twice."""

    class Busy(LocalCounters):
        failures = 3

        async def settle(self, key: str, held: int, actual: int) -> None:
            if self.failures:
                self.failures -= 1
                raise GatewayError("busy", status=503)
            await super().settle(key, held, actual)

    counters = Busy()
    held = Tallies(storage, counters)
    held.add(time.time(), "mock", "org_a", 1, 10, 100)
    for _ in range(3):
        with pytest.raises(GatewayError):
            await held.tell()
        assert [t.amount("tokens") for t in held.of_today()] == [10, 10]
    await held.tell()
    assert [t.amount("cost") for t in held.of_today()] == [100, 100]
    assert await counters.used(f"alerts:{day_of(time.time())}:mock:cost:org:org_a") == 100


async def test_memory_is_bounded(storage: SQLiteStorage, monkeypatch: Any) -> None:
    """Organisations beyond the cap count for everybody, and take no room."""
    monkeypatch.setattr(tallies, "_MAX_TALLIES", 10)
    held = Tallies(storage, LocalCounters())
    for number in range(100):
        held.add(time.time(), "mock", f"org_{number}", 1, 1, 1)
    await held.tell()
    assert len(held.of_today()) == 10
    assert held.of_today()[0].amount("requests") == 100
