"""Telling every process that something changed: generations in a table, and who watches them.

Responsible for `Storage.bump` and `Storage.watch` once a change is committed. A process's own changes
reach its watchers at once; those of others are seen by a look every `WATCH_INTERVAL_S`. `on_held` is told how
far the watchers are, for a process that must know when the others have caught up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

__all__ = ["BUMP", "SCHEMA", "WATCH_INTERVAL_S", "Changes", "Watcher"]

Watcher = Callable[[], Awaitable[None]]

WATCH_INTERVAL_S = 0.2
_ALERT_INTERVAL_S = 0.02  # where others wait for us, and more is likely to come
_ALERT_S = 2.0
SCHEMA = "CREATE TABLE IF NOT EXISTS generations (topic TEXT PRIMARY KEY, value INTEGER NOT NULL)"
BUMP = """INSERT INTO generations (topic, value) VALUES (?, 1)
          ON CONFLICT (topic) DO UPDATE SET value = generations.value + 1 RETURNING value"""

_log = structlog.get_logger("raven_proxy.storage")


class Changes:
    """The watchers of one process.

    `read_version()` is cheap and differs after another process's commit; `read_generations()`
    gives each topic's value.
    """

    def __init__(
        self,
        read_version: Callable[[], Awaitable[Any]],
        read_generations: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> None:
        self._read_version = read_version
        self._read_generations = read_generations
        self._watchers: dict[str, list[Watcher]] = {}
        self._seen: dict[str, int] = {}
        self.held: dict[str, int] = {}  # what the watchers have been told of, and are done with
        self.on_held: Callable[[Mapping[str, int]], None] | None = None
        self._version: Any = None
        self._alert_until = 0.0

    def watch(self, topic: str, callback: Watcher) -> Callable[[], None]:
        """Add a watcher; see `Storage.watch`."""
        callbacks = self._watchers.setdefault(topic, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def expect(self) -> None:
        """Look closely next time: a commit of our own may not get to its `announce`."""
        self._version = None

    async def announce(self, topic: str, value: int) -> None:
        """Call the watchers of `topic`; one that raises is logged, and called again at the next look."""
        self._seen[topic] = max(value, self._seen.get(topic, 0))
        for callback in tuple(self._watchers.get(topic, ())):
            try:
                await callback()
            except Exception as error:
                self._seen.pop(topic, None)  # two at once may both fail
                self.expect()
                _log.error("watcher failed", topic=topic, exc_info=error)
                return
        if value > self.held.get(topic, 0):
            self.held[topic] = value
            if self.on_held is not None:
                self._alert_until = asyncio.get_running_loop().time() + _ALERT_S
                self.on_held(self.held)

    async def run(self) -> None:
        """Look for other processes' changes for ever."""
        while True:
            is_alert = asyncio.get_running_loop().time() < self._alert_until
            await asyncio.sleep(_ALERT_INTERVAL_S if is_alert else WATCH_INTERVAL_S)
            if self.on_held is not None or any(self._watchers.values()):
                try:
                    await self._look()
                except Exception as error:
                    _log.error("changes cannot be read", reason=str(error))

    async def _look(self) -> None:
        version = await self._read_version()
        if version == self._version:
            return
        self._version = version
        for topic, value in (await self._read_generations()).items():
            if value > self._seen.get(topic, 0):
                await self.announce(topic, value)
