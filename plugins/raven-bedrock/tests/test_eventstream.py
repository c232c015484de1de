"""Frames are read as AWS's own library reads them, however the bytes are cut, and never when damaged."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_bedrock.eventstream import MAX_MESSAGE_BYTES, Decoder, Message

from .conftest import Recording, frame, seal

FRAMES = frame("messageStart", {"role": "assistant"}) + frame(
    "throttlingException", {"message": "no"}, "exception"
)


def read(*pieces: bytes) -> list[Message]:
    decoder = Decoder()
    found = [message for piece in pieces for message in decoder.feed(piece)]
    assert not decoder.has_rest
    return found


def theirs(data: bytes) -> list[tuple[str, Any, bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    found = []
    for message in buffer:
        kind = message.headers[":message-type"]
        name = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]
        found.append((kind, message.headers[name], message.payload))
    return found


def ours(data: bytes) -> list[tuple[str, Any, bytes]]:
    return [(one.headers.kind, one.headers.name, one.payload) for one in read(data)]


def test_recorded_frames_are_read_as_botocore_reads_them(recordings: list[Recording]) -> None:
    streams = [one.body() for one in recordings if one.streaming]
    assert len(streams) >= 15
    for data in streams:
        assert ours(data) == theirs(data)


@given(
    st.lists(st.tuples(st.sampled_from(["event", "exception", "error"]), st.text(max_size=40), st.binary())),
    st.data(),
)
def test_any_frames_in_any_pieces_are_read_as_botocore_reads_them(
    messages: list[tuple[str, str, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frame(name, payload, kind) for kind, name, payload in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [(one.headers.kind, one.headers.name, one.payload) for one in read(*pieces)] == theirs(stream)


def test_bytes_that_come_one_by_one_make_the_same_messages() -> None:
    assert read(*[FRAMES[i : i + 1] for i in range(len(FRAMES))]) == read(FRAMES)


@settings(max_examples=300)
@given(st.integers(0, len(FRAMES) - 1), st.integers(1, 255))
def test_no_damaged_byte_passes(place: int, flip: int) -> None:
    damaged = bytearray(FRAMES)
    damaged[place] ^= flip
    decoder = Decoder()
    try:
        found = [*decoder.feed(bytes(damaged))]
    except ValueError:
        return
    assert decoder.has_rest  # a longer length: it waits for bytes that never come
    assert len(found) < 2


def test_both_checksums_are_checked() -> None:
    for place in (9, len(FRAMES) - 2):
        damaged = bytearray(FRAMES)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            [*Decoder().feed(bytes(damaged))]


@pytest.mark.parametrize("total", [0, 15, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_impossible_lengths_are_refused_before_they_are_waited_for(total: int) -> None:
    from zlib import crc32

    prelude = struct.pack(">II", total, 0)
    with pytest.raises(ValueError, match="impossible"):
        [*Decoder().feed(prelude + struct.pack(">I", crc32(prelude)))]


def test_headers_of_every_type_are_skipped_but_texts() -> None:
    values = {
        0: b"",
        1: b"",
        2: b"x",
        3: b"xx",
        4: b"x" * 4,
        5: b"x" * 8,
        6: b"\0\2ab",
        8: b"x" * 8,
        9: b"x" * 16,
    }
    others = b"".join(b"\1h" + bytes([kind]) + value for kind, value in values.items())
    name = b"\x0b:event-type\7\0\4ping"
    (message,) = read(seal(others + name, b"{}"))
    assert (message.headers.kind, message.headers.name) == ("event", "ping")


@pytest.mark.parametrize(
    "headers", [b"\1h", b"\1h\7", b"\1h\7\0", b"\1h\7\0\5ab", b"\1h\x0a", b"\1h\5ab", b"\xff"]
)
def test_headers_that_break_off_are_refused(headers: bytes) -> None:
    with pytest.raises(ValueError, match="corrupt"):
        [*Decoder().feed(seal(headers, b""))]


def test_many_different_headers_do_not_pile_up() -> None:
    decoder = Decoder()
    for number in range(200):
        assert next(iter(decoder.feed(frame(f"event{number}", b"{}")))).headers.name == f"event{number}"
    assert len(decoder._known) <= 64
