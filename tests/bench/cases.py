"""What is measured: each case is a load and the figures that mean something under it."""

from __future__ import annotations

import msgspec

from .fake_upstream import CHUNKS
from .job import Job

__all__ = ["CASES", "HELD_STREAMS", "Case", "hold_job", "select"]

HELD_STREAMS = 1000


class Case(msgspec.Struct, frozen=True):
    """One load. `metrics` are names of `report.METRICS`, in the order of their rows."""

    name: str
    title: str
    metrics: tuple[str, ...]
    requests: int
    connections: int
    model: str = "gpt-4o-mini"
    stream: bool = True
    include_usage: bool = False
    ramp_s: float = 0.0
    warmup: int = 2
    max_cpu: float | None = None
    """The gateway's CPU per request may be this many times nginx's."""
    untranslated: str | None = None
    """The case that the gateway only passes through; this one it alone can serve, by translating."""
    max_translated: float | None = None
    """The gateway's CPU per request may be this many times that of `untranslated`."""

    def job(self, port: int, key: str, share: float) -> Job:
        """Make the load for one proxy; `share` scales the number of requests."""
        return Job(
            port=port,
            key=key,
            connections=self.connections,
            requests=max(self.connections, int(self.requests * share)),
            model=self.model,
            stream=self.stream,
            include_usage=self.include_usage,
            events=CHUNKS + 1 + self.include_usage,
            warmup=self.warmup,
            ramp_s=self.ramp_s,
        )


_BUSY = ("cpu", "rate", "p50", "p99", "core")
_PACED = ("cpu", "p50", "p99", "first_p50", "first_p99", "core")
_ALONE = ("cpu", "p50", "p99", "added_p50", "added_p99")

CASES = (
    Case("whole", "Whole reply", _BUSY, 10_000, 32, stream=False, max_cpu=6.0),
    Case("burst", "50 chunks at once", _BUSY, 1200, 32, "burst", max_cpu=1.3),
    Case("burst-usage", "50 chunks at once, usage asked", _BUSY, 1200, 32, "burst", include_usage=True),
    Case("lump", "50 chunks in a single send", _BUSY, 2000, 32, "lump"),
    Case("paced", "50 chunks 10 ms apart", _PACED, 600, 200, "paced", ramp_s=0.5, warmup=1, max_cpu=1.6),
    Case(
        "paced-usage",
        "50 chunks 10 ms apart, usage asked",
        _PACED,
        600,
        200,
        "paced",
        include_usage=True,
        ramp_s=0.5,
        warmup=1,
    ),
    Case(
        "whole-translated",
        "Whole reply, translated (Anthropic)",
        _BUSY,
        6000,
        32,
        "claude-whole",
        stream=False,
        untranslated="whole",
        max_translated=1.6,
    ),
    Case(
        "burst-translated",
        "50 chunks at once, translated",
        _BUSY,
        1200,
        32,
        "claude-burst",
        untranslated="burst",
        max_translated=3.0,
    ),
    Case(
        "lump-translated",
        "50 chunks in a single send, translated",
        _BUSY,
        1200,
        32,
        "claude-lump",
        untranslated="lump",
    ),
    Case("alone-whole", "One whole reply at a time", _ALONE, 500, 1, stream=False, warmup=20),
    Case("alone", "One stream at a time", _ALONE, 500, 1, "lump", warmup=20),
)


def hold_job(port: int, key: str) -> Job:
    """Make the load that holds many slow streams open at once."""
    return Job(
        port=port,
        key=key,
        connections=HELD_STREAMS,
        model="slow",
        stream=True,
        ramp_s=2.0,
        hold=True,
        limit_s=10.0,
    )


def select(names: str | None) -> tuple[list[Case], bool, bool]:
    """Pick cases by comma-separated names, and say whether `memory` and `start` are among them."""
    if names is None:
        return list(CASES), True, True
    wanted = set(names.split(","))
    unknown = wanted - {case.name for case in CASES} - {"memory", "start"}
    if unknown:
        raise ValueError(f"no such case: {', '.join(sorted(unknown))}")
    return [case for case in CASES if case.name in wanted], "memory" in wanted, "start" in wanted
