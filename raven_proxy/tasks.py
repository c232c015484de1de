"""Background tasks that cannot be lost: each is held, named, and its failure is logged."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

import structlog

__all__ = ["Tasks", "resume"]

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

    def begin(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Take the first step of `work` now; if it waits for anything, it goes on in the background.

        For work that mostly ends at once, where a task would cost more than it. Raises what the first
        step raises.
        """
        try:
            waiting_for = work.send(None)
        except StopIteration:
            return
        self.launch(_go_on(work, waiting_for), name)

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


@types.coroutine
def resume(work: Coroutine[Any, Any, Any], waiting_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine whose first step was taken by hand and gave `waiting_for`."""
    while True:
        thrown: BaseException | None = None
        sent = None
        try:
            sent = yield waiting_for
        except BaseException as error:
            thrown = error
        try:
            waiting_for = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as stop:
            return stop.value


async def _go_on(work: Coroutine[Any, Any, Any], waiting_for: Any) -> None:
    await resume(work, waiting_for)
