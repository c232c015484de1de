"""JSON logs, one line per event, without secrets.

Everything passes one redaction: values of telling keys are masked, and whatever looks like a key
inside a text is cut to its last four characters. Prompts are not logged at all.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import structlog

__all__ = ["configure", "redact", "scrub"]

_SECRET = re.compile(
    r"(?i)(\b(?:sk|rk|pk|gsk|xai|hf|nvapi|pplx|fw|AIza)[-_][A-Za-z0-9_\-]{8,}|\bAIza[A-Za-z0-9_\-]{20,}"
    r"|(?<=bearer )[^\s\"',]+|(?<=basic )[^\s\"',]+|(?<=[?&]key=)[^\s&\"']+|(?<=api_key=)[^\s&\"']+)"
)
_SECRET_NAMES = frozenset(
    "authorization x-api-key api-key api_key apikey x-goog-api-key x-provider-key cookie set-cookie "
    "password secret token credential".split()
)
# A dict of headers that was printed: `{'cookie': 'session=…'}`.
_NAMED = re.compile(rf"""(?i)(?<=['"])((?:{"|".join(sorted(_SECRET_NAMES))})['"]: ?(['"]))(?:\\.|(?!\2).)+""")
_LINE_BREAKS = {b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029", b"\xc2\x85": b"\\u0085"}
_encoder = msgspec.json.Encoder(enc_hook=repr)


def scrub(text: str) -> str:
    """Mask what looks like a credential in a text: its last four characters stay, or nothing."""
    text = _SECRET.sub(lambda match: _mask(match[0]), text)
    return _NAMED.sub(r"\1…", text) if "'" in text or '"' in text else text


def _mask(secret: str) -> str:
    return f"…{secret[-4:]}" if len(secret) >= 16 else "…"


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask secrets in an event (a structlog processor)."""
    del logger, method
    for name, value in event.items():
        if name.lower() in _SECRET_NAMES:
            event[name] = "…"
        elif isinstance(value, str):
            if len(value) > 8:
                event[name] = scrub(value)
        elif not isinstance(value, int | float | bool | None):
            event[name] = scrub(repr(value))
    return event


def _render(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    del logger, method
    try:
        line = _encoder.encode(event)
    except UnicodeEncodeError:  # a header's bytes that are no UTF-8
        line = _encoder.encode({name: _plain(value) for name, value in event.items()})
    for character, escape in _LINE_BREAKS.items():
        if character in line:
            line = line.replace(character, escape)
    return line


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def configure(level: str = "info", write: Callable[[bytes], Any] | None = None) -> None:
    """Set up structlog for this process, and lead the standard library's loggers into it.

    `write` takes one line with its newline; by default it goes to standard error.
    """
    number = getattr(logging, level.upper())
    stream = _Stream(write) if write is not None else sys.stderr.buffer
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=stream),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,  # tests and reloads configure again
    )
    root = logging.root
    for handler in [h for h in root.handlers if isinstance(h, _ToStructlog)]:
        root.removeHandler(handler)
    root.addHandler(_ToStructlog(level=logging.WARNING))


class _Stream:
    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self.write = write

    def flush(self) -> None:
        pass


class _ToStructlog(logging.Handler):
    """Carries what libraries log (asyncio, aiohttp, aiosqlite) through the same redaction."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger_name": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        log = structlog.get_logger("library")
        log.log(max(record.levelno, logging.WARNING), record.getMessage(), **fields)
