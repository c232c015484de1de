"""Threads in which texts are judged: RE2 lets others run meanwhile, and the event loop serves them.

They are our own: whoever sends long texts must not keep the names of hosts from being looked up, which
happens in the threads that asyncio lends to everybody.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Threads"]

P = ParamSpec("P")
R = TypeVar("R")
_MOST = 4  # texts that are judged at once, in each worker


class Threads:
    """The threads of one gateway. They are made when they are needed, and end with `close`."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_MOST, thread_name_prefix="guardrails")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in a thread. Raises what it raises."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: context.run(function, *args, **kwargs))

    def close(self) -> None:
        """Let the threads end with what they do just now."""
        self._executor.shutdown(wait=False, cancel_futures=True)
