"""Meters Responses streams that pass untouched: the beginning for the id, the end for everything else.

What lies between is only searched, in batches, for the model's words (an estimate needs them where no
usage comes) and for an end or an error. Reading each event would cost four times as much.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from raven_openai.events import bounds, data_of, last_end
from raven_proxy import hub
from raven_proxy.exchange import Exchange
from raven_proxy.metering import Meter
from raven_proxy.providers import Tally
from raven_proxy.sse import Event, EventReader

from .reader import read_alone

__all__ = ["StreamTap"]

_BATCH = 16 * 1024
_DELTA = re.compile(rb'"delta"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# A quote inside a JSON string is escaped, so only members' names and whole values match.
_TELLING = re.compile(rb'"(?:response\.(?:completed|incomplete|failed|cancelled)|error)"')
_WORDS = (
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"response.cancelled",
    b'"error"',
)


class StreamTap:
    """Reads a copy of a stream; `note` is told the response's id once it is known."""

    __slots__ = ("_begun", "_due", "_events", "_meter", "_note", "_parts", "_size", "_written")

    def __init__(self, exchange: Exchange, note: Callable[[str], None]) -> None:
        self._meter = Meter(exchange)
        self._note = note
        self._events = EventReader()  # until the response has begun
        self._begun = False
        self._parts: list[bytes] = []  # not looked through yet; begins where an event begins
        self._size = 0
        self._due = _BATCH
        self._written = 0  # bytes of the model's words, in what was looked through

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, and look through them once enough have come."""
        if not self._begun:
            self._begin(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._due:
            self._read_batch()

    def close(self) -> Tally:
        """Look through the rest; an event without its empty line is read like any other."""
        text = b"".join(self._parts) if self._begun else self._events.pending
        self._parts = []
        self._read(text)
        if not self._meter.is_complete:
            self._meter.written = self._written
        return self._meter.tally()

    def _begin(self, data: bytes) -> None:
        for event in self._events.feed(data):
            if self._begun:
                self._read(event.raw)
            else:
                self._look(event)
        if self._begun:
            rest = self._events.pending
            self._parts, self._size = [rest], len(rest)

    def _look(self, event: Event) -> None:
        for found in read_alone(event.data):
            if isinstance(found, hub.Started):
                self._begun = True
                self._note(found.id)
            self._meter.note(found)

    def _read_batch(self) -> None:
        text = b"".join(self._parts)
        end = last_end(text)
        self._read(text[:end])
        rest = text[end:]
        self._parts, self._size = [rest], len(rest)
        self._due = max(_BATCH, 2 * len(rest))  # an incomplete event is joined again only when it has doubled

    def _read(self, text: bytes) -> None:
        read_to = 0
        for match in _TELLING.finditer(text) if any(word in text for word in _WORDS) else ():
            if match.start() < read_to:
                continue  # one look at each event
            begin, read_to = bounds(text, match.start())
            for found in read_alone(data_of(text[begin:read_to])):
                self._meter.note(found)
        if not self._meter.is_complete:  # else the end has told what there was
            self._written += sum(map(len, _DELTA.findall(text)))
