"""Take a provider's reply whole, so that a broken one is an error and not half a document."""

from __future__ import annotations

import asyncio

from .connection import UpstreamConnection
from .errors import UpstreamError, UpstreamTimeout
from .watch import Watch

__all__ = ["Collector"]


class Collector:
    """Takes a reply that will be sent whole; `done` resolves to its bytes, as the provider sent them."""

    __slots__ = ("_limit", "_parts", "_size", "_source", "_watch", "done")

    def __init__(self, source: UpstreamConnection, limit: int, idle_s: float, total_s: float) -> None:
        self._source = source
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._watch: Watch | None = None
        source.attach(self)
        if not self.done.done():  # most replies are already here, and need no timer
            self._watch = Watch(idle_s, total_s, self._late)

    def feed(self, data: bytes) -> None:
        """Keep the next bytes; over the limit, give up."""
        self._size += len(data)
        if self._size > self._limit:
            self._source.abort()
            self.fail(UpstreamError("The provider's reply is over the size limit."))
            return
        self._parts.append(data)
        if self._watch is not None:
            self._watch.touch()

    def end(self) -> None:
        """Hand the reply over."""
        self._finish()
        parts, self._parts = self._parts, []
        if not self.done.done():
            self.done.set_result(parts[0] if len(parts) == 1 else b"".join(parts))

    def fail(self, error: UpstreamError) -> None:
        """Hand the error over: a partial reply is never passed on as a whole one."""
        self._finish()
        if not self.done.done():
            self.done.set_exception(error)

    async def wait(self) -> bytes:
        """Wait for the reply. Raises UpstreamError; cancelled, it drops the connection."""
        try:
            return await self.done
        except asyncio.CancelledError:
            self._finish()
            if self.done.cancelled():  # else it ended before: its connection may serve another exchange
                self._source.abort()
            raise

    def _late(self, error: UpstreamTimeout) -> None:
        self._source.abort()
        self.fail(error)

    def _finish(self) -> None:
        if self._watch is not None:
            self._watch.stop()
