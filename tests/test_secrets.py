"""The gateway's own secret: generated once, kept private, and refused when it can be guessed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raven_proxy.errors import ConfigError
from raven_proxy.secrets import check_strength, load_secret

STRONG = "q8Zr3vXw1LmN5tYb7KdPzH2c"


def test_a_secret_is_generated_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    first = load_secret(tmp_path, is_loopback=False)
    assert len(first) == 32
    assert load_secret(tmp_path, is_loopback=False) == first
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated = load_secret(tmp_path, is_loopback=False)
    monkeypatch.setenv("RAVEN_SECRET", STRONG)
    assert load_secret(tmp_path, is_loopback=False) != generated


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "raven",
        "changeme-changeme-changeme",
        "a" * 40,
        "secretsecretpassword1234",
        "test-test-test-test-test",
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_where_others_can_reach_us(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVEN_SECRET", value)
    with pytest.raises(ConfigError, match=r"RAVEN_SECRET.*openssl rand"):
        load_secret(tmp_path, is_loopback=False)


def test_on_loopback_a_weak_secret_will_do_but_an_empty_one_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVEN_SECRET", "test")
    assert len(load_secret(tmp_path, is_loopback=True)) == 32
    monkeypatch.setenv("RAVEN_SECRET", "")
    with pytest.raises(ConfigError, match="empty"):
        load_secret(tmp_path, is_loopback=True)


def test_a_secret_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    with pytest.raises(ConfigError, match="secret is empty"):
        load_secret(tmp_path, is_loopback=True)


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret"):
        load_secret(tmp_path / "missing", is_loopback=True)


def test_a_strong_value_passes() -> None:
    check_strength("X", STRONG)
