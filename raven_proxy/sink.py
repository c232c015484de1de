"""Where a reply's body goes as it arrives: what takes it, and how the parser's reader hands it over."""

from __future__ import annotations

from typing import Protocol

from aiohttp.streams import StreamReader

from .errors import UpstreamError

__all__ = ["Sink", "SinkReader"]


class Sink(Protocol):
    """Takes a reply's body as it arrives, synchronously."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def end(self) -> None:
        """The body is complete."""

    def fail(self, error: UpstreamError) -> None:
        """The body broke off; nothing follows."""


class SinkReader(StreamReader):
    """What a body's reader becomes once a sink takes it: a list that is emptied after each read.

    The parser makes and feeds the reader, whose own flow control and chunk marks cost more per chunk
    than the parser: `hold` and `resume` do that work. Same slots, so a reader's class can be changed.
    """

    __slots__ = ()

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        """Keep the next bytes until the read is parsed."""
        del size
        self._buffer.append(data)
        return False

    def begin_http_chunk_receiving(self) -> None:
        """Nobody asks where chunks began."""

    def end_http_chunk_receiving(self) -> None:
        """Nobody asks where chunks ended."""

    def take(self) -> bytes:
        """Give what this read brought."""
        buffer = self._buffer
        if len(buffer) == 1:
            return buffer.popleft()
        data = b"".join(buffer)
        buffer.clear()
        return data
