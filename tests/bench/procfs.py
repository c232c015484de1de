"""What the kernel knows about a process and its children: CPU time and memory, read from `/proc`.

Linux only. Nothing runs inside the measured process, so measuring costs it nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

__all__ = ["Clock", "Memory", "children", "clock", "memory"]

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Memory(msgspec.Struct, frozen=True):
    """KiB of resident memory. `pss_kib` splits shared pages among their owners; 0 = not known."""

    rss_kib: int
    pss_kib: int


class Clock(msgspec.Struct, frozen=True):
    """Seconds on a core, and seconds ready to run while somebody else had the core."""

    cpu_s: float
    waited_s: float


def children(pid: int) -> list[int]:
    """List the direct children of `pid`."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def clock(pids: list[int]) -> Clock:
    """Sum the CPU time of every thread of `pids`, user and kernel.

    Nanosecond precise where the kernel keeps schedstat, else in clock ticks of 10 ms: there, only a
    run of seconds says something. A thread that ends takes its schedstat with it, so a proxy that
    starts threads per request must be read by its ticks.
    """
    clocks = [_schedstat(pid) for pid in pids]
    return Clock(
        sum(c.cpu_s or _ticks_s(pid) for c, pid in zip(clocks, pids, strict=True)),
        sum(c.waited_s for c in clocks),
    )


def _schedstat(pid: int) -> Clock:
    ran = waited = 0
    for task in (_PROC / str(pid) / "task").iterdir():
        with suppress(OSError):  # no such file in this kernel, or the thread has just ended
            fields = (task / "schedstat").read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return Clock(ran / 1e9, waited / 1e9)


def _ticks_s(pid: int) -> float:
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def memory(pids: list[int]) -> Memory:
    """Sum the memory of `pids`. Sockets' buffers belong to the kernel and are not in it."""
    rss = pss = 0
    for pid in pids:
        try:
            fields = _fields(_PROC / str(pid) / "smaps_rollup")
            rss, pss = rss + fields["Rss"], pss + fields["Pss"]
        except OSError:  # a kernel without smaps, or a process of another user
            rss += _fields(_PROC / str(pid) / "status")["VmRSS"]
    return Memory(rss, pss)


def _fields(path: Path) -> dict[str, int]:
    """Read the `Name:  123 kB` lines of a file."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1:] == ["kB"]}
