"""Metering replies that carry images, sound or text about them, without reading what they carry.

A document is read in one narrow decode that steps over base64; of a long event only the ends are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from raven_openai import documents, events
from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally

from .usage import guess_recording, seconds_of_subtitles

__all__ = ["Document", "DocumentTap", "EventsTap", "SilentTap", "TextTap"]

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_NULL = msgspec.Raw(b"null")
_BATCH = 64 * 1024
_ENDS = 8 * 1024  # kept of each end of a long event; what lies between is base64
_KEPT_TEXT = 4096
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_LAST = re.compile(rb'"type"\s*:\s*"[a-z_.]{1,64}\.(?:completed|done)"')
_DELTA = re.compile(rb'"delta"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')


class Document(msgspec.Struct):
    """What metering looks at in a JSON reply. `data` and `text` are left as they are."""

    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    duration: Any = None
    data: msgspec.Raw = _NULL
    text: msgspec.Raw = _NULL

    def count_data(self) -> int:
        """Count the elements of `data`."""
        try:
            return len(_decode_list(self.data) or ())
        except _UNREADABLE:
            return 0


_decode = msgspec.json.Decoder(Document).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_decode_any = msgspec.json.Decoder().decode


class DocumentTap:
    """Reads a reply that is one JSON document; `measure` makes the usage of it."""

    __slots__ = ("_measure", "_parts", "_secret")

    def __init__(self, measure: Callable[[Document], Usage], secret: str) -> None:
        self._measure = measure
        self._secret = secret
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Keep the next bytes."""
        self._parts.append(data)

    def close(self) -> Tally:
        """Read the document; one that is no JSON object is not complete."""
        parts = self._parts
        try:
            document = _decode(parts[0] if len(parts) == 1 else b"".join(parts))
        except _UNREADABLE:
            return Tally(usage=Usage(estimated=True), complete=False)
        shown = documents.Document(error=document.error, object=document.object, message=document.message)
        error = documents.error_of(shown, self._secret)
        usage = self._measure(document) if error is None else Usage(estimated=True)
        return Tally(usage=usage, error=error)


class EventsTap:
    """Reads a stream of events: the last usage object, how many results came, an error.

    `measure(table, results, written)` makes the usage of it; `written` are the bytes of text deltas.
    """

    __slots__ = (
        "_error",
        "_is_done",
        "_measure",
        "_parts",
        "_results",
        "_secret",
        "_size",
        "_table",
        "_written",
    )

    def __init__(self, measure: Callable[[Any, int, int], Usage], secret: str) -> None:
        self._measure = measure
        self._secret = secret
        self._parts: list[bytes] = []
        self._size = 0
        self._table: Any = None
        self._results = 0
        self._written = 0
        self._error: str | None = None
        self._is_done = False

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, and look through the events they complete once enough have come."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > _BATCH:
            text = b"".join(self._parts)
            end = events.last_end(text)
            self._read(text[:end])
            rest = text[end:]
            if len(rest) > 2 * _ENDS:
                rest = rest[:_ENDS] + rest[-_ENDS:]
            self._parts, self._size = [rest], len(rest)

    def close(self) -> Tally:
        """Look through the rest."""
        self._read(b"".join(self._parts))
        self._parts = []
        usage = self._measure(self._table, self._results, self._written)
        is_complete = self._is_done or self._results > 0
        return Tally(usage=usage, complete=is_complete, error=self._error)

    def _read(self, text: bytes) -> None:
        self._is_done = self._is_done or b"[DONE]" in text
        self._results += sum(1 for _ in _LAST.finditer(text))
        self._written += sum(map(len, _DELTA.findall(text)))
        at = text.rfind(b'"usage"')
        match = _USAGE.match(text, at) if at >= 0 else None
        if match is not None:
            with suppress(*_UNREADABLE):
                self._table = _decode_any(match[1])
        if self._error is None and b'"error"' in text:
            self._error = self._find_error(text)

    def _find_error(self, text: bytes) -> str | None:
        read_to = 0
        for match in _ERROR.finditer(text):
            if match.start() >= read_to:
                begin, read_to = events.bounds(text, match.start())
                document = documents.read_event(text[begin:read_to])
                error = documents.error_of(document, self._secret) if document is not None else None
                if error is not None:
                    return error
        return None


class TextTap:
    """Counts a transcript that came as text, SubRip or WebVTT."""

    __slots__ = ("_size", "_tail")

    def __init__(self) -> None:
        self._size = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Count the next bytes, and keep the last of them."""
        self._size += len(data)
        self._tail = (self._tail + data[-_KEPT_TEXT:])[-_KEPT_TEXT:]

    def close(self) -> Tally:
        """Estimate the usage; the end of the bytes is the end of the reply."""
        return Tally(usage=guess_recording(self._size, seconds_of_subtitles(self._tail)))


class SilentTap:
    """Knows the usage beforehand: the reply is sound, and says nothing."""

    __slots__ = ("_usage",)

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def feed(self, data: bytes) -> None:
        """Look at nothing."""

    def close(self) -> Tally:
        """Give the usage; the end of the bytes is the end of the reply."""
        return Tally(usage=self._usage)
