"""Finding events in SSE bytes without parsing all of them.

For taps and stages that look at few events of many. Line ends as in the WHATWG HTML standard,
section 9.2.6: LF, CRLF or CR, also mixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from raven_proxy.sse import EVENT_END, EventReader, last_end

__all__ = ["EVENT_END", "bounds", "data_of", "last_end", "line_at", "split"]

_LINE = re.compile(rb"[^\r\n]*")


def split(text: bytes) -> Iterator[bytes]:
    """Cut `text` into its events, each with the empty line that ends it, and the rest."""
    start = 0
    for match in EVENT_END.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def line_start(text: bytes, position: int) -> int:
    """Find where the line around `position` begins."""
    line_feed = text.rfind(b"\n", 0, position)
    return max(line_feed, text.rfind(b"\r", line_feed + 1, position)) + 1


def line_end(text: bytes, position: int) -> int:
    """Find where the line around `position` ends, before its line end."""
    match = _LINE.match(text, position)
    return match.end() if match is not None else position


def line_at(text: bytes, position: int) -> bytes:
    """Give the value of the `data:` line around `position`; b"" if it lies on another line."""
    start = line_start(text, position)
    return text[start + 5 : line_end(text, position)] if text.startswith(b"data:", start) else b""


def bounds(text: bytes, position: int) -> tuple[int, int]:
    """Find where the event around `position` begins and ends."""
    begin = line_start(text, position)
    while begin:
        before = begin - (2 if text[begin - 2 : begin] == b"\r\n" else 1)
        start = line_start(text, before)
        if start == before:
            break  # an empty line
        begin = start
    closing = EVENT_END.search(text, position)
    return begin, closing.end() if closing is not None else len(text)


def data_of(event: bytes) -> bytes:
    """Join the `data:` lines of one event; its last line end may be missing."""
    reader = EventReader()
    found = reader.feed(event + b"\n\n") + reader.close()
    return next((e.data for e in found if e.data is not None), b"")
