"""Counting what must not exceed a limit: requests and tokens in a window, slots, money held and spent.

Two small implementations behind one protocol: `LocalCounters` in this process, `SharedCounters`
(`shared_counters.py`) for the workers of one machine; a plugin may bring one for many machines.

A *window* is sliding: what was taken counts for `window_s` seconds. It is kept in 64 slices, and a slice
counts until its last moment has passed, so that never more than the limit is admitted in any window, and
the wait that a denial names is enough. A *hold* counts until it is settled; what it came to then stays in
the key's *total*. Amounts are whole numbers: requests, tokens, nano-dollars.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

__all__ = ["SLICES", "Claim", "Counters", "Denial", "LocalCounters", "later"]

SLICES = 64
_SWEEP_EVERY = 4096  # claims between two looks for windows that are over


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Something to be taken: `amount` of `key`, which may come to `limit` in all.

    With `window_s` (seconds) what was taken counts for that long; with 0 it is a hold.
    """

    key: str
    amount: int
    limit: int
    window_s: int = 0


class Denial(msgspec.Struct, frozen=True):
    """The claim that could not be taken, and how much of its limit was in use.

    After `retry_after_s` all can be, if nobody takes anything else: of several that were too much it is
    the one with the longest wait. None where no waiting helps: the amount is over the limit, or it is a
    hold.
    """

    claim: Claim
    used: int
    retry_after_s: float | None


def later(first: Denial | None, second: Denial) -> Denial:
    """Give the one of two denials that asks for the longer wait; the first where none is longer."""
    if first is None or (second.retry_after_s or 0.0) > (first.retry_after_s or 0.0):
        return second
    return first


class Counters(Protocol):
    """Takes and gives back; every method is one atomic step for everybody who counts."""

    async def take(self, claims: Sequence[Claim]) -> Denial | None:
        """Take all of `claims`, or none of them and say which one was too much."""

    async def correct(self, key: str, window_s: int, difference: int) -> None:
        """Correct what was taken in a window (tokens turned out to be more, or fewer).

        More counts from now on. Less is taken from what was taken longest ago, so that no window ever
        holds less than what was used in it.
        """

    async def settle(self, keys: Sequence[str], held: int, actual: int) -> None:
        """End a hold of `held` on each of `keys`: `actual` of it goes to a key's total, the rest is free."""

    async def used(self, key: str, window_s: int = 0) -> int:
        """Say what is in use: in the window, or the key's total with all its holds."""

    async def used_of(self, claims: Sequence[Claim]) -> list[int]:
        """Say what is in use of what each claim is about, in their order."""

    async def held(self, key: str) -> int:
        """Say what is held and not settled."""

    async def load(self, totals: Mapping[str, int], *, keep: bool = False) -> None:
        """Set totals to what the books say; holds stay. With `keep`, totals that are known stay too."""

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """List those of `keys` that have no total: new ones, and after a loss of the store all."""

    async def forget(self, keys: Iterable[str]) -> None:
        """Drop totals that nobody will ask for again (a day that is over); holds stay."""


class _Window:
    """One sliding window: slices that something was taken in, oldest first. `look` before anything else."""

    __slots__ = ("current", "oldest", "slice_s", "slices", "used")

    def __init__(self, window_s: int) -> None:
        self.slice_s = window_s / SLICES
        self.slices: dict[int, int] = {}  # slice number → amount; insertion order is time's
        self.oldest = self.current = 0
        self.used = 0

    def look(self, now: float) -> int:
        """Move on to a moment, and give what is used: no slice counts a window after its last moment."""
        self.current = current = int(now / self.slice_s)
        if self.oldest < current - SLICES:
            while self.slices and (first := next(iter(self.slices))) < current - SLICES:
                self.used -= self.slices.pop(first)
            self.oldest = next(iter(self.slices), current)
        return self.used

    def add(self, amount: int) -> None:
        current = self.current
        self.slices[current] = self.slices.get(current, 0) + amount
        self.used += amount

    def take_back(self, amount: int) -> None:
        """Forget `amount` of what is used, the oldest first."""
        for number in list(self.slices):
            part = min(amount, self.slices[number])
            amount -= part
            self.used -= part
            self.slices[number] -= part
            if not self.slices[number]:
                del self.slices[number]
            if not amount:
                break

    def wait_s(self, needed: int, now: float) -> float:
        """Give the seconds until `needed` of what is used has passed."""
        for number, amount in self.slices.items():
            needed -= amount
            if needed <= 0:
                return (number + SLICES + 1) * self.slice_s - now
        return (self.current + SLICES + 1) * self.slice_s - now


