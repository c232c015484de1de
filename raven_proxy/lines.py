"""Streams of one JSON document a line (NDJSON), as Ollama's own API and Cohere's older one send them.

Cuts bytes into lines; what a line means is its reader's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import hub

__all__ = ["LineReader"]

_LONGEST = 16 * 1024 * 1024  # bytes of one line


class LineReader:
    """A `dialects.Reader`: `read` is told each line that is not blank, `end` the end of the bytes.

    Both may be generators. A last line without its line feed counts. Raises ValueError for a line that is
    over 16 MiB.
    """

    __slots__ = ("_end", "_parts", "_read", "_size")

    def __init__(
        self, read: Callable[[bytes], Iterable[hub.Event]], end: Callable[[], Iterable[hub.Event]]
    ) -> None:
        self._parts: list[bytes] = []  # a long line is joined once, not once a read
        self._size = 0
        self._read = read
        self._end = end

    def feed(self, data: bytes) -> Iterable[hub.Event]:
        """Take the next bytes."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > _LONGEST:
                raise ValueError(f"a line is over {_LONGEST} bytes")
        for line in lines:
            if line.strip():
                yield from self._read(line)

    def close(self) -> Iterable[hub.Event]:
        """The bytes ended."""
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        if line.strip():
            yield from self._read(line)
        yield from self._end()
