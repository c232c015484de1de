"""One file of the journal: records in lines, written into memory that the kernel keeps in the file.

A record is one line: the CRC-32 of its JSON in hexadecimal, a space, the JSON. The file is mapped, a window
at a time, so that appending is a copy and no system call. That costs a tenth of `os.write`, which also lets
other threads have the interpreter each time; and like it survives the end of the process at once. The
window's room is written out as zeros before it is mapped: a full disk is an error there, and no signal later.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import structlog

__all__ = ["Segment", "read_records"]

_log = structlog.get_logger("raven_meter.segment")
_encode = msgspec.json.Encoder().encode
_PAGE = mmap.ALLOCATIONGRANULARITY
_WINDOW = 64 * _PAGE
_ZEROS = memoryview(bytes(_WINDOW))


class Segment:
    """A file that this process appends to, or an orphan that nobody does any more."""

    __slots__ = ("_size", "_start", "_window", "_write", "fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self._window: mmap.mmap | None = None
        self._write: Callable[[bytes], object] = _find_no_room  # the window's, once there is one
        self._start = self._size = 0  # of the window in the file

    def append(self, record: Any) -> None:
        """Write one record. Raises OSError (a full disk): then nothing of it is there."""
        text = _encode(record)
        line = b"%08x %b\n" % (crc32(text), text)
        try:
            self._write(line)
        except ValueError:  # a window takes a line as a whole or not at all
            self._advance(len(line))
            self._write(line)

    @property
    def size(self) -> int:
        """Count the bytes that were appended."""
        return self._start + (self._window.tell() if self._window is not None else 0)

    def seal(self) -> None:
        """Append no more; what stands in it stays."""
        if self._window is not None:
            size = self.size
            self._window.close()
            self._window, self._write = None, _find_no_room
            os.ftruncate(self.fd, size)

    def remove(self) -> None:
        """Delete it: all that it holds is in the database."""
        self.seal()
        self.path.unlink(missing_ok=True)
        os.close(self.fd)

    def _advance(self, needed: int) -> None:
        """Map the file from its first free page on, with room for `needed` bytes."""
        written = self.size
        inside = written % _PAGE
        start, size = written - inside, max(_WINDOW, -(-(inside + needed) // _PAGE) * _PAGE)
        old, end = self._window, self._start + self._size
        _fill(self.fd, end, start + size - end)
        self._window = window = mmap.mmap(self.fd, size, offset=start)
        window.seek(inside)
        self._write = window.write
        self._start, self._size = start, size
        if old is not None:
            old.close()


def _find_no_room(line: bytes) -> None:
    raise ValueError(line)


def _fill(fd: int, start: int, size: int) -> None:
    """Make room on the disk. Raises OSError where there is none."""
    if os.pwrite(fd, _ZEROS[:size] if size <= _WINDOW else bytes(size), start) == size:
        return
    os.ftruncate(fd, start)  # others need what little is left
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_records(segment: Segment) -> Iterator[Any]:
    """Give the records of a segment, decoded, in the order in which they were written.

    A last line that is torn is passed over: its writer died in the middle of it, and what it was about
    was not answered yet. A damaged line elsewhere is passed over too, and said so. Zeros are room that
    nobody wrote to, or that a loss of power emptied.
    """
    with segment.path.open("rb") as file:
        for number, line in enumerate(file, 1):
            record = _read(line.lstrip(b"\0"))
            if record is not None:
                yield record
            elif line.endswith(b"\n"):
                _log.error("a journal record is damaged", segment=segment.path.name, line=number)


def _read(line: bytes) -> Any:
    digits, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or len(digits) != 8:
        return None
    try:
        if int(digits, 16) != crc32(text[:-1]):
            return None
        return msgspec.json.decode(text)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
