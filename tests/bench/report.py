"""The figures as a Markdown table: medians over the rounds, and ratios to nginx and to the bare proxy."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from .cases import CASES, Case
from .measure import DIRECT, QUIET, Footprint, Record, Sample

__all__ = ["METRICS", "faults", "missed", "render"]

Pick = Callable[[Sample, Sample], float | None]


class Metric(msgspec.Struct, frozen=True):
    """One row of a case: how it is called and which figure of a sample it shows."""

    label: str
    pick: Pick
    """Takes the sample and the direct one of the same round."""
    compared: bool = True


METRICS = {
    "cpu": Metric("CPU µs / request", lambda own, _: own.cpu_us),
    "core": Metric("core busy, %", lambda own, _: own.core and own.core * 100, compared=False),
    "rate": Metric("requests / s", lambda own, _: own.result.rate),
    "p50": Metric("p50 ms", lambda own, _: own.result.p50),
    "p99": Metric("p99 ms", lambda own, _: own.result.p99),
    "first_p50": Metric("first byte p50 ms", lambda own, _: own.result.first_p50),
    "first_p99": Metric("first byte p99 ms", lambda own, _: own.result.first_p99),
    "added_p50": Metric(
        "first byte added, p50 µs",
        lambda own, direct: _later(own.result.first_p50, direct.result.first_p50, own),
    ),
    "added_p99": Metric(
        "first byte added, p99 µs",
        lambda own, direct: _later(own.result.first_p99, direct.result.first_p99, own),
    ),
}

_TITLES = {DIRECT: "direct", "nginx": "nginx", "bare": "bare aiohttp", "raven": "Raven Proxy"}
_PAIRS = (("bare", "nginx"), ("raven", "nginx"), ("raven", "bare"))
_MAX_IDLE_MIB, _MAX_STREAM_KIB, _MAX_START_S = 80.0, 64.0, 1.0

Figures = dict[str, float]
"""Contender → median."""


def _later(own_ms: float, direct_ms: float, own: Sample) -> float | None:
    """Give the microseconds that a proxy adds; there is nothing to say of the direct sample itself."""
    return None if own.contender == DIRECT else (own_ms - direct_ms) * 1000


def render(record: Record, cases: list[Case]) -> str:
    """Write machine, table, verdicts and faults."""
    names = [DIRECT, *record.contenders]
    pairs = [(a, b) for a, b in _PAIRS if a in names and b in names]
    heads = [_TITLES[name] for name in names] + [f"{_TITLES[a]} ÷ {_TITLES[b]}" for a, b in pairs]
    lines = [
        _machine(),
        "",
        "| case | figure | " + " | ".join(heads) + " |",
        "|---|---|" + "---:|" * len(heads),
    ]
    for case, label, figures, compared in _rows(record, cases):
        cells = [_number(figures[name]) if name in figures else "" for name in names]
        for a, b in pairs:
            both = compared and a in figures and figures.get(b, 0) > 0
            cells.append(f"{figures[a] / figures[b]:.2f}" if both else "")
        lines.append(f"| {case} | {label} | " + " | ".join(cells) + " |")
    notes = [_spread(record), _noise(record), _verdict(record, cases), _describe_faults(record)]
    return "\n".join([*lines, "", *filter(None, notes)])


def _rows(record: Record, cases: list[Case]) -> list[tuple[str, str, Figures, bool]]:
    rows = []
    for case in cases:
        for name in case.metrics:
            metric = METRICS[name]
            rows.append((case.title, metric.label, _medians(record, case, metric), metric.compared))
        ratio = _translated(record, case)
        if ratio is not None:
            rows.append((case.title, "CPU ÷ passed through", {"raven": ratio}, False))
    if record.footprints:
        rows += _memory_rows(record.footprints)
    if record.starts_s:
        starts = {name: median(seconds) for name, seconds in record.starts_s.items()}
        rows.append(("Start", "spawn to ready, s", starts, True))
    return rows


def _translated(record: Record, case: Case) -> float | None:
    """Divide what a translated reply costs the gateway by what it costs untranslated, in the same run."""
    plain = next((other for other in CASES if other.name == case.untranslated), None)
    if plain is None:
        return None
    own, other = (_medians(record, one, METRICS["cpu"]).get("raven") for one in (case, plain))
    return own / other if own and other else None


def _medians(record: Record, case: Case, metric: Metric) -> Figures:
    """Take the median over the rounds; the direct sample of the same round goes along with each."""
    by_name: dict[str, list[Sample]] = {}
    for sample in record.samples:
        if sample.case == case.name:
            by_name.setdefault(sample.contender, []).append(sample)
    direct = by_name.get(DIRECT, [])  # measured in every round
    figures = {}
    for name, samples in by_name.items():
        picked = [metric.pick(own, other) for own, other in zip(samples, direct, strict=True)]
        values = [value for value in picked if value is not None]
        if values:
            figures[name] = median(values)
    return figures


def _memory_rows(footprints: list[Footprint]) -> list[tuple[str, str, Figures, bool]]:
    streams = footprints[0].streams
    loaded = f"{streams:,} streams"
    rows: list[tuple[str, str, Figures, bool]] = [
        ("Idle", "RSS MiB", {f.contender: f.idle.rss_kib / 1024 for f in footprints}, True),
        ("Idle", "PSS MiB", {f.contender: f.idle.pss_kib / 1024 for f in footprints}, True),
        (loaded, "RSS MiB", {f.contender: f.loaded.rss_kib / 1024 for f in footprints}, True),
        (loaded, "PSS MiB", {f.contender: f.loaded.pss_kib / 1024 for f in footprints}, True),
        (loaded, "RSS KiB / stream", {f.contender: _per_stream(f) for f in footprints}, True),
    ]
    return rows


def _per_stream(footprint: Footprint) -> float:
    return (footprint.loaded.rss_kib - footprint.idle.rss_kib) / footprint.streams


def _number(value: float) -> str:
    """Print three significant digits, thousands with a comma."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def missed(record: Record, cases: list[Case]) -> list[str]:
    """List the limits that the gateway breaks, with what was measured."""
    checks: list[tuple[str, float | None, float]] = []
    for case in cases:
        if case.max_cpu is not None:
            cpu = _medians(record, case, METRICS["cpu"])
            ratio = cpu["raven"] / cpu["nginx"] if {"raven", "nginx"} <= cpu.keys() else None
            checks.append((f"{case.title}, CPU ÷ nginx's", ratio, case.max_cpu))
        if case.max_translated is not None:
            checks.append(
                (f"{case.title}, CPU ÷ passed through", _translated(record, case), case.max_translated)
            )
    for footprint in record.footprints:
        if footprint.contender == "raven":
            checks.append(("RSS idle, MiB", footprint.idle.rss_kib / 1024, _MAX_IDLE_MIB))
            checks.append(("RSS per stream, KiB", _per_stream(footprint), _MAX_STREAM_KIB))
    if "raven" in record.starts_s:
        checks.append(("Start to ready, s", median(record.starts_s["raven"]), _MAX_START_S))
    return [
        f"{what}: {value:.2f}, limit {limit:g}"
        for what, value, limit in checks
        if value is not None and value > limit
    ]


