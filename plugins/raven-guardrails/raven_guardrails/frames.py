"""Streams as frames: each with the bytes that it came in, the document in it, and a way to write another.

Server-sent events, JSON lines, Amazon's event stream, one JSON array in pieces, and plain text. Sans-IO; any
cut of the bytes gives the same frames, and the frames' bytes joined are the stream.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from struct import Struct
from typing import Any, Protocol
from zlib import crc32

import msgspec

from raven_proxy import UpstreamError
from raven_proxy.sse import Event, EventReader, encode_event

from .charsets import charset_of, decode_text, encode_text, errors_of, is_declared_text

__all__ = ["Frame", "Framer", "is_plain_text", "open_framer"]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_DONE = b"[DONE]"
_MEDIA = ("image/", "audio/", "video/", "font/")
_LINES = ("application/x-ndjson", "application/jsonl", "application/stream+json", "application/x-jsonlines")
_STRUCTURE = re.compile(rb'["\\{}\[\]]')
_PRELUDE = Struct(">II")
_WORD = Struct(">I")
_MOST_MESSAGE = 24 * 2**20  # bytes: AWS allows 16 MiB of payload
_MOST_PENDING = 16 * 2**20  # bytes of one line or element


class Frame:
    """One frame. `document` is None where there is nothing to judge; `name` is the event's own.

    `waiting` counts its texts that are not decided yet.
    """

    __slots__ = ("changed", "document", "encode", "name", "raw", "waiting")

    def __init__(
        self, raw: bytes, document: Any = None, encode: Callable[[Any], bytes] | None = None, name: str = ""
    ) -> None:
        self.raw = raw
        self.document = document
        self.encode = encode
        self.name = name
        self.waiting = 0
        self.changed = False

    def to_bytes(self) -> bytes:
        """Give the frame as it goes out: as it came, unless something in it was redacted."""
        return self.encode(self.document) if self.changed and self.encode is not None else self.raw


class Framer(Protocol):
    """Cuts bytes into frames."""

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; give the frames that they complete."""

    def close(self) -> list[Frame]:
        """Give what is left, whole or not."""


def is_plain_text(content_type: str) -> bool:
    """Say whether there are no frames: then a piece of text ends wherever the network cuts it."""
    return type(open_framer(content_type)) is _Text


def open_framer(content_type: str, *, is_array: bool = False) -> Framer | None:
    """Choose by the media type of what the client gets; None for media, which hold no text."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _Events()
    if kind in _LINES:
        return _Lines()
    if kind == "application/vnd.amazon.eventstream":
        return _Messages()
    if is_array:
        return _Array()
    is_text = is_declared_text(kind)
    return None if kind.startswith(_MEDIA) and not is_text else _Text(is_declared=is_text)


def read_document(data: bytes, wrap: Callable[[bytes], bytes]) -> tuple[Any, Callable[[Any], bytes]]:
    """Read what a frame holds, JSON or plain text; a text stands in a list, to be written over."""
    try:
        document = _decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        text = data.decode("utf-8", "surrogateescape")
        return [text], lambda texts: wrap(texts[0].encode("utf-8", "surrogateescape"))
    if isinstance(document, str):
        return [document], lambda texts: wrap(_encode(texts[0]))
    return document, lambda changed: wrap(_encode(changed))


class _Events:
    def __init__(self) -> None:
        self._reader = EventReader()

    def feed(self, data: bytes) -> list[Frame]:
        return [_read_event(event) for event in self._reader.feed(data)]

    def close(self) -> list[Frame]:
        frames = [_read_event(event) for event in self._reader.close()]
        rest = self._reader.pending
        if rest:  # some clients take an event whose end is missing
            event = next(iter(EventReader().feed(rest + b"\n\n")), Event(rest))
            frames.append(_read_event(msgspec.structs.replace(event, raw=rest)))
        return frames


def _read_event(event: Event) -> Frame:
    if event.data is None or event.data == _DONE or not event.data:
        return Frame(event.raw)
    head = b"id: " + event.id + b"\n" if event.id is not None else b""
    document, encode = read_document(event.data, lambda data: head + encode_event(data, event.name))
    return Frame(event.raw, document, encode, (event.name or b"").decode("utf-8", "replace"))


class _Lines:
    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Frame]:
        *lines, self._pending = (self._pending + data).split(b"\n")
        _check(self._pending)
        return [_read_line(line, b"\n") for line in lines]

    def close(self) -> list[Frame]:
        rest, self._pending = self._pending, b""
        return [_read_line(rest, b"")] if rest else []


def _read_line(line: bytes, end: bytes) -> Frame:
    if not line.strip():
        return Frame(line + end)
    document, encode = read_document(line, lambda data: data + end)
    return Frame(line + end, document, encode)


class _Array:
    """One JSON array: a frame is an element, with what stands before it."""

    def __init__(self) -> None:
        self._pending = b""
        self._seen = 0  # bytes of `_pending` that were looked at
        self._depth = 0
        self._start = 0
        self._in_string = False
        self._escaped_at = -1

    def feed(self, data: bytes) -> list[Frame]:
        self._pending += data
        frames = []
        place = 0
        for match in _STRUCTURE.finditer(self._pending, self._seen):
            end = self._step(match.start(), match[0])
            if end:
                frames.append(
                    _read_element(self._pending[place : self._start], self._pending[self._start : end])
                )
                place = end
        self._seen = len(self._pending) - place
        self._start -= place
        self._escaped_at -= place
        self._pending = self._pending[place:]
        _check(self._pending)
        return frames

    def close(self) -> list[Frame]:
        rest, self._pending = self._pending, b""
        return [_read_line(rest, b"")] if rest.strip(b" \r\n\t]") else [Frame(rest)] if rest else []

    def _step(self, place: int, letter: bytes) -> int:
        """Take one byte of structure; give the end of the element that it closes, or 0."""
        if self._in_string:
            if self._escaped_at == place:
                return 0
            if letter == b"\\":
                self._escaped_at = place + 1
            elif letter == b'"':
                self._in_string = False
            return 0
        if letter == b'"':
            self._in_string = True
        elif letter in b"{[":
            self._depth += 1
            if self._depth == 2:
                self._start = place
        elif letter in b"}]":
            self._depth -= 1
            return place + 1 if self._depth == 1 else 0
        return 0


def _read_element(before: bytes, element: bytes) -> Frame:
    document, encode = read_document(element, lambda data: before + data)
    return Frame(before + element, document, encode)


class _Messages:
    """Amazon's event stream: u32 length | u32 headers' length | u32 CRC | headers | payload | u32 CRC."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[Frame]:
        pending = self._pending + data
        frames = []
        place = 0
        while len(pending) - place >= 12:
            total, size = _PRELUDE.unpack_from(pending, place)
            if not 16 + size <= total <= _MOST_MESSAGE:
                raise UpstreamError("The provider's stream cannot be read.")
            if len(pending) - place < total:
                break
            frames.append(_read_message(pending[place : place + total], size))
            place += total
        self._pending = pending[place:]
        return frames

    def close(self) -> list[Frame]:
        if self._pending:
            raise UpstreamError("The provider's stream broke off.")
        return []


