"""The scan that ends a run finds what it looks for, wherever it lies, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from . import conftest
from .needles import scan, scan_text

KEY = "rk_live_" + "Q7xw" * 8
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def take_away(tmp_path: Path) -> Iterator[None]:
    """What is planted here must not be found when this run itself ends."""
    yield
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", ["raven.db", "raven.db-wal", "counters.db", "journal/0001.log", "stderr"])
def test_a_key_that_was_left_behind_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "test_x0" / "data" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0" * (1 << 20) + KEY.encode() + b"\0")
    assert list(scan(tmp_path)) == [f"{path.relative_to(tmp_path)}: rk_live_Q7xw…"]


def test_a_key_over_the_border_of_two_reads_is_found(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_bytes(b"\0" * ((1 << 20) - 20) + KEY.encode())
    assert len(list(scan(tmp_path))) == 1


def test_a_shown_beginning_beside_its_digest_is_no_key(tmp_path: Path) -> None:
    """As SQLite lays a row out."""
    database = sqlite3.connect(tmp_path / "raven.db")
    database.execute("CREATE TABLE keys (prefix TEXT, digest TEXT)")
    database.execute("INSERT INTO keys VALUES ('rk_live_Q7xw', ?)", (DIGEST,))
    database.commit()
    database.close()
    assert list(scan(tmp_path)) == []


def test_configuration_may_hold_secrets(tmp_path: Path) -> None:
    (tmp_path / "provider-key").write_text("sk-upstream-test")
    (tmp_path / "raven.toml").write_text(KEY)
    assert list(scan(tmp_path)) == []


def test_a_run_that_leaves_a_secret_behind_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "_found", [])
    (tmp_path / "stderr").write_text(f"key={KEY}")
    config = SimpleNamespace(_tmp_path_factory=SimpleNamespace(getbasetemp=lambda: tmp_path))
    session: Any = SimpleNamespace(config=config, exitstatus=pytest.ExitCode.OK)
    conftest.pytest_sessionfinish(session)
    assert session.exitstatus is pytest.ExitCode.TESTS_FAILED
    assert list(scan_text("a test", ["sk-upstream-test"])) == ["a test: sk-upstream-…"]
