"""What holds for a whole run of the tests: nobody leaves a secret behind (`needles`)."""

from __future__ import annotations

import pytest

from .needles import scan, scan_text

_found: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look through what a test printed and logged; with several workers the reports come together here."""
    if report.passed:
        _found.extend(scan_text(report.nodeid, (text for _, text in report.sections)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look through what all tests wrote, once, where the workers' folders lie together."""
    if hasattr(session.config, "workerinput"):
        return
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None:
        _found.extend(scan(factory.getbasetemp()))
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was found."""
    if _found:
        terminalreporter.section("secrets were left behind", sep="!", red=True)
        for line in _found[:50]:
            terminalreporter.write_line(line)
