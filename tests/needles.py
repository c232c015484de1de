"""The needle scan (T66, I4): after a run, no secret stands in what gateways of the tests left behind.

Looked through are databases, journals, counters, logs and captured output: whatever lies in the tests'
folders but configuration and key files, which are where secrets belong. Needles are the key of every mock
provider and whatever looks like a whole virtual key. A replayed or hand-made body that holds one would be
found too: tests use other words there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["NEEDLE", "scan", "scan_text"]

# In a row of `keys` a key's shown beginning stands right before its digest, in hexadecimal: no needle.
NEEDLE = re.compile(rb"sk-upstream-test|rk_(?:live|test)_[0-9A-Za-z]{4}(?![0-9a-f]{20})[0-9A-Za-z]{20,}")
_LEFT_BEHIND = re.compile(r"(?:raven|counters)\.db(?:-wal|-shm)?|.*\.log|stderr|stdout")
_CHUNK = 1 << 20
_OVERLAP = 256


def scan(folder: Path) -> Iterator[str]:
    """Say where a needle stands: the file, and the needle's first characters."""
    for path in sorted(folder.rglob("*")):
        if _LEFT_BEHIND.fullmatch(path.name) and path.is_file():
            yield from (f"{path.relative_to(folder)}: {found[:12].decode()}…" for found in _look(path))


def scan_text(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Say where a needle stands in what a test printed."""
    for text in texts:
        yield from (f"{name}: {match[0][:12].decode()}…" for match in NEEDLE.finditer(text.encode()))


def _look(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        before = b""
        while chunk := file.read(_CHUNK):
            match = NEEDLE.search(before + chunk)
            if match is not None:
                yield match[0]
                return
            before = chunk[-_OVERLAP:]
