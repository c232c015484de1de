"""The journal: what was admitted and how it ended, on disk before anybody waits for a database.

A folder of segments, each appended to by one process, which holds a lock on it. What was appended survives
the end of the process at once; what survives a loss of power is `fsync`'s affair:

    never      what the kernel had not written yet is lost (Linux: up to 30 s)
    interval   at most the last second is lost; a thread syncs, no request waits
    always     nothing is lost; every record waits for the disk, and with it every request
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import time
from pathlib import Path
from typing import Any, Literal

import structlog

from .segment import Segment

__all__ = ["Fsync", "Journal"]

Fsync = Literal["never", "interval", "always"]

_log = structlog.get_logger("raven_meter.journal")
_names = itertools.count()


class Journal:
    """Appends records, and gives segments away that can be deleted once the database has them.

    One of these a process; several processes may share the folder.
    """

    def __init__(self, folder: Path, fsync: Fsync = "interval") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._fsync = fsync
        self._waits_for_disk = fsync == "always"
        self._kept: list[Segment] = []
        self._segment = self._open()

    @property
    def size(self) -> int:
        """Count the bytes of the current segment."""
        return self._segment.size

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
        """Write one record; `msgspec.Raw` is one that is encoded. Raises OSError: it is not on the books."""
        self._segment.append(record)
        if self._waits_for_disk:
            os.fdatasync(self._segment.fd)

    def turn_over(self) -> None:
        """Begin a new segment, if anything stands in this one; the old one waits to be discarded."""
        if self._segment.size:
            old, self._segment = self._segment, self._open()
            old.seal()
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
        synced = self._segment, 0  # how many of its bytes
        while self._fsync == "interval":
            await asyncio.sleep(1.0)
            written = self._segment, self._segment.size
            if written != synced:
                synced = written
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
        if self._segment.size:
            self._segment.seal()
            os.close(self._segment.fd)
        else:
            self._segment.remove()

    def _open(self) -> Segment:
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(_names)}.log"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._folder / name, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Segment(self._folder / name, fd)
