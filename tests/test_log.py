"""Logs: one JSON line per event, and no secret in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog

from raven_proxy import log

SECRETS = [
    "sk-proj-abcdefghijklmnop1234",
    "rk_live_abcdefghijklmnop1234",
    "gsk_abcdefghijklmnop1234",
    "AIzaSyAbcdefghijklmnopqrstu1234",
    "Bearer abcdefghijklmnop1234",
    "https://x/y?key=abcdefghijklmnop1234",
]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    written: list[bytes] = []
    before, handlers = structlog.get_config(), list(logging.root.handlers)
    log.configure("info", written.append)
    yield Lines(written)
    structlog.configure(**before)
    logging.root.handlers[:] = handlers


class Lines(list[dict[str, Any]]):
    """What was logged, decoded line by line when it is looked at."""

    def __init__(self, written: list[bytes]) -> None:
        self.written = written

    @property
    def raw(self) -> bytes:
        return b"".join(self.written)

    def decode(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.raw.splitlines()]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_credential_is_cut_to_its_last_four(secret: str) -> None:
    scrubbed = log.scrub(f"refused: {secret} sorry")
    assert "abcdefgh" not in scrubbed
    assert scrubbed.endswith("…1234 sorry")


def test_of_a_short_secret_nothing_stays() -> None:
    assert log.scrub("Bearer abc123") == "Bearer …"


@pytest.mark.parametrize(
    "text", ["the key is wrong", "gpt-4o-mini", "risk-free", "task_force", "token", "req_0123456789abcdef"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert log.scrub(text) == text


@pytest.mark.parametrize("secret", SECRETS)
def test_no_field_of_an_event_carries_a_secret(lines: Lines, secret: str) -> None:
    logger = structlog.get_logger("test")
    try:
        raise ValueError(f"bad {secret}")
    except ValueError as error:
        logger.error(
            f"said {secret}", text=secret, nested={"headers": [secret]}, authorization="short", exc_info=error
        )
    logging.getLogger("aiohttp.server").error("library said %s", secret)  # noqa: TID251 - it plays the library
    assert b"abcdefgh" not in lines.raw
    assert b"short" not in lines.raw
    first, second = lines.decode()
    assert first["level"] == "error"
    assert "ValueError" in first["exception"]
    assert second["logger_name"] == "aiohttp.server"


def test_an_event_is_one_line_whatever_its_values_hold(lines: Lines) -> None:
    text = "a\nb\r\x1b[31m\u2028\u2029\x85{}"
    structlog.get_logger("test").warning("x", text=text, number=1, truth=True, nothing=None)
    assert lines.raw.count(b"\n") == 1
    assert len(lines.raw.decode().splitlines()) == 1
    (event,) = lines.decode()
    assert event["text"] == text
    assert (event["number"], event["truth"], event["nothing"]) == (1, True, None)


def test_the_level_is_obeyed(lines: Lines) -> None:
    structlog.get_logger("test").debug("too fine")
    assert lines.raw == b""


def test_configuring_twice_does_not_log_twice(lines: Lines) -> None:
    log.configure("info", lines.written.append)
    logging.getLogger("asyncio").warning("once")  # noqa: TID251 - it plays the library
    assert len(lines.decode()) == 1
