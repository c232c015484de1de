"""Metering of streams that pass untouched: a reader of what tells something, and of nothing else.

Most events are pieces of text. They are kept as bytes and looked through in batches; only the few that
say what was used, how it ended or that it failed go to the dialect's reader. What is found does not
depend on how the bytes were cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from raven_proxy.dialects import Reader
from raven_proxy.exchange import Exchange
from raven_proxy.metering import UNREADABLE, Meter
from raven_proxy.providers import Tally

__all__ = ["StreamTap"]

_BATCH = 16 * 1024
# Plain words cost a tenth of a pattern. One that stands in a text only makes the reader look in vain.
_TELLING = (
    b'"message_start"', b'"message_delta"', b'"message_stop"', b'"tool_use"', b'"error"', b"error\n",
)  # fmt: skip
_WORDS = re.compile(rb'"(?:text|thinking|partial_json)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)


class StreamTap:
    """Reads a stream of Messages."""

    __slots__ = ("_due", "_meter", "_parts", "_reader", "_size", "_words")

    def __init__(self, exchange: Exchange, reader: Reader) -> None:
        self._meter = Meter(exchange)
        self._reader = reader
        self._parts: list[bytes] = []  # not looked through yet; begins where an event begins
        self._size = 0
        self._due = _BATCH
        self._words = 0  # bytes of the model's words

    def feed(self, data: bytes) -> None:
        """Keep the next bytes, and look through them once enough have come."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._due:
            text = b"".join(self._parts)
            end = text.rfind(b"\n\n") + 2
            if b"\r" in text or end < 2:  # seldom: the reader knows every kind of line end
                end = 0
            self._look(text[:end])
            self._count(text[:end])  # nobody can say yet whether usage will be reported
            self._parts = [text[end:]] if end < len(text) else []
            self._size = len(text) - end
            self._due = max(_BATCH, 2 * self._size)  # what is incomplete is joined again when it has doubled

    def close(self) -> Tally:
        """Look through the rest; an event without its empty line is read like any other."""
        text = b"".join(self._parts)
        self._parts = []
        self._look(text)
        with suppress(*UNREADABLE):  # a last event that broke off ends nothing
            for event in self._reader.close():
                self._meter.note(event)
        if self._meter.usage is None:
            self._count(text)
            self._meter.written = self._words
        return self._meter.tally()

    def _look(self, text: bytes) -> None:
        if b"\r" in text:
            self._tell(text)
            return
        done = 0
        for place in sorted(_places(text)):
            if place < done:
                continue  # one look at each event
            begin = text.rfind(b"\n\n", done, place)
            begin = done if begin < 0 else begin + 2
            end = text.find(b"\n\n", place)
            done = len(text) if end < 0 else end + 2
            self._tell(text[begin:done])

    def _count(self, text: bytes) -> None:
        self._words += sum(map(len, _WORDS.findall(text)))

    def _tell(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            self._meter.note(event)


def _places(text: bytes) -> Iterator[int]:
    for word in _TELLING:
        place = text.find(word)
        while place >= 0:
            yield place
            place = text.find(word, place + 1)
