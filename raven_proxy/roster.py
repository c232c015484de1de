"""Which workers there are, and how far each has reloaded: one small file for each, in `data_dir/workers`.

So that a call to reload can be answered when the new configuration holds in every process, and not before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import ConfigError

__all__ = ["Roster"]

_LOOK_EVERY_S = 0.02
_PATIENCE_S = 10.0


class Roster:
    """The workers of one parent process; each keeps its own file and reads those of the others."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "workers"
        self._own = self._folder / f"{os.getppid()}-{os.getpid()}"

    def report(self, failure: str = "") -> None:
        """Note that this worker has just started or reloaded, or why it could not."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = self._own.with_suffix(".new")
        # The time is written down: a file's own can be some milliseconds behind.
        draft.write_text(f"{time.time()}\n{failure}", encoding="utf-8")
        draft.replace(self._own)

    def leave(self) -> None:
        """Take this worker out."""
        self._own.unlink(missing_ok=True)

    async def wait_for_others(self, since: float) -> None:
        """Return when every worker has reported after `since` (Unix seconds).

        Raises ConfigError for one that could not reload, or has not within 10 s.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while waiting := [path for path in self._others() if _read(path)[0] < since]:
            if time.monotonic() > deadline:
                raise ConfigError(f"{len(waiting)} worker(s) have not changed over within {_PATIENCE_S:g} s")
            await asyncio.sleep(_LOOK_EVERY_S)
        for path in self._others():
            if failure := _read(path)[1]:
                raise ConfigError(f"a worker could not change over: {failure}")

    def _others(self) -> Iterator[Path]:
        for path in self._folder.glob(f"{os.getppid()}-*"):
            if path != self._own and path.suffix != ".new" and _is_alive(path):
                yield path


def _is_alive(path: Path) -> bool:
    try:
        os.kill(int(path.name.rpartition("-")[2]), 0)
    except (ValueError, OSError):
        return False
    return True


def _read(path: Path) -> tuple[float, str]:
    try:
        moment, _, failure = path.read_text(encoding="utf-8").partition("\n")
    except OSError:
        return time.time(), ""  # it has ended since
    return float(moment), failure
