"""A copy of a reply's bytes, as the client gets them, up to a bound. Sans-IO."""

from __future__ import annotations

__all__ = ["Copy"]


class Copy:
    """A stage that changes nothing. `size` counts what passed, `taken()` gives the beginning of it."""

    __slots__ = ("_limit", "_parts", "_room", "size")

    def __init__(self, limit: int) -> None:
        self._limit = self._room = limit
        self._parts: list[bytes] = []
        self.size = 0

    def feed(self, data: bytes) -> bytes:
        """Copy, and pass on."""
        self.size += len(data)
        if self._room:
            part = data[: self._room]
            self._parts.append(part)
            self._room -= len(part)
        return data

    def close(self) -> bytes:
        """Hold nothing back."""
        return b""

    def taken(self) -> bytes:
        """Give what was copied."""
        return b"".join(self._parts)
