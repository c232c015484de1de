"""T133: no start with a secret that can be guessed."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from raven_proxy.harness import write_toml
from raven_proxy.service import Service

from .refusals import Refusal

pytestmark = pytest.mark.usefixtures("log_lines")


WEAK = [
    "",
    "   ",
    "abcd",
    "changeme",
    "secret",
    "password123",
    "x" * 64,
    "testtesttesttesttesttest",
    "1234" * 10,
]
STRONG = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"


@pytest.mark.parametrize("value", WEAK)
def test_t133_a_weak_secret_is_refused_where_others_can_reach_us(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """RAVEN_SECRET that is empty, short or a default: no start on an address that is not loopback."""
    monkeypatch.setenv("RAVEN_SECRET", value)
    said = refusal(only="serve", listen="0.0.0.0:0")
    assert "RAVEN_SECRET" in said
    assert "openssl rand" in said
    if len(value) > 3 and value.strip():
        assert value not in said


def test_t133_an_empty_secret_is_refused_everywhere(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set but empty is a mistake, on loopback too."""
    monkeypatch.setenv("RAVEN_SECRET", "")
    assert "RAVEN_SECRET" in refusal(only="serve")


@pytest.mark.parametrize("value", ["", "\n", "abcd\n", "secret"])
def test_t133_a_secret_file_that_was_emptied_is_not_replaced(
    refusal: Refusal, tmp_path: Path, value: str
) -> None:
    """What it encrypted could not be read any more: the start is refused, naming the file."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "secret").write_text(value)
    assert str(folder / "secret") in refusal(only="serve")
    assert (folder / "secret").read_text() == value


@pytest.mark.parametrize(
    "value", ["", "abcd", "admin", "changeme-changeme-changeme", "x" * 40, "secret key with spaces!"]
)
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_t133_a_weak_administrator_key_is_refused(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, value: str, listen: str
) -> None:
    """RAVEN_ADMIN_KEY that can be guessed stops the start, on any address."""
    monkeypatch.setenv("RAVEN_SECRET", STRONG)
    monkeypatch.setenv("RAVEN_ADMIN_KEY", value)
    said = refusal({"plugins": ["auth-keys", "openai"]}, only="serve", listen=listen)
    assert "RAVEN_ADMIN_KEY" in said


async def test_t133_the_first_administrator_is_random_and_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No default password: a first start invents a key, shows it once, and never the same."""
    monkeypatch.delenv("RAVEN_ADMIN_KEY", raising=False)
    monkeypatch.delenv("RAVEN_SECRET", raising=False)
    shown: list[list[str]] = []
    for folder in ("one", "one", "two"):
        path = tmp_path / "raven.toml"
        path.write_text(write_toml({"data_dir": str(tmp_path / folder), "plugins": ["auth-keys", "openai"]}))
        service = Service(path)
        gateway = await service.start()
        shown.append([value for kind, value in gateway.announcements if kind == "admin_key"])
        await service.stop(grace_s=0)
    assert [len(keys) for keys in shown] == [1, 0, 1]
    first, third = shown[0][0], shown[2][0]
    assert first != third
    assert re.fullmatch(r"rk_live_[0-9A-Za-z]{27,}", first)
    for path in (tmp_path / "one").rglob("*"):
        assert first.encode() not in path.read_bytes()
        assert first[len("rk_live_") + 4 :].encode() not in path.read_bytes()
    secret = tmp_path / "one" / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
    assert secret.read_text() != (tmp_path / "two" / "secret").read_text()
