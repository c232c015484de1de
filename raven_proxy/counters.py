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
    """One sliding window: what was `used` in it, and how much of that is `recent`, in the slice of now.

    Until the moment `until` nothing of it passes; after that, and before it is changed, `look`.
    """

    __slots__ = ("current", "recent", "slice_s", "slices", "until", "used")

    def __init__(self, window_s: int) -> None:
        self.slice_s = window_s / SLICES
        self.slices: dict[int, int] = {}  # former slices: number → amount; insertion order is time's
        self.current = 0
        self.until = 0.0
        self.used = self.recent = 0

    def look(self, now: float) -> int:
        """Move on to a moment, and give what is used: no slice counts a window after its last moment."""
        current, slices = int(now / self.slice_s), self.slices
        if current != self.current:
            if self.recent:
                slices[self.current] = self.recent
            self.current, self.recent = current, 0
            while slices and (first := next(iter(slices))) < current - SLICES:
                self.used -= slices.pop(first)
        self.until = (current + 1) * self.slice_s
        return self.used

    def take_back(self, amount: int) -> None:
        """Forget `amount` of what is used, the oldest first."""
        amount = min(amount, self.used)
        self.used -= amount
        for number in list(self.slices):
            part = min(amount, self.slices[number])
            amount -= part
            self.slices[number] -= part
            if not self.slices[number]:
                del self.slices[number]
            if not amount:
                break
        self.recent -= amount

    def wait_s(self, needed: int, now: float) -> float:
        """Give the seconds until `needed` of what is used has passed."""
        last = self.current
        for number, amount in self.slices.items():
            needed -= amount
            if needed <= 0:
                last = number
                break
        return (last + SLICES + 1) * self.slice_s - now


class _Account:
    """A total with all its holds (`used`), and those holds alone (`recent`). Nothing of it ever passes."""

    __slots__ = ("is_known", "recent", "used")
    until = float("inf")

    def __init__(self) -> None:
        self.used = self.recent = 0
        self.is_known = False  # it has a total, if only of 0

    def look(self, now: float) -> int:
        del now
        return self.used


class LocalCounters:
    """Counters of one process, in memory that follows the keys in use: windows that are over are dropped."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], _Window] = {}
        self._accounts: dict[str, _Account] = {}
        self._until_sweep = _SWEEP_EVERY
        self._now = time.monotonic

    def __len__(self) -> int:
        return len(self._windows) + len(self._accounts)

    async def take(self, claims: Sequence[Claim]) -> Denial | None:
        """Take all of `claims`, or none of them and say which one was too much."""
        now = self._now()
        windows, accounts = self._windows, self._accounts
        denied: Denial | None = None
        count: _Window | _Account
        for claim in claims:
            key, window_s, amount = claim.key, claim.window_s, claim.amount
            if window_s:
                count = windows.get((key, window_s)) or self._window(key, window_s)
            else:
                count = accounts.get(key) or self._account(key)
            used = count.used if now < count.until else count.look(now)
            if used + amount > claim.limit:
                denied = later(denied, Denial(claim, used, _wait_s(claim, count, used, now)))
            count.used = used + amount
            count.recent += amount
        if denied is not None:
            self._put_back(claims)
        self._until_sweep -= len(claims)
        if self._until_sweep <= 0:
            self._sweep(now)
        return denied

    async def correct(self, key: str, window_s: int, difference: int) -> None:
        """Correct what was taken in a window."""
        window, now = self._window(key, window_s), self._now()
        if now >= window.until:
            window.look(now)
        if difference < 0:
            window.take_back(-difference)
        else:
            window.used += difference
            window.recent += difference

    async def settle(self, keys: Sequence[str], held: int, actual: int) -> None:
        """End a hold on each of `keys`."""
        for key in keys:
            account = self._accounts.get(key) or self._account(key)
            rest = max(account.recent - held, 0)
            account.used += actual + rest - account.recent
            account.recent = rest
            if actual:
                account.is_known = True
            elif not account.used and not account.is_known:
                del self._accounts[key]

    async def used(self, key: str, window_s: int = 0) -> int:
        """Say what is in use."""
        [used] = await self.used_of((Claim(key, 0, 0, window_s),))
        return used

    async def used_of(self, claims: Sequence[Claim]) -> list[int]:
        """Say what is in use of what each claim is about."""
        now, windows, accounts = self._now(), self._windows, self._accounts
        found = []
        for claim in claims:
            window_s = claim.window_s
            count = windows.get((claim.key, window_s)) if window_s else accounts.get(claim.key)
            found.append(0 if count is None else count.used if now < count.until else count.look(now))
        return found

    async def held(self, key: str) -> int:
        """Say what is held and not settled."""
        account = self._accounts.get(key)
        return 0 if account is None else account.recent

    async def load(self, totals: Mapping[str, int], *, keep: bool = False) -> None:
        """Set totals to what the books say."""
        for key, total in totals.items():
            account = self._accounts.get(key) or self._account(key)
            if not (keep and account.is_known):
                account.used, account.is_known = total + account.recent, True

    async def missing(self, keys: Iterable[str]) -> list[str]:
        """List those of `keys` that have no total."""
        return [key for key in keys if (one := self._accounts.get(key)) is None or not one.is_known]

    async def forget(self, keys: Iterable[str]) -> None:
        """Drop totals."""
        for key in keys:
            account = self._accounts.get(key)
            if account is not None:
                account.used, account.is_known = account.recent, False
                if not account.recent:
                    del self._accounts[key]

    def _window(self, key: str, window_s: int) -> _Window:
        window = self._windows.get((key, window_s))
        if window is None:
            window = self._windows[key, window_s] = _Window(window_s)
        return window

    def _account(self, key: str) -> _Account:
        account = self._accounts[key] = _Account()
        return account

    def _put_back(self, claims: Sequence[Claim]) -> None:
        """Undo what was taken at this very moment; accounts that nothing is left of are forgotten."""
        for claim in claims:
            key, amount = claim.key, claim.amount
            if claim.window_s:
                window = self._windows[key, claim.window_s]
                window.used -= amount
                window.recent -= amount
                continue
            account = self._accounts[key]
            account.used -= amount
            account.recent -= amount
            if not account.used and not account.is_known:
                del self._accounts[key]

    def _sweep(self, now: float) -> None:
        """Drop the windows that are over; the next look comes when as many claims as keys were made."""
        for key, window in list(self._windows.items()):
            if not window.look(now):
                del self._windows[key]
        self._until_sweep = max(_SWEEP_EVERY, len(self._windows))


def _wait_s(claim: Claim, count: _Window | _Account, used: int, now: float) -> float | None:
    if not isinstance(count, _Window) or claim.amount > claim.limit:
        return None
    return count.wait_s(used + claim.amount - claim.limit, now)