def _verdict(record: Record, cases: list[Case]) -> str:
    if "raven" not in record.contenders:
        return ""
    return (
        "\n".join(f"MISSED: {line}" for line in missed(record, cases))
        or "Every limit that was measured holds."
    )


def faults(record: Record) -> int:
    """Count cut connections, replies that were not 200 and bodies that were not whole."""
    in_rounds = sum(s.result.errors + s.result.bad_status + s.result.bad_body for s in record.samples)
    return in_rounds + sum(f.streams - f.alive for f in record.footprints)


def _describe_faults(record: Record) -> str:
    if not faults(record):
        return "Faults: none (every reply 200 and whole)."
    found = [
        f"FAULTS: {s.contender}, {s.case}: {r.errors} cut, {r.bad_status} not 200, {r.bad_body} not whole"
        f" of {r.requests}; first: {r.sample}"
        for s in record.samples
        if (r := s.result).errors + r.bad_status + r.bad_body
    ]
    found += [
        f"FAULTS: {f.contender} held {f.alive} of {f.streams} streams: {f.sample}"
        for f in record.footprints
        if f.alive < f.streams
    ]
    return "\n".join(found)


def _spread(record: Record) -> str:
    """Say how far the rounds of one case lie apart: the reader's measure of trust."""
    parts = []
    for name in record.contenders:
        shares = []
        for case in CASES:
            cpu = [
                s.cpu_us for s in record.samples if (s.case, s.contender) == (case.name, name) and s.cpu_us
            ]
            if len(cpu) > 1:
                shares.append((max(cpu) - min(cpu)) / median(cpu))
        if shares:
            parts.append(f"{_TITLES[name]} {median(shares):.0%} (worst case {max(shares):.0%})")
    return f"CPU per request, highest to lowest round: {', '.join(parts)}." if parts else ""


def _noise(record: Record) -> str:
    """Warn when other programs had the proxy's core: chunks then pile up and are read together."""
    waited = [sample.waited for sample in record.samples if sample.waited is not None]
    loud = sum(share > QUIET for share in waited)
    if not loud:
        return ""
    return (
        f"NOT A QUIET MACHINE: in {loud} of {len(waited)} samples others held the proxy's core for more than "
        f"{QUIET:.0%} of the time (worst {max(waited):.0%}). Repeat before you believe the streams."
    )


def _machine() -> str:
    """Name what the figures were taken on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{model}, Linux {platform.release()}, Python {platform.python_version()}"
