"""Start, watch and end the processes of a run: each pinned to its core, each in a session of its own.

Responsible for leaving nothing behind: whatever happens, exactly what was started here is ended.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from . import procfs

__all__ = ["ROOT", "BenchError", "Cores", "Process", "free_ports", "raise_open_files"]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: `python -m tests.bench.…` and `python -m raven_proxy` work from here."""


class BenchError(Exception):
    """The run cannot go on; the message says why and quotes the process's own words."""


class Cores:
    """Which core the load and the upstream share, and which one is the proxy's alone."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.load, self.proxy = {cores[0]}, {cores[1 % len(cores)]}
        self.apart = self.load != self.proxy
        os.sched_setaffinity(0, self.load)


class Process:
    """One child process. Use it as a context manager: leaving ends it and its children."""

    def __init__(
        self,
        command: Sequence[str],
        cores: set[int],
        log: Path,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        """Start `command` on `cores`, its stderr going to `log`.

        With `talks`, `tell` and `hear` reach it; without, its stdout goes to `log` too.
        """
        self._log = log
        self.command = " ".join(command)
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # inherited from the first instruction on, by every thread
        try:
            with log.open("ab") as sink:
                self.started = time.perf_counter()
                self._child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if talks else sink,
                    stderr=sink,
                    cwd=ROOT,
                    env={**os.environ, **(env or {})},
                    bufsize=0,
                    start_new_session=True,
                )
        except OSError as error:
            raise BenchError(f"{self.command}: {error}") from None
        finally:
            os.sched_setaffinity(0, ours)

    @property
    def pid(self) -> int:
        """The process id of the child itself."""
        return self._child.pid

    def family(self, workers_only: bool) -> list[int]:
        """List the processes to measure: the child and its children, or the children alone."""
        below = procfs.children(self.pid)
        return below if workers_only else [self.pid, *below]

    def wait_ready(self, port: int, limit_s: float = 20.0) -> float:
        """Return the seconds from spawn to the first 200 on `/health/ready`."""
        while (waited := time.perf_counter() - self.started) < limit_s:
            if self._child.poll() is not None:
                raise BenchError(f"{self.command} ended at start:\n{self.last_words()}")
            if _answers(port):
                return time.perf_counter() - self.started
            time.sleep(0.002)
        raise BenchError(f"{self.command} was not ready after {waited:.0f} s:\n{self.last_words()}")

    def tell(self, line: str) -> None:
        """Write one line to the child's stdin."""
        assert self._child.stdin is not None
        self._child.stdin.write(line.encode() + b"\n")

    def hear(self, limit_s: float) -> bytes:
        """Read one line of the child's stdout, or give up after `limit_s`."""
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], limit_s)
        line = self._child.stdout.readline() if ready else b""
        if not line:
            raise BenchError(f"{self.command} said nothing in {limit_s:.0f} s:\n{self.last_words()}")
        return line

    def last_words(self) -> str:
        """Quote the end of what the child wrote to stderr."""
        return self._log.read_text(errors="replace")[-2000:]

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask the child to end, then end its session, which holds nothing but its own children."""
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            print(f"! {self.command} did not end on SIGTERM within 5 s", file=sys.stderr)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait(5)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
            probe.sendall(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return probe.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Find ports below the ephemeral range, so that no client socket can take them in the meantime."""
    found: list[int] = []
    for port in range(21000 + os.getpid() % 8000, 32000):
        if len(found) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def raise_open_files(needed: int = 8192) -> None:
    """Allow as many open files as the system lets us; say so if 1,000 streams will not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < needed:
        print(f"! only {wanted} open files allowed, the memory case needs {needed}", file=sys.stderr)
