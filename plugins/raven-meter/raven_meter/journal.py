"""The journal: what was admitted and how it ended, on disk before anybody waits for a database.

A folder of segments, each appended to by one process, which holds a lock on it. A record is one line: the
CRC-32 of its JSON in hexadecimal, a space, the JSON. `os.write` on a file opened with O_APPEND survives
the end of the process at once; what survives a loss of power is `fsync`'s affair:

    never      what the kernel had not written yet is lost (Linux: up to 30 s)
    interval   at most the last second is lost; a thread syncs, no request waits
    always     nothing is lost; every record waits for the disk, and with it every request
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import msgspec
import structlog

__all__ = ["Fsync", "Journal", "Segment", "read_records"]

Fsync = Literal["never", "interval", "always"]

_log = structlog.get_logger("raven_meter.journal")
_encode = msgspec.json.Encoder().encode
_names = itertools.count()


class Segment:
    """One file that this process appends to, or an orphan that nobody does any more."""

    __slots__ = ("fd", "path", "records")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.records = 0

    def remove(self) -> None:
        """Delete it: all that it holds is in the database."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


class Journal:
    """Appends records, and gives segments away that can be deleted once the database has them.

    One of these a process; several processes may share the folder.
    """

    def __init__(self, folder: Path, fsync: Fsync = "interval") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._fsync = fsync
        self._is_dirty = False
        self._kept: list[Segment] = []
        self._segment = self._open()

    @property
    def size(self) -> int:
        """Count the records of the current segment."""
        return self._segment.records

    @property
    def is_waiting(self) -> bool:
        """Whether an old segment is there that was not discarded yet. The next start would replay it."""
        return bool(self._kept)

    def old(self) -> list[Segment]:
        """List the old segments that were not discarded yet."""
        return [*self._kept]

    def discard(self) -> None:
        """Delete the old segments: the database has all that they say."""
        while self._kept:
            self._kept.pop().remove()

    def append(self, record: Any) -> None:
        """Write one record. Raises OSError (a full disk): then it is not on the books."""
        text = _encode(record)
        line = b"%08x %b\n" % (crc32(text), text)
        segment = self._segment
        written = os.write(segment.fd, line)
        if written != len(line):  # the disk is full: half a line would spoil the next one too
            os.ftruncate(segment.fd, os.lseek(segment.fd, 0, os.SEEK_END) - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        segment.records += 1
        if self._fsync == "always":
            os.fdatasync(segment.fd)
        self._is_dirty = True

    def turn_over(self) -> None:
        """Begin a new segment, if anything stands in this one; the old one waits to be discarded."""
        if self._segment.records:
            old, self._segment = self._segment, self._open()
            self._kept.append(old)

    def orphans(self) -> list[Segment]:
        """Take over the segments that no living process appends to, oldest first."""
        found = []
        for path in sorted(self._folder.glob("*.log")):
            if path == self._segment.path:
                continue
            fd = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            if not path.exists():  # its owner removed it between our two looks
                os.close(fd)
                continue
            found.append(Segment(path, fd))
        return found

    async def keep_synced(self) -> None:
        """Sync once a second where the policy says so; runs until it is cancelled."""
        while self._fsync == "interval":
            await asyncio.sleep(1.0)
            if self._is_dirty:
                self._is_dirty = False
                fd = os.dup(self._segment.fd)
                try:
                    await asyncio.to_thread(os.fdatasync, fd)
                except OSError as error:
                    _log.error("the journal could not be synced", reason=str(error))
                finally:
                    os.close(fd)

    def close(self) -> None:
        """Let go; an empty segment is deleted, another stays for the next start."""
        for segment in self._kept:
            os.close(segment.fd)
        if self._segment.records:
            os.close(self._segment.fd)
        else:
            self._segment.remove()

    def _open(self) -> Segment:
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_names)}.log"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._folder / name, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Segment(self._folder / name, fd)


def read_records(segment: Segment) -> Iterator[Any]:
    """Give the records of a segment, decoded, in the order in which they were written.

    A last line that is torn is passed over: its writer died in the middle of it, and what it was about
    was not answered yet. A damaged line elsewhere is passed over too, and said so.
    """
    with segment.path.open("rb") as file:
        for number, line in enumerate(file, 1):
            record = _read(line)
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
