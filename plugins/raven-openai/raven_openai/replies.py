"""The stages that stand between a vendor's reply and the client, where one is needed at all.

Everything here is bytes in, bytes out, and gives the same bytes whatever the reads look like. Only
an event that has to change is decoded; all others pass as they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from raven_proxy.faces import Stage

from . import finish
from .events import EVENT_END, data_of, last_end, line_at, split

__all__ = ["EventFilter", "WholeReply", "open_stage"]

_HOLD = 64 * 1024  # bytes of one event; no usage chunk is that long
_USAGE_CHUNK = re.compile(rb'"choices"\s*:\s*\[\s*\]')


_NULL = msgspec.Raw(b"null")


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None
    error: msgspec.Raw = _NULL  # a union with None would take nothing but null


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def open_stage(*, streamed: bool, hide_usage: bool, words: Mapping[str, str] | None) -> Stage | None:
    """Give the stage for one reply, or None if its bytes may pass untouched.

    `hide_usage` takes out the usage chunk that only the gateway asked for. `words` are a vendor's own
    finish reasons; None says that it uses only the standard ones.
    """
    if not streamed:
        return None if words is None else WholeReply(words)
    hiding = EventFilter(_USAGE_CHUNK, _drop_usage) if hide_usage else None
    if words is None:
        return hiding
    table = words
    wording = EventFilter(finish.FOREIGN_IN_STREAM, lambda event: finish.rewrite(event, table, streamed=True))
    return wording if hiding is None else _Both(hiding, wording)


class _Both:
    __slots__ = ("_first", "_second")

    def __init__(self, first: Stage, second: Stage) -> None:
        self._first = first
        self._second = second

    def feed(self, data: bytes) -> bytes:
        return self._second.feed(self._first.feed(data))

    def close(self) -> bytes:
        return self._second.feed(self._first.close()) + self._second.close()


class WholeReply:
    """Puts standard finish reasons into a reply that is not streamed."""

    __slots__ = ("_words",)

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words

    def feed(self, data: bytes) -> bytes:
        """Take the whole reply."""
        return finish.rewrite(data, self._words) if finish.FOREIGN_WORD.search(data) else data

    def close(self) -> bytes:
        """Give nothing: nothing was held back."""
        return b""


class EventFilter:
    """Changes the events that `suspect` finds something in; `change` returns b"" to drop one.

    An event is held back only while it is incomplete, and no more than 64 KiB of it: a longer one
    goes on unchanged.
    """

    __slots__ = ("_change", "_held", "_is_passing", "_suspect")

    def __init__(self, suspect: re.Pattern[bytes], change: Callable[[bytes], bytes]) -> None:
        self._suspect = suspect.search
        self._change = change
        self._held = b""  # the beginning of an incomplete event
        self._is_passing = False  # inside an event whose beginning has gone on already

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the events they complete."""
        if not self._held and not self._is_passing and data[-2:] == b"\n\n":
            return self._change_some(data)
        text = self._held + data
        # The end can lie across the border, at most three bytes back.
        end = last_end(text, max(0, len(self._held) - 3))
        out: list[bytes] = []
        start = 0
        if end and self._is_passing:
            match = EVENT_END.search(text)
            start = match.end() if match is not None else end
            out.append(text[:start])
            self._is_passing = False
        out.append(self._change_some(text[start:end]))
        self._hold(text[end:], out)
        return b"".join(out)

    def close(self) -> bytes:
        """Return what was held back: an event without its empty line is judged like any other."""
        held, self._held = self._held, b""
        if self._is_passing or self._suspect(held) is None:
            return held
        return self._change(held)

    def _change_some(self, ready: bytes) -> bytes:
        """Take complete events; give them back, those changed in which something was found."""
        match = self._suspect(ready)
        if match is None:
            return ready
        if b"\r" in ready:
            return b"".join([e if self._suspect(e) is None else self._change(e) for e in split(ready)])
        out: list[bytes] = []
        start = 0
        while match is not None:
            begin = ready.rfind(b"\n\n", start, match.start())
            begin = begin + 2 if begin >= 0 else start
            end = ready.find(b"\n\n", match.start()) + 2
            out += (ready[start:begin], self._change(ready[begin:end]))
            start = end
            match = self._suspect(ready, start)
        out.append(ready[start:])
        return b"".join(out)

    def _hold(self, rest: bytes, out: list[bytes]) -> None:
        if self._is_passing or len(rest) > _HOLD:
            # Keep the line ends: with the next bytes they may be the event's end.
            size = len(rest.rstrip(b"\r\n"))
            out.append(rest[:size])
            self._is_passing = self._is_passing or bool(size)
            rest = rest[size:]
        self._held = rest


def _drop_usage(event: bytes) -> bytes:
    chunk = _read_chunk(line_at(event, event.find(b'"choices"'))) or _read_chunk(data_of(event))
    if chunk is None or chunk.choices != [] or chunk.usage is None or bytes(chunk.error) != b"null":
        return event
    # Empty lines before it are not part of it, and would depend on how the bytes were cut.
    return event[: len(event) - len(event.lstrip(b"\r\n"))]


def _read_chunk(text: bytes) -> _Chunk | None:
    try:
        return _decode_chunk(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
