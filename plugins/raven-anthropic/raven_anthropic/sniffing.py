"""Readers for vendors that answer with a stream, and for those that only were asked for one.

What came is told by its first byte: headers may say the one thing and the body be the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raven_proxy import hub
from raven_proxy.dialects import Reader, SSEReader
from raven_proxy.errors import UpstreamError

from .replies import Reading, read_reply
from .streams import MessageEvents

__all__ = ["open_reader"]


class _Sniffing:
    """A reader that first looks whether it gets a stream: some vendors answer with one document."""

    __slots__ = ("_parts", "_reading", "close", "feed")

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._parts: list[bytes] = []
        self.feed: Callable[[bytes], Iterable[hub.Event]] = self._look
        self.close: Callable[[], Iterable[hub.Event]] = self._end

    def _look(self, data: bytes) -> Iterable[hub.Event]:
        self._parts.append(data)
        text = b"".join(self._parts)
        start = text.lstrip()[:1]
        if start and start != b"{":
            stream = MessageEvents(self._reading)
            reader = SSEReader(stream.read, stream.end)
            self.feed, self.close = reader.feed, reader.close
            return reader.feed(text)
        if start:
            self.feed = self._keep
        return ()

    def _keep(self, data: bytes) -> Iterable[hub.Event]:
        self._parts.append(data)
        return ()

    def _end(self) -> Iterable[hub.Event]:
        text = b"".join(self._parts)
        if not text.strip():
            return ()
        try:
            return hub.events_of(read_reply(text, self._reading))
        except UpstreamError as error:
            return (hub.Failed(message=error.message, status=error.status),)


def open_reader(reading: Reading) -> Reader:
    """Begin a stream, or what turns out to be a whole reply."""
    return _Sniffing(reading)
