"""Which workers there are, and how far each has come: small files of each, in `data_dir/workers`.

So that a call to reload can be answered when the new configuration holds in every process, and a change of
the management API when it does; not before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from .errors import ConfigError

__all__ = ["Roster"]

_LOOK_EVERY_S = 0.02
_PATIENCE_S = 10.0
_CATCH_UP_S = 1.0
_HELD = ".held"


class Roster:
    """The workers of one parent process; each keeps its own files and reads those of the others."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "workers"
        self._own = self._folder / f"{os.getppid()}-{os.getpid()}"

    def report(self, failure: str = "") -> None:
        """Note that this worker has just started or reloaded, or why it could not."""
        # The time is written down: a file's own can be some milliseconds behind.
        self._write(self._own, f"{time.time()}\n{failure}")

    def report_held(self, held: Mapping[str, int]) -> None:
        """Note which changes hold here: each topic's generation, as in `changes`."""
        self._write(self._own.with_suffix(_HELD), msgspec.json.encode(held).decode())

    def leave(self) -> None:
        """Take this worker out."""
        self._own.unlink(missing_ok=True)
        self._own.with_suffix(_HELD).unlink(missing_ok=True)

    async def wait_until_held(self, held: Mapping[str, int]) -> None:
        """Return when these changes hold in every worker; after a second they are as good as made anyhow.

        Most often that is one look of `changes`. A worker that hangs must not hold up who manages the others.
        """
        deadline = time.monotonic() + _CATCH_UP_S
        while any(_lacks(path, held) for path in self._others()) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)

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
            if path != self._own and not path.suffix and _is_alive(path):
                yield path

    def _write(self, path: Path, text: str) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)


def _lacks(path: Path, held: Mapping[str, int]) -> bool:
    try:
        theirs = msgspec.json.decode(path.with_suffix(_HELD).read_bytes(), type=dict[str, int])
    except OSError:
        return path.exists()  # it has just begun, or has just ended
    return any(theirs.get(topic, 0) < value for topic, value in held.items())


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
