"""Counts what the conformance tests checked, prints it as tables, and writes them into the documents.

A pytest plugin, for `make conformance`: tests name what they check with the properties "cell" (face,
vendor, kind) and "request" (client's dialect, target, outcome); those of `test_recorded` are known by name.
With RAVEN_CONFORMANCE=write the tables also replace what stands between `<!-- conformance -->` and
`<!-- /conformance -->`, in this folder's README (in full) and in the repository's (in short).
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from .recordings import load_all

__all__ = ["full_tables", "short_table", "write_block"]

_ROOT = Path(__file__).parents[2]
_FACES = ("same bytes", "chat", "responses", "messages", "completions", "Node", "AI SDK")
_BLOCK = re.compile(r"(<!-- conformance -->\n).*?(<!-- /conformance -->)", re.DOTALL)

Cells = dict[tuple[str, str, str], list[int]]
"""(face, vendor, kind) → how many passed, how many there are."""


class Scoreboard:
    """What was counted in one run."""

    def __init__(self) -> None:
        self.cells: Cells = defaultdict(lambda: [0, 0])
        self.requests: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test that ran."""
        if report.when != "call" or report.skipped:
            return
        if "/test_recorded.py::" in report.nodeid:
            self._count_recorded(report)
        for name, value in report.user_properties:
            if name == "cell":
                face, vendor, kind = map(str, value)  # type: ignore[call-overload]
                self.cells[face, vendor, kind][0] += report.passed
                self.cells[face, vendor, kind][1] += 1
            elif name == "request":
                source, target, outcome = map(str, value)  # type: ignore[call-overload]
                self.requests[source, target][outcome if report.passed else "wrong"] += 1

    def _count_recorded(self, report: pytest.TestReport) -> None:
        """Count a test that names its recording but no cell."""
        for recording in load_all():
            if report.nodeid.endswith(f"[{recording.id}]"):
                cell = self.cells["same bytes", recording.provider, recording.kind]
                cell[0] += report.passed
                cell[1] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print, and write if it was asked for."""
        if not self.cells and not self.requests:
            return
        full = full_tables(self.cells, self.requests)
        terminalreporter.write_line("\n" + full)
        if os.environ.get("RAVEN_CONFORMANCE") == "write":
            write_block(_ROOT / "tests" / "conformance" / "README.md", full)
            write_block(_ROOT / "README.md", short_table(self.cells, self.requests))


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.pluginmanager.register(Scoreboard(), "raven-scoreboard")


def full_tables(cells: Cells, requests: dict[tuple[str, str], Counter[str]]) -> str:
    """Write each face of each vendor and kind, and the requests, as Markdown."""
    rows = sorted({(vendor, kind) for _, vendor, kind in cells})
    lines = _table(
        ("vendor", "kind", *_FACES),
        ((vendor, kind, *(_cell(cells, face, {(vendor, kind)}) for face in _FACES)) for vendor, kind in rows),
    )
    lines += ["", *_table(("all vendors", "", *_FACES), [_total(cells)])]
    sources = sorted({source for source, _ in requests})
    targets = sorted({target for _, target in requests})
    if targets:
        lines += ["", *_table(("request", *targets), (_requests(requests, one, targets) for one in sources))]
    return "\n".join(lines)


def short_table(cells: Cells, requests: dict[tuple[str, str], Counter[str]]) -> str:
    """Write each face of each vendor as Markdown."""
    vendors = sorted({vendor for _, vendor, _ in cells})
    rows = []
    for vendor in vendors:
        mine = {(vendor, kind) for _, other, kind in cells if other == vendor}
        rows.append((vendor, *(_cell(cells, face, mine) for face in _FACES)))
    total = _total(cells)
    lines = _table(("vendor", *_FACES), [*rows, (f"**{total[0]}**", *total[2:])])
    sent = sum(count["sent"] for count in requests.values())
    told = sum(count["refused"] for count in requests.values())
    wrong = sum(count["wrong"] for count in requests.values())
    lines += ["", f"Requests of one dialect to another's vendor: {sent} valid, {told} refused with a reason"]
    lines[-1] += f", {wrong} wrong." if wrong else "."
    return "\n".join(lines)


def write_block(path: Path, text: str) -> None:
    """Replace what stands between the markers of a document. Raises ValueError where there are none."""
    document = path.read_text()
    if not _BLOCK.search(document):
        raise ValueError(f"{path} has no <!-- conformance --> block")
    path.write_text(_BLOCK.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", document))


def _total(cells: Cells) -> tuple[str, ...]:
    every = {(vendor, kind) for _, vendor, kind in cells}
    return ("all", "", *(_cell(cells, face, every) for face in _FACES))


def _cell(cells: Cells, face: str, rows: set[tuple[str, str]]) -> str:
    found = [cells[face, vendor, kind] for vendor, kind in rows if (face, vendor, kind) in cells]
    passed, every = sum(one[0] for one in found), sum(one[1] for one in found)
    return f"{passed}/{every}" if every else ""


def _requests(
    requests: dict[tuple[str, str], Counter[str]], source: str, targets: Iterable[str]
) -> tuple[str, ...]:
    cells = []
    for target in targets:
        count = requests.get((source, target), Counter())
        words = [f"{count[name]} {name}" for name in ("sent", "refused", "wrong") if count[name]]
        cells.append(", ".join(words))
    return (source, *cells)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    return [re.sub(r" {2,}", " ", f"| {line} |") for line in lines]
