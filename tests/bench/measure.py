"""The run itself: memory, start-up, then rounds in which the proxies take turns.

Taking turns, and medians over the rounds, keep a slow minute of the machine from falling on one proxy.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from . import procfs
from .cases import HELD_STREAMS, Case, hold_job
from .contenders import Contender
from .job import Job, Result
from .process import BenchError, Cores, Process

__all__ = ["DIRECT", "QUIET", "Bench", "Footprint", "Record", "Sample", "say"]

QUIET = 0.1
"""A proxy that others keep from its core for a larger share of the time than this says little."""

DIRECT = "direct"
"""Stands for no proxy at all: what load and upstream take by themselves."""


class Sample(msgspec.Struct, frozen=True):
    """One case, one proxy, one round.

    `cpu_us` is per request, `core` the share of the time it ran, `waited` the share of the time it could
    have run but others had the core: not its fault, and a sign of a busy machine.
    """

    case: str
    contender: str
    result: Result
    cpu_us: float | None = None
    core: float | None = None
    waited: float | None = None


class Footprint(msgspec.Struct, frozen=True):
    """Memory of a fresh process before any request and with many streams open."""

    contender: str
    idle: procfs.Memory
    loaded: procfs.Memory
    streams: int
    alive: int
    """How many streams really ran; fewer than `streams` is a fault."""
    sample: str


class Record(msgspec.Struct):
    """All that was measured, raw."""

    contenders: list[str]
    samples: list[Sample] = []
    footprints: list[Footprint] = []
    starts_s: dict[str, list[float]] = {}


class Bench:
    """Measures a set of proxies in front of one upstream that is already running."""

    def __init__(
        self, contenders: list[Contender], upstream_port: int, key: str, cores: Cores, home: Path
    ) -> None:
        self._contenders = contenders
        self._upstream_port = upstream_port
        self._key = key
        self._cores = cores
        self._home = home
        self.record = Record([contender.name for contender in contenders])

    def _start(self, contender: Contender) -> Process:
        log = self._home / f"{contender.name}.log"
        return Process(contender.command, self._cores.proxy, log, contender.env)

    def _load(self, job: Job) -> Process:
        argument = msgspec.json.encode(job).decode()
        command = [sys.executable, "-m", "tests.bench.load", argument]
        return Process(command, self._cores.load, self._home / "load.log", talks=True)

    def measure_memory(self) -> None:
        """Read each proxy's memory when fresh, then with a thousand slow streams under way."""
        for contender in self._contenders:
            say(f"memory: {contender.name}")
            with self._start(contender) as process:
                process.wait_ready(contender.port)
                time.sleep(1.0)
                pids = process.family(contender.workers_only)
                idle = procfs.memory(pids)
                job = hold_job(contender.port, self._key)
                with self._load(job) as load:
                    load.hear(job.limit_s + 10)
                    time.sleep(2.0)  # past the first chunks: buffers have grown to what they stay at
                    loaded = procfs.memory(pids)
                    load.tell("end")
                    result = msgspec.json.decode(load.hear(10), type=Result)
            footprint = Footprint(contender.name, idle, loaded, HELD_STREAMS, result.alive, result.sample)
            self.record.footprints.append(footprint)

    def measure_starts(self, times: int) -> None:
        """Time from spawn to the first 200 on `/health/ready`; nginx and the bare proxy forward it.

        Each proxy starts once before, uncounted, so that byte code and file cache are warm for all.
        """
        for number in range(times + 1):
            say(f"start {number}/{times}")
            for contender in self._contenders:
                with self._start(contender) as process:
                    seconds = process.wait_ready(contender.port)
                if number:
                    self.record.starts_s.setdefault(contender.name, []).append(seconds)

    def measure_rounds(self, cases: list[Case], rounds: int, share: float, settle_s: float) -> None:
        """Run every case on every proxy in turn, `rounds` times, after a short round that is not kept.

        `settle_s`: wait this long after the last reply before the CPU clock is read, so that work put
        off until later (batched writes, logs) is charged to the requests that caused it.
        """
        with ExitStack() as running:
            pids: dict[str, list[int]] = {DIRECT: []}
            for contender in self._contenders:
                process = running.enter_context(self._start(contender))
                process.wait_ready(contender.port)
                pids[contender.name] = process.family(contender.workers_only)
            ports = {DIRECT: self._upstream_port, **{c.name: c.port for c in self._contenders}}
            for number in range(rounds + 1):
                for case in cases:
                    say(f"round {number}/{rounds}: {case.name}")
                    for name, port in _turned(ports, number):
                        if case.untranslated is not None and name not in {DIRECT, "raven"}:
                            continue
                        job = case.job(port, self._key, share if number else share / 4)
                        if number:
                            sample = self._measure_quietly(case, name, job, pids[name], settle_s)
                            self.record.samples.append(sample)
                        else:
                            self._measure(case, name, job, pids[name], 0.1)

    def _measure_quietly(self, case: Case, name: str, job: Job, pids: list[int], settle_s: float) -> Sample:
        """Measure again, twice at most, while others disturb; keep the least disturbed sample.

        What decides is who had the core, never how fast the proxy was.
        """
        samples: list[Sample] = []
        for _ in range(3):
            samples.append(self._measure(case, name, job, pids, settle_s))
            if (samples[-1].waited or 0.0) <= QUIET:
                break
        return min(samples, key=lambda sample: sample.waited or 0.0)

    def _measure(self, case: Case, name: str, job: Job, pids: list[int], settle_s: float) -> Sample:
        with self._load(job) as load:
            load.hear(job.limit_s + 10)
            before = procfs.clock(pids)
            load.tell("go")
            result = msgspec.json.decode(load.hear(job.limit_s + 10), type=Result)
            at_end = procfs.clock(pids)
        if result.bad_status + result.errors >= job.requests:
            raise BenchError(f"{name} fails every request of {case.name}: {result.sample or result}")
        if not pids:
            return Sample(case.name, name, result)
        time.sleep(settle_s)
        cpu_us = (procfs.clock(pids).cpu_s - before.cpu_s) / job.requests * 1e6
        core = (at_end.cpu_s - before.cpu_s) / result.seconds
        waited = (at_end.waited_s - before.waited_s) / result.seconds
        return Sample(case.name, name, result, cpu_us, core, waited)


def _turned(ports: dict[str, int], number: int) -> list[tuple[str, int]]:
    """Let another one go first in each round."""
    order = list(ports.items())
    first = number % len(order)
    return order[first:] + order[:first]


def say(what: str) -> None:
    """Show on a terminal what is going on, in one line that is overwritten."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
