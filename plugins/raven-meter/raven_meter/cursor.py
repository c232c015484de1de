"""Up to where a reader has read the table `exchanges`, so that nothing is read twice or passed over.

Rows come to the database a moment after their ids were given, and those of several processes out of
order: one number cannot say what was read. But the rows of one writer (`exchanges.RowIds`) come in the
order of their ids, after a crash too. So a cursor is a floor, up to which everything was read, and for
each writer that was active since then its last row. Sans-IO.
"""

from __future__ import annotations

import re
import time
from typing import Any

from .exchanges import RowIds

__all__ = ["Cursor", "id_at", "moment", "span"]

_WRITERS = 1 << 12  # the low bits of a row's id are its writer's
_MOST = 64  # writers; the longest text is then 1,104 characters, which a header can carry
_TEXT = re.compile(rf"[0-9a-f]{{1,16}}(?:\.[0-9a-f]{{1,16}}){{0,{_MOST}}}")
_LARGEST = (1 << 63) - 1
_clock = RowIds(0)


def moment() -> int:
    """Give the id that a row made just now would have at least."""
    return _clock.next()


def id_at(seconds: float) -> int:
    """Give an id that every row that was made from this moment (Unix seconds) on is above."""
    return min(max(0, moment() - span(time.time() - seconds + 1.0)), _LARGEST)


def span(seconds: float) -> int:
    """Give how far apart ids are that were made so long after each other."""
    return int(seconds * 1_000_000) * _WRITERS


class Cursor:
    """A place in the table. `str()` gives what `read` takes: the floor and the last rows, in hexadecimal."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._last: dict[int, int] = {}

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Read a cursor back. Raises ValueError."""
        if not _TEXT.fullmatch(text):
            raise ValueError("this is no cursor")
        floor, *last = (int(part, 16) for part in text.split("."))
        if max(floor, *last, 0) > _LARGEST:
            raise ValueError("this is no cursor")
        cursor = cls(floor)
        for row_id in last:
            cursor.take(row_id)
        return cursor

    def __str__(self) -> str:
        return ".".join(f"{number:x}" for number in (self.floor, *self._last.values()))

    def take(self, row_id: int) -> None:
        """Note that a row was read; those of one writer must come in the order of their ids."""
        if row_id <= self.floor:
            return
        self._last[row_id % _WRITERS] = row_id
        if (
            len(self._last) > _MOST
        ):  # processes that came and went: who wrote last longest ago, writes no more
            self.raise_floor(min(self._last.values()))

    def raise_floor(self, floor: int) -> None:
        """Note that everything up to an id was read."""
        if floor > self.floor:
            self.floor = floor
            self._last = {writer: last for writer, last in self._last.items() if last > floor}

    def unread(self, begin: int = 0) -> tuple[str, list[Any]]:
        """Word the condition for what was not read yet, and its values; `begin` leaves out earlier rows."""
        values: list[Any] = [max(self.floor, begin)]
        for writer, last in self._last.items():
            values += [writer, last]
        return "id > ?" + f" AND NOT (id % {_WRITERS} = ? AND id <= ?)" * len(self._last), values
