"""Metering: readers of a copy of the vendor's bytes, streamed or whole.

On the hot path a stream's tap does nothing but keep the bytes; they are looked through in batches of
16 KiB, and once more at the end. What a tap finds does not depend on how the bytes were cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally, estimate_prompt, estimate_tokens
from raven_proxy.refusals import read_error, scrub

from . import documents, events, finish
from .plain import read_plain
from .usage import count_text, read_usage

__all__ = ["Metering", "StreamTap", "WholeTap"]

_BATCH = 16 * 1024
_LONGEST_EVENT = 256 * 1024  # a longer one holds an image or a file; it is not read

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]+)"')
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')
_ERROR_EVENT = re.compile(rb"event: ?error")


class Metering(msgspec.Struct, frozen=True):
    """What a tap needs to know of the request and the vendor.

    `body` is the client's request, for estimates. `secret` is the credential, kept out of messages.
    """

    body: bytes
    is_chat: bool = True
    is_embeddings: bool = False
    ends_with_done: bool = True
    reasoning_apart: bool = False
    words: Mapping[str, str] = {}
    secret: str = ""

    def make_usage(self, table: dict[str, Any] | None, written: Callable[[], int], *, failed: bool) -> Usage:
        """Read `table`, or estimate from the `written` bytes of the model's words.

        A reply that failed before its first word costs nothing.
        """
        if table is None and failed and not written():
            return Usage(estimated=True)
        known = table or {}
        if self.is_embeddings:
            known = {"completion_tokens": 0, **known}
        return read_usage(
            known,
            lambda: estimate_prompt(self.body),
            lambda: estimate_tokens(written()),
            reasoning_apart=self.reasoning_apart,
        )


class WholeTap:
    """Reads a reply that is one JSON document."""

    __slots__ = ("_metering", "_parts")

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Keep the next bytes."""
        self._parts.append(data)

    def close(self) -> Tally:
        """Read the document. One that is no JSON object is not `complete`."""
        text = b"".join(self._parts)
        plain = read_plain(text)
        if plain is not None:
            return plain
        metering = self._metering
        if text.lstrip()[:5] == b"data:":  # events, whatever the content type says
            stream = StreamTap(metering)
            stream.feed(text)
            return stream.close()
        document = documents.read(text)
        table = word = error = None
        if document is not None:
            table = documents.usage_of(document)
            choices = documents.choices_of(document)
            word = choices[0].finish_reason if choices else None
            error = documents.error_of(document, metering.secret)
        usage = metering.make_usage(
            table, lambda: count_text(text, is_chat=metering.is_chat), failed=error is not None
        )
        return Tally(
            usage=usage,
            finish_reason=finish.normalize(word, metering.words, text) if word is not None else None,
            complete=document is not None,
            error=error,
        )


