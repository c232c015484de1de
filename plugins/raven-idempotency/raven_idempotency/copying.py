"""A copy of a reply's bytes as they go out: the last stage of all, and bounded."""

from __future__ import annotations

__all__ = ["Copy"]


class Copy:
    """A stage that passes everything and remembers up to `limit` bytes; `body` is None beyond that."""

    __slots__ = ("_limit", "_parts", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes | None:
        """What went by; None if it was too long."""
        return b"".join(self._parts) if self._size <= self._limit else None

    def feed(self, data: bytes) -> bytes:
        """Remember and pass the next bytes."""
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        else:
            self._parts.clear()
        return data

    def close(self) -> bytes:
        """Nothing is held back."""
        return b""