def _read_message(raw: bytes, size: int) -> Frame:
    headers, payload = raw[12 : 12 + size], raw[12 + size : -4]

    def wrap(data: bytes) -> bytes:
        prelude = _PRELUDE.pack(len(headers) + len(data) + 16, len(headers))
        message = prelude + _WORD.pack(crc32(prelude)) + headers + data
        return message + _WORD.pack(crc32(message))

    document, encode = read_document(payload, wrap)
    inner = document.get("bytes") if isinstance(document, dict) else None
    if isinstance(inner, str):  # `invoke`: the model's own events, each in base64
        outer = document

        def wrap_inner(data: bytes) -> bytes:
            return wrap(_encode({**outer, "bytes": b64encode(data).decode()}))

        with contextlib.suppress(ValueError):
            document, encode = read_document(b64decode(inner), wrap_inner)
    return Frame(raw, document, encode, _event_name(headers))


def _event_name(headers: bytes) -> str:
    place = headers.find(b"\x0b:event-type\x07")
    if place < 0:
        return ""
    start = place + 13
    return headers[start + 2 : start + 2 + int.from_bytes(headers[start : start + 2], "big")].decode(
        "latin-1"
    )


class _Text:
    """Text of no known form; media pass. Which it is, and in what charset, its beginning tells."""

    def __init__(self, *, is_declared: bool) -> None:
        self._is_declared = is_declared
        self._decoder: codecs.IncrementalDecoder | None = None
        self._charset = "utf-8"
        self._raw = b""
        self._is_media = False

    def feed(self, data: bytes) -> list[Frame]:
        if self._decoder is None and data and not self._is_media:
            self._is_media = decode_text(data, is_declared=self._is_declared) is None
            self._charset = charset_of(data)
            self._decoder = codecs.getincrementaldecoder(self._charset)(errors_of(self._charset))
        return [Frame(data)] if self._is_media else self._read(data, final=False)

    def close(self) -> list[Frame]:
        return [] if self._is_media else self._read(b"", final=True)

    def _read(self, data: bytes, *, final: bool) -> list[Frame]:
        if self._decoder is None:
            return []
        raw = self._raw + data
        text = self._decoder.decode(data, final)
        self._raw = b"" if final else self._decoder.getstate()[0]
        whole = raw[: len(raw) - len(self._raw)]
        return [Frame(whole, [text], lambda texts: encode_text(texts[0], self._charset))] if text else []


def _check(pending: bytes) -> None:
    if len(pending) > _MOST_PENDING:
        raise UpstreamError("One event of the stream is over the size limit.")