class StreamTap:
    """Reads a reply that is a stream of events. The last usage object wins; nothing is summed."""

    __slots__ = (
        "_due",
        "_error",
        "_is_done",
        "_is_skipping",
        "_metering",
        "_parts",
        "_size",
        "_table",
        "_word",
        "_written",
    )

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._parts: list[bytes] = []  # not looked through yet; begins where an event begins
        self._size = 0
        self._due = _BATCH
        self._is_skipping = False  # inside an event that is too long
        self._table: dict[str, Any] | None = None
        self._word: bytes | None = None
        self._written = 0  # bytes of the model's words, in what was looked through
        self._error: str | None = None
        self._is_done = False

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, and look through them once enough have come."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._due:
            self._read_batch()

    def written(self) -> int:
        """Count the bytes of the model's words so far."""
        return self._written + count_text(b"".join(self._parts), is_chat=self._metering.is_chat)

    def close(self) -> Tally:
        """Look through the rest; an event without its empty line is read like any other."""
        metering = self._metering
        text = _without_long_events(self._take())
        self._read(text)
        usage = metering.make_usage(
            self._table,
            lambda: self._written + count_text(text, is_chat=metering.is_chat),
            failed=self._error is not None,
        )
        word = self._word.decode("utf-8", "replace") if self._word is not None else None
        return Tally(
            usage=usage,
            finish_reason=finish.normalize(word, metering.words) if word is not None else None,
            complete=self._is_done or (word is not None and not metering.ends_with_done),
            error=self._error,
        )

    def _take(self) -> bytes:
        text = b"".join(self._parts)
        self._parts = []
        if not self._is_skipping:
            return text
        match = events.EVENT_END.search(text)
        if match is None:
            self._parts = [text[-3:]]  # the event's end can lie across the border
            return b""
        self._is_skipping = False
        return text[match.end() :]

    def _read_batch(self) -> None:
        text = self._take()
        end = events.last_end(text)
        ready = _without_long_events(text[:end])
        self._read(ready)
        # Nobody can say yet whether a usage object will come.
        self._written += count_text(ready, is_chat=self._metering.is_chat)
        rest = text[end:]
        if len(rest) > _LONGEST_EVENT:
            self._is_skipping = True
            rest = rest[-3:]
        if rest:
            self._parts = [rest]
        self._size = len(rest)
        self._due = max(_BATCH, 2 * len(rest))  # an incomplete event is joined again only when it has doubled

    def _read(self, text: bytes) -> None:
        table = _last_usage(text)
        if table is not None:
            self._table = table
        found = _last_match(_FINISH, b'"finish_reason"', text)
        if found is not None:
            self._word = found[1]
        if self._error is None:
            self._error = self._find_error(text)
        if not self._is_done:
            self._is_done = _has_done(text)

    def _find_error(self, text: bytes) -> str | None:
        if b'"error"' not in text and b"event:" not in text:  # a plain search costs a tenth of a pattern's
            return None
        found = [*_ERROR.finditer(text), *_ERROR_EVENT.finditer(text)]
        read_to = 0
        for match in sorted(found, key=re.Match.start):
            if match.start() < read_to:
                continue  # one look at each event
            begin, read_to = events.bounds(text, match.start())
            error = self._read_error(text[begin:read_to])
            if error is not None:
                return error
        return None

    def _read_error(self, event: bytes) -> str | None:
        secret = self._metering.secret
        document = documents.read_event(event)
        error = documents.error_of(document, secret) if document is not None else None
        if error is None and any(_ERROR_EVENT.match(line) for line in event.splitlines()):
            said = read_error(events.data_of(event)).message
            return scrub(said, secret)[:2048] or "The provider reported an error."
        return error


def _last_match(pattern: re.Pattern[bytes], needle: bytes, text: bytes) -> re.Match[bytes] | None:
    """Find the last match of `pattern`, which begins with `needle`: what is sought is mostly near the end."""
    at = text.rfind(needle)
    while at >= 0:
        match = pattern.match(text, at)
        if match is not None:
            return match
        at = text.rfind(needle, 0, at)
    return None


def _last_usage(text: bytes) -> dict[str, Any] | None:
    match = _last_match(_USAGE, b'"usage"', text)
    while match is not None:
        table = _usage_of(documents.read(events.line_at(text, match.start())))
        if table is not None:
            return table
        begin, end = events.bounds(text, match.start())
        table = _usage_of(documents.read_event(text[begin:end]))
        if table is not None:
            return table
        text = text[:begin]  # one look at each event
        match = _last_match(_USAGE, b'"usage"', text)
    return None


def _usage_of(document: documents.Document | None) -> dict[str, Any] | None:
    return documents.usage_of(document) if document is not None else None


def _has_done(text: bytes) -> bool:
    at = text.rfind(b"[DONE]")
    while at >= 0:
        field = at - 6 if text[at - 1 : at] == b" " else at - 5
        if text[max(0, field) : at].rstrip() == b"data:" and (field == 0 or text[field - 1] in b"\r\n"):
            return True
        at = text.rfind(b"[DONE]", 0, at)
    return False


def _without_long_events(text: bytes) -> bytes:
    if len(text) <= _LONGEST_EVENT:
        return text
    return b"".join(event for event in events.split(text) if len(event) <= _LONGEST_EVENT)