class LocalCounters:
    """Counters of one process, in memory that follows the keys in use: windows that are over are dropped."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], _Window] = {}
        self._totals: dict[str, int] = {}
        self._holds: dict[str, int] = {}
        self._until_sweep = _SWEEP_EVERY
        self._now = time.monotonic

    def __len__(self) -> int:
        return len(self._windows) + len(self._totals) + len(self._holds)

    async def take(self, claims: Sequence[Claim]) -> Denial | None:
        """Take all of `claims`, or none of them and say which one was too much."""
        now = self._now()
        denied: Denial | None = None
        windows, totals, holds = self._windows, self._totals, self._holds
        found: list[_Window | None] = []
        for claim in claims:
            key, window_s = claim.key, claim.window_s
            if window_s:
                window = windows.get((key, window_s)) or self._window(key, window_s)
                used = window.look(now)
            else:
                window = None
                used = totals.get(key, 0) + holds.get(key, 0)
            found.append(window)
            if used + claim.amount > claim.limit:
                denied = later(denied, Denial(claim, used, _wait_s(claim, window, used, now)))
        if denied is not None:
            return denied
        for claim, window in zip(claims, found):  # noqa: B905 - as many, and on the way of each request
            if window is not None:
                window.add(claim.amount)
            else:
                holds[claim.key] = holds.get(claim.key, 0) + claim.amount
        self._until_sweep -= len(found)
        if self._until_sweep <= 0:
            self._sweep(now)
        return None

    async def correct(self, key: str, window_s: int, difference: int) -> None:
        """Correct what was taken in a window."""
        window = self._window(key, window_s)
        window.look(self._now())
        if difference < 0:
            window.take_back(-difference)
        elif difference:
            window.add(difference)

    async def settle(self, keys: Sequence[str], held: int, actual: int) -> None:
        """End a hold on each of `keys`."""
        holds, totals = self._holds, self._totals
        for key in keys:
            rest = holds.get(key, 0) - held
            if rest > 0:
                holds[key] = rest
            else:
                holds.pop(key, None)
            if actual:
                totals[key] = totals.get(key, 0) + actual

    async def used(self, key: str, window_s: int = 0) -> int:
        """Say what is in use."""
        return self._used(Claim(key, 0, 0, window_s), self._now())

    async def used_of(self, claims: Sequence[Claim]) -> list[int]:
        """Say what is in use of what each claim is about."""
        now = self._now()
        return [self._used(claim, now) for claim in claims]

    async def held(self, key: str) -> int:
        """Say what is held and not settled."""
        return self._holds.get(key, 0)

    async def load(self, totals: Mapping[str, int], *, keep: bool = False) -> None:
        """Set totals to what the books say."""
        self._totals.update({name: n for name, n in totals.items() if not keep or name not in self._totals})

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """List those of `keys` that have no total."""
        return [key for key in keys if key not in self._totals]

    async def forget(self, keys: Iterable[str]) -> None:
        """Drop totals."""
        for key in keys:
            self._totals.pop(key, None)

    def _used(self, claim: Claim, now: float) -> int:
        if not claim.window_s:
            return self._totals.get(claim.key, 0) + self._holds.get(claim.key, 0)
        window = self._windows.get((claim.key, claim.window_s))
        return 0 if window is None else window.look(now)

    def _window(self, key: str, window_s: int) -> _Window:
        window = self._windows.get((key, window_s))
        if window is None:
            window = self._windows[key, window_s] = _Window(window_s)
        return window

    def _sweep(self, now: float) -> None:
        """Drop the windows that are over; the next look comes when as many claims as keys were made."""
        for key, window in list(self._windows.items()):
            window.look(now)
            if not window.slices:
                del self._windows[key]
        self._until_sweep = max(_SWEEP_EVERY, len(self._windows))


def _wait_s(claim: Claim, window: _Window | None, used: int, now: float) -> float | None:
    if window is None or claim.amount > claim.limit:
        return None
    return window.wait_s(used + claim.amount - claim.limit, now)
