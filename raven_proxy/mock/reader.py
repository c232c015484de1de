"""Requests out of a byte stream, without I/O: bytes in, `Seen` out.

A strict reader on purpose: what a careless server would forgive is a bug of whoever sent it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator

from .scripts import Seen

__all__ = ["RequestReader"]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(1\.[01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_DIGITS = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?\r\n")

Steps = Generator[None, None, bytes]  # suspends for more bytes


class RequestReader:
    """Read requests, pipelined or not; `on_continue` is called where `Expect` asks for a 100.

    Once `broken` says why the bytes are no HTTP/1.1 request, no more of them are read.
    """

    def __init__(self, connection: int, on_continue: Callable[[], None]) -> None:
        self._connection = connection
        self._on_continue = on_continue
        self._buffer = bytearray()
        self._raw = bytearray()  # of the request under way
        self._begun: Seen | None = None
        self._finished: list[Seen] = []
        self.broken: str | None = None
        self._steps = self._run()
        next(self._steps)

    def feed(self, data: bytes) -> list[Seen]:
        """Take the next bytes and return the requests they complete."""
        self._buffer += data
        if self.broken is None:
            try:
                next(self._steps)
            except ValueError as error:
                self.broken = str(error)
        finished, self._finished = self._finished, []
        return finished

    def unfinished(self) -> Seen | None:
        """Return the request that broke off, its `raw` as far as it came; None between two."""
        raw = bytes(self._raw + self._buffer)
        if not raw:
            return None
        seen = self._begun or Seen(connection=self._connection, received_at=time.time(), complete=False)
        seen.raw = raw
        return seen

    def _run(self) -> Generator[None, None, None]:
        while True:
            head = yield from self._take_through(b"\r\n\r\n")
            self._begun = seen = self._parse_head(head)
            if seen.headers.get("expect", "").lower() == "100-continue":
                self._on_continue()
            seen.body = yield from self._body(seen)
            seen.raw, seen.received_at, seen.complete = bytes(self._raw), time.time(), True
            self._raw.clear()
            self._begun = None
            self._finished.append(seen)

    def _body(self, seen: Seen) -> Steps:
        encoding, length = seen.headers.get("transfer-encoding"), seen.headers.get("content-length")
        if encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise ValueError(f"transfer-encoding {encoding!r}, content-length {length!r}")
            return (yield from self._chunks())
        if length is None:
            return b""
        if not _DIGITS.fullmatch(length):
            raise ValueError(f"content-length {length!r}")
        return (yield from self._take(int(length)))

    def _chunks(self) -> Steps:
        body = bytearray()
        while True:
            line = yield from self._take_through(b"\r\n")
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise ValueError(f"chunk size {line!r}")
            if int(size[1], 16) == 0:
                break
            body += yield from self._take(int(size[1], 16))
            if (yield from self._take(2)) != b"\r\n":
                raise ValueError("chunk longer than its size")
        while (yield from self._take_through(b"\r\n")) != b"\r\n":
            pass
        return bytes(body)

    def _take(self, count: int) -> Steps:
        while len(self._buffer) < count:
            yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._raw += taken
        return taken

    def _take_through(self, end: bytes) -> Steps:
        while (at := self._buffer.find(end)) < 0:
            yield
        return (yield from self._take(at + len(end)))

    def _parse_head(self, head: bytes) -> Seen:
        first, *lines = head[:-4].split(b"\r\n")
        start = _REQUEST_LINE.fullmatch(first)
        matches = [_HEADER.fullmatch(line) for line in lines]
        if start is None or None in matches:
            raise ValueError("malformed head")
        pairs = [(m[1].decode("latin-1"), m[2].decode("latin-1")) for m in matches if m]
        headers: dict[str, str] = {}
        for name, value in pairs:
            lower = name.lower()
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        return Seen(
            connection=self._connection,
            received_at=time.time(),
            method=start[1].decode("latin-1"),
            target=start[2].decode("latin-1"),
            version=start[3].decode("latin-1"),
            header_list=pairs,
            headers=headers,
            complete=False,
        )
