"""Server-sent events as bytes: framing that survives any split, and a bound on one event.

Follows the WHATWG HTML standard, section 9.2.6: events end at an empty line, lines end with LF,
CRLF or CR, one space after the colon is dropped, a leading BOM is ignored. Nothing here decodes
text, so a character split over two reads is never seen in halves.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["EVENT_END", "Event", "EventMeter", "EventReader", "WholeEvents", "encode_event", "last_end"]

_BOM = b"\xef\xbb\xbf"
_MAX_HELD = 64 * 1024  # bytes
_LINE_END = re.compile(rb"\r\n|\n|\r")
# An empty line: two line ends in a row. A CR at the very end may be half of a CRLF.
EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n|\Z))")


def last_end(text: bytes, start: int = 0) -> int:
    """Find where the last complete event of `text` ends, looking no further back than `start`; 0 if none."""
    if text[-2:] == b"\n\n":
        return len(text)
    end = text.rfind(b"\n\n", start) + 2
    if end == 1:
        end = 0
    if text.find(b"\r", end or start) >= 0:
        for match in EVENT_END.finditer(text, end or start):
            end = match.end()
    return end


class Event(msgspec.Struct, frozen=True):
    """One event: the bytes exactly as they came, and its fields.

    `raw` includes the empty line that ends it. `data` is the `data:` lines joined with LF, None
    where there were none (a comment, a `retry:`). `name` is the `event:` field.
    """

    raw: bytes
    data: bytes | None = None
    name: bytes | None = None
    id: bytes | None = None


class EventReader:
    """Cut a byte stream into events, whatever the reads look like.

    `feed` returns the events that the new bytes complete. What is incomplete stays in `pending`,
    and joining every `raw` with `pending` gives the stream back byte for byte.
    """

    __slots__ = ("_parts", "_size", "_tail", "max_event_bytes")

    def __init__(self, max_event_bytes: int | None = None) -> None:
        self._parts: list[bytes] = []  # a long event is joined once, not once per read
        self._size = 0
        self._tail = b""
        self.max_event_bytes = max_event_bytes

    @property
    def pending(self) -> bytes:
        """The bytes of the event that has not ended yet."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return the events they complete.

        Raises ValueError when one event grows over `max_event_bytes`.
        """
        if not data:
            return []
        if not self._size and _is_plain(data):
            return [_parse(part + b"\n\n") for part in data[:-2].split(b"\n\n")]
        # The end can lie across the border, at most three bytes back (CR LF CR | LF).
        window = self._tail + data
        self._parts.append(data)
        self._size += len(data)
        self._tail = window[-3:]
        if EVENT_END.search(window) is None:
            self._check_size()
            return []
        text = self.pending
        return self._split(text, final=False)

    def close(self) -> list[Event]:
        """The stream ended: return an event whose end was a bare CR; drop nothing silently.

        An unfinished event stays in `pending`: the standard discards it.
        """
        return self._split(self.pending, final=True)

    def _split(self, text: bytes, *, final: bool) -> list[Event]:
        events: list[Event] = []
        start = 0
        while True:
            match = EVENT_END.search(text, start)
            if match is None and final and text[start:].endswith((b"\n\r", b"\r\r")):
                events.append(_parse(text[start:]))
                start = len(text)
            if match is None:
                break
            events.append(_parse(text[start : match.end()]))
            start = match.end()
        rest = text[start:]
        self._parts = [rest] if rest else []
        self._size = len(rest)
        self._tail = rest[-3:]
        self._check_size()
        return events

    def _check_size(self) -> None:
        if self.max_event_bytes is not None and self._size > self.max_event_bytes:
            raise ValueError(f"an event is over {self.max_event_bytes} bytes")


class EventMeter:
    """Bound the size of one event without cutting the stream into events.

    Cheap enough for every read: a counter since the last empty line. A line end split over two
    reads is seen too.
    """

    __slots__ = ("_tail", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._tail = b""

    def exceeds(self, data: bytes) -> bool:
        """Take the next bytes; say whether the event they belong to is over the limit."""
        if data[-2:] == b"\n\n" and self.size + len(data) <= self.limit:
            # The usual read ends with an event's end, and nothing in it can be too long.
            self.size = 0
            self._tail = b"\n\n"
            return False
        window = self._tail + data
        begin = len(self._tail) - self.size  # where the event began; negative if before the window
        over = False
        for match in EVENT_END.finditer(window):
            over = over or match.end() - begin > self.limit
            begin = match.end()
        self.size = len(window) - begin
        self._tail = window[-3:]
        return over or self.size > self.limit


class WholeEvents:
    """Let complete events through and hold back the beginning of the next: half an event before an error
    event could not be parsed. One that grows over 64 KiB goes on as it comes.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; give what is complete."""
        data = self.held + data
        end = last_end(data)
        if len(data) - end > _MAX_HELD:
            end = len(data)
        self.held = data[end:]
        return data[:end]

    def close(self) -> bytes:
        """The stream ended well: give what is left."""
        rest, self.held = self.held, b""
        return rest


def _is_plain(data: bytes) -> bool:
    """Say whether a read is as most are: whole events with plain line ends, and no empty line too many."""
    return data[-2:] == b"\n\n" and data[:1] != b"\n" and data.find(b"\r") < 0 and data.find(b"\n\n\n") < 0


def _parse(raw: bytes) -> Event:
    # Nearly all events are one data: line, or one event: line and one data: line.
    if raw.startswith(b"data: "):
        if raw.find(b"\n") == len(raw) - 2 and raw.find(b"\r") < 0:
            return Event(raw, raw[6:-2])
    elif raw.startswith(b"event: "):
        end = raw.find(b"\n")
        begin = end + 7
        if (
            raw.startswith(b"data: ", end + 1)
            and raw.find(b"\n", begin) == len(raw) - 2
            and raw.find(b"\r") < 0
        ):
            return Event(raw, raw[begin:-2], raw[7:end])
    return _parse_lines(raw)


def _parse_lines(raw: bytes) -> Event:
    data: list[bytes] | None = None
    name: bytes | None = None
    event_id: bytes | None = None
    text = raw[3:] if raw.startswith(_BOM) else raw
    for line in _LINE_END.split(text) if b"\r" in text else text.split(b"\n"):
        field, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data = [*data, value] if data else [value]
        elif field == b"event":
            name = value
        elif field == b"id":
            event_id = value
    return Event(raw, b"\n".join(data) if data is not None else None, name, event_id)


def encode_event(data: bytes, name: bytes | None = None) -> bytes:
    """Frame one event; line feeds inside `data` become further `data:` lines."""
    lines = b"".join(b"data: " + line + b"\n" for line in data.split(b"\n"))
    return (b"event: " + name + b"\n" if name else b"") + lines + b"\n"
