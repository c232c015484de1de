"""Asks the vendors of stored accounts for their models: at the start, now and then, and a new one at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from weakref import WeakSet

from raven_proxy.discovery import ask
from raven_proxy.holdings import Holdings
from raven_proxy.upstream import Upstream

from .shelf import Shelf

__all__ = ["Listings"]

_AT_ONCE = 8


class Listings:
    """Asks in the background; `every_s` of 0 asks nobody."""

    def __init__(self, shelf: Shelf, holdings: Holdings, every_s: float) -> None:
        self._shelf = shelf
        self._holdings = holdings
        self._every_s = every_s
        self._asked: WeakSet[Upstream] = WeakSet()

    async def run(self) -> None:
        """Ask for ever."""
        due = monotonic()
        while self._every_s:
            self._shelf.changed.clear()
            if monotonic() >= due:
                due = monotonic() + self._every_s
                self._asked.clear()
            await self._ask([one for one in self._shelf.asked() if one not in self._asked])
            try:
                async with asyncio.timeout(max(0.0, due - monotonic())):
                    await self._shelf.changed.wait()
            except TimeoutError:
                continue

    async def _ask(self, upstreams: Iterable[Upstream]) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def ask_one(upstream: Upstream) -> None:
            async with slots:
                await ask(upstream)

        found = list(upstreams)
        self._asked.update(found)
        await asyncio.gather(*map(ask_one, found))
        if found:
            self._holdings.forget()
