"""Background tasks that cannot be lost: each is held, named, and its failure is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

__all__ = ["Tasks"]

_log = structlog.get_logger("raven_proxy.tasks")


class Tasks:
    """The running background tasks of one gateway."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `work` and keep it until it ends; an exception is logged under `name`."""
        task = self.loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def loop(self) -> asyncio.AbstractEventLoop:
        """Give the event loop. Asked once: Python 3.11 makes a system call of every question."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def launch(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Start `work` that nobody waits for."""
        _ = self.spawn(work, name)

    async def settle(self, timeout_s: float) -> None:
        """Wait for what runs now, at most `timeout_s`; what is left after that is cancelled."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task failed", task=task.get_name(), exc_info=error)
