"""Limits hold exactly, whoever counts: never more than the limit in any window, and waits that are honest."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven_proxy import counters, shared_counters
from raven_proxy.counters import Claim, Counters, Denial, LocalCounters
from raven_proxy.errors import GatewayError
from raven_proxy.shared_counters import SharedCounters


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(counters.time, "monotonic", clock)
    monkeypatch.setattr(shared_counters.time, "time", clock)
    return clock


@pytest.fixture(params=["local", "shared"])
def counting(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Counters]:
    if request.param == "local":
        yield LocalCounters()
        return
    shared = SharedCounters(tmp_path / "counters.db")
    yield shared
    shared.close()


def minute(amount: int = 1, limit: int = 60, key: str = "k") -> Claim:
    return Claim(key, amount, limit, 60)


async def test_t89_two_hundred_at_once(counting: Counters, clock: Clock) -> None:
    """Exactly 60 of a limit of 60; after the wait that the denial names, one more is admitted."""
    denials = [await counting.take([minute()]) for _ in range(200)]
    assert denials.count(None) == 60
    denied = denials[-1]
    assert denied is not None
    assert denied.retry_after_s is not None
    assert 59 < denied.retry_after_s <= 62
    clock.now += denied.retry_after_s - 2
    assert await counting.take([minute()]) is not None
    clock.now += 2
    assert await counting.take([minute()]) is None


async def test_totals_of_a_time_that_is_over_are_dropped(counting: Counters) -> None:
    """What was forgotten counts as nothing; holds and other totals stay."""
    for key in ("old", "new"):
        await counting.settle([key], 0, 7)
        await counting.take([Claim(key, 5, 100)])
    await counting.forget(["old", "never"])
    assert [(await counting.used(key), await counting.held(key)) for key in ("old", "new")] == [
        (5, 5),
        (12, 5),
    ]


async def test_no_window_ever_holds_more_than_its_limit(counting: Counters, clock: Clock) -> None:
    """By simulation: whatever the times, in no 60 seconds are more than the limit admitted; nor far fewer."""
    chance = random.Random(7)
    admitted: list[float] = []
    for _ in range(3000):
        clock.now += chance.choice([0.0, 0.01, 0.3, 2.0])
        if await counting.take([minute(limit=25)]) is None:
            admitted.append(clock.now)
    for start in admitted:
        assert sum(start <= moment <= start + 60 for moment in admitted) <= 25
    minutes = (admitted[-1] - admitted[0]) / 60
    assert len(admitted) >= 25 * minutes * 0.9


async def test_all_or_nothing(counting: Counters) -> None:
    """The claim that was too much is named, and nothing of the others was taken."""
    claims = [minute(5, 10, "a"), Claim("b", 3, 2), minute(1, 10, "c")]
    denial = await counting.take(claims)
    assert denial == Denial(claims[1], 0, None)
    assert [await counting.used("a", 60), await counting.used("b"), await counting.used("c", 60)] == [0, 0, 0]


async def test_what_can_never_be_taken_names_no_wait(counting: Counters) -> None:
    denial = await counting.take([minute(61)])
    assert denial is not None
    assert denial.retry_after_s is None


async def test_a_hold_counts_until_it_is_settled(counting: Counters) -> None:
    """What it came to stays for good; the rest is given back."""
    assert await counting.take([Claim("money", 60, 100)]) is None
    denial = await counting.take([Claim("money", 60, 100)])
    assert denial is not None
    assert (denial.used, denial.retry_after_s) == (60, None)
    await counting.settle(["money"], 60, 25)
    assert (await counting.used("money"), await counting.held("money")) == (25, 0)
    assert await counting.take([Claim("money", 75, 100)]) is None
    assert (await counting.used("money"), await counting.held("money")) == (100, 75)


async def test_slots_are_given_back_whole(counting: Counters) -> None:
    """Concurrency: as many at once as the limit, any number one after the other."""
    for _ in range(50):
        assert await counting.take([Claim("slots", 1, 2)]) is None
        assert await counting.take([Claim("slots", 1, 2)]) is None
        assert await counting.take([Claim("slots", 1, 2)]) is not None
        await counting.settle(["slots"], 1, 0)
        await counting.settle(["slots"], 1, 0)
    assert await counting.used("slots") == 0


async def test_tokens_are_corrected_up_and_down(counting: Counters, clock: Clock) -> None:
    assert await counting.take([minute(50, 100)]) is None
    await counting.correct("k", 60, -30)
    assert await counting.used("k", 60) == 20
    await counting.correct("k", 60, 90)
    assert await counting.used("k", 60) == 110
    await counting.correct("k", 60, -1000)
    assert await counting.used("k", 60) == 0
    clock.now += 200
    await counting.correct("k", 60, -5)
    assert await counting.used("k", 60) == 0


async def test_what_is_given_back_never_opens_a_later_window(counting: Counters, clock: Clock) -> None:
    """What was taken early and corrected late is not missing once the early part has passed."""
    assert await counting.take([minute(100, 100)]) is None
    clock.now += 30
    await counting.correct("k", 60, -90)
    assert await counting.take([minute(90, 100)]) is None
    clock.now += 32
    assert await counting.used("k", 60) == 90
    assert await counting.take([minute(11, 100)]) is not None
    assert await counting.take([minute(10, 100)]) is None


async def test_a_denial_names_the_longest_wait(counting: Counters, clock: Clock) -> None:
    """Of several claims that are too much, the one whose wait is enough for all of them."""
    assert await counting.take([minute(60, key="a")]) is None
    clock.now += 20
    assert await counting.take([minute(60, key="b")]) is None
    claims = [Claim("slot", 2, 1), minute(key="a"), minute(key="b"), minute(key="c")]
    denial = await counting.take(claims)
    assert denial is not None
    assert denial.claim == claims[2]
    assert denial.retry_after_s is not None
    clock.now += denial.retry_after_s
    assert await counting.take(claims[1:]) is None


async def test_totals_are_loaded_from_the_books(counting: Counters) -> None:
    assert await counting.take([Claim("money", 5, 100)]) is None
    await counting.load({"money": 90})
    assert (await counting.used("money"), await counting.held("money")) == (95, 5)
    await counting.load({"money": 10})
    assert await counting.used("money") == 15
    await counting.load({"money": 70, "other": 3}, keep=True)
    assert (await counting.used("money"), await counting.used("other")) == (15, 3)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_holds_and_totals_never_get_out_of_step(steps: list[tuple[int, int, int]]) -> None:
    """Against a plain model: total plus holds never over the limit by a take, and nothing left at the end."""

    async def run() -> None:
        counting = LocalCounters()
        open_holds: list[int] = []
        total = 0
        for what, amount, actual in steps:
            if what < 2:
                fits = total + sum(open_holds) + amount <= 100
                assert (await counting.take([Claim("m", amount, 100)]) is None) == fits
                if fits:
                    open_holds.append(amount)
            elif open_holds:
                held = open_holds.pop(actual % len(open_holds))
                await counting.settle(["m"], held, actual)
                total += actual
            assert await counting.used("m") == total + sum(open_holds)
            assert await counting.held("m") == sum(open_holds)
        for held in open_holds:
            await counting.settle(["m"], held, 0)
        assert await counting.held("m") == 0

    asyncio.run(run())


async def test_what_is_denied_or_given_back_leaves_no_memory_behind() -> None:
    """No account of a key that nothing is held of, unless its total is known."""
    counting = LocalCounters()
    assert await counting.take([Claim("a", 1, 1), Claim("b", 2, 1)]) is not None
    assert len(counting) == 0
    assert await counting.take([Claim("a", 1, 1)]) is None
    await counting.settle(["a"], 1, 0)
    assert len(counting) == 0
    await counting.load({"a": 0})
    assert await counting.take([Claim("a", 2, 1)]) is not None
    assert (len(counting), await counting.missing(["a", "b"])) == (1, ["b"])


async def test_what_was_taken_in_the_slice_of_now_is_taken_back_last(clock: Clock) -> None:
    """Amounts of the slice of now are kept apart from those of former ones: both count, and pass in turn."""
    counting = LocalCounters()
    assert await counting.take([minute(5)]) is None
    clock.now += 10
    assert await counting.take([minute(7)]) is None
    await counting.correct("k", 60, -6)
    assert await counting.used("k", 60) == 6
    clock.now += 52
    assert await counting.used("k", 60) == 6  # all that is left is of the later slice
    clock.now += 10
    assert await counting.used("k", 60) == 0


async def test_a_million_keys_leave_no_memory_behind(clock: Clock) -> None:
    """Windows that are over are dropped while others are counted."""
    counting = LocalCounters()
    for number in range(1_000_000):
        if number % 1000 == 0:
            clock.now += 1.0
        await counting.take([minute(key=f"key-{number}")])
    assert len(counting) < 200_000
    clock.now += 1000
    for _ in range(200_000):
        await counting.take([minute(limit=10**9, key="one")])
    assert len(counting) == 1


# -- several processes ---------------------------------------------------------------


def _hammer(path: str, times: int) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        counting = SharedCounters(Path(path))
        admitted = held = 0
        for _ in range(times):
            admitted += await counting.take([Claim("rate", 1, 100, 3600)]) is None
            if await counting.take([Claim("money", 7, 1000)]) is None:
                held += 7
                await counting.settle(["money"], 7, 7)
        counting.close()
        return admitted, held

    return asyncio.run(run())


def test_t68_four_processes_share_one_limit(tmp_path: Path) -> None:
    """Together they admit exactly what the limits allow."""
    path = str(tmp_path / "counters.db")
    present = SharedCounters(Path(path))  # were nobody there between two of them, the totals would go
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_hammer, [path] * 4, [200] * 4))
    present.close()
    assert sum(admitted for admitted, _ in results) == 100
    assert sum(held for _, held in results) == 142 * 7


def _hold_and_die(path: str) -> None:
    async def run() -> None:
        counting = SharedCounters(Path(path))
        await counting.take([Claim("money", 50, 100)])
        await counting.settle(["money"], 10, 4)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(run())


async def test_what_a_dead_process_held_is_given_back(tmp_path: Path) -> None:
    """By the next that opens the file; what the living hold and what was settled stays."""
    path = tmp_path / "counters.db"
    alive = SharedCounters(path)
    assert await alive.take([Claim("money", 20, 100)]) is None
    victim = get_context("spawn").Process(target=_hold_and_die, args=(str(path),))
    victim.start()
    await asyncio.to_thread(victim.join)
    assert (await alive.used("money"), await alive.held("money")) == (64, 60)
    successor = SharedCounters(path)
    assert (await successor.used("money"), await successor.held("money")) == (24, 20)
    alive.close()
    assert (await successor.used("money"), await successor.held("money")) == (4, 0)
    successor.close()
    alone = SharedCounters(path)  # whoever comes first asks the books
    assert await alone.used("money") == 0
    alone.close()


async def test_a_file_that_cannot_be_written_admits_nobody(
    tmp_path: Path, make_lock: Callable[[Path], Any]
) -> None:
    """503 within the time that others are waited for."""
    path = tmp_path / "counters.db"
    counting = SharedCounters(path)
    lock = make_lock(path)
    with pytest.raises(GatewayError) as caught:
        await counting.take([Claim("money", 1, 100)])
    assert caught.value.status == 503
    lock.execute("ROLLBACK")
    assert await counting.take([Claim("money", 1, 100)]) is None
    counting.close()


@pytest.fixture
def make_lock() -> Iterator[Callable[[Path], Any]]:
    import sqlite3

    opened: list[sqlite3.Connection] = []

    def make(path: Path) -> sqlite3.Connection:
        lock = sqlite3.connect(path, isolation_level=None)
        opened.append(lock)
        lock.execute("BEGIN IMMEDIATE")
        return lock

    yield make
    for lock in opened:
        lock.close()


async def test_a_commit_that_fails_is_undone(tmp_path: Path) -> None:
    """A full disk: a transaction that stayed open would let every later step fail."""
    counting = SharedCounters(tmp_path / "counters.db")
    counting._db.execute("PRAGMA foreign_keys = ON")
    counting._db.execute("CREATE TABLE strict (one REFERENCES windows DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(GatewayError), counting._step() as db:
        db.execute("INSERT INTO strict VALUES (1)")  # found out by the commit
    assert await counting.take([Claim("money", 1, 100)]) is None
    counting.close()
