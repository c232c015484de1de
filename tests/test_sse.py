"""Server-sent events: the same events however the bytes were cut, and no byte lost."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.sse import Event, EventMeter, EventReader, WholeEvents, encode_event

PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: x",
        b"data:y",
        b"event: e",
        b": c",
        b"id: 1",
        b"retry: 5",
        "data: 你🙂".encode(),
        b"\xef\xbb\xbf",
    ]
)
STREAMS = st.lists(PIECES, max_size=24).map(b"".join)


def read(pieces: list[bytes]) -> tuple[list[Event], bytes]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.close(), reader.pending


@given(STREAMS, st.data())
def test_any_split_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)) | {0, len(stream)})
    assert read([stream[a:b] for a, b in pairwise(cuts)]) == read([stream])
    assert read([stream[i : i + 1] for i in range(len(stream))]) == read([stream])


@given(STREAMS, st.data())
def test_joined_raw_and_what_is_pending_are_the_input(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    reader = EventReader()
    events = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
    assert b"".join(event.raw for event in events) + reader.pending == stream
    events += reader.close()
    assert b"".join(event.raw for event in events) + reader.pending == stream


@given(STREAMS)
def test_events_are_what_the_standard_says(stream: bytes) -> None:
    """A line-by-line reader of the standard's own words sees the same data."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected: list[bytes] = []
    data: list[bytes] = []
    lines = text.split(b"\n")
    for line in lines[:-1]:
        if not line:
            if data:
                expected.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    events, _ = read([stream])
    if b"\xef\xbb\xbf" not in stream[1:]:
        assert [event.data for event in events if event.data is not None] == expected


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\r", b"\r\n\r"])
def test_every_line_end_ends_an_event(end: bytes) -> None:
    events, pending = read([b"data: a" + end])
    assert [event.data for event in events] == [b"a"]
    assert pending == b""


def test_fields_are_read_and_unknown_ones_passed_over() -> None:
    (event,), _ = read([b": hi\nid: 7\nevent: ping\nfoo: bar\ndata: one\ndata:\ndata:  two\n\n"])
    assert (event.name, event.id, event.data) == (b"ping", b"7", b"one\n\n two")


def test_an_event_without_data_has_none() -> None:
    events, _ = read([b": keep-alive\n\ndata\n\ndata:\n\n"])
    assert [event.data for event in events] == [None, b"", b""]


def test_an_event_over_the_limit_is_an_error_and_one_below_is_not() -> None:
    reader = EventReader(max_event_bytes=20)
    assert len(reader.feed(b"data: 12345678901\n\n" * 3)) == 3
    reader.feed(b"data: 1234567890")
    with pytest.raises(ValueError, match="20 bytes"):
        reader.feed(b"12345")


@given(st.binary(max_size=60), st.sampled_from([None, b"ping"]))
def test_what_is_encoded_is_read_back(data: bytes, name: bytes | None) -> None:
    if b"\r" not in data:
        (event,), pending = read([encode_event(data, name)])
        assert (event.data, event.name, pending) == (data, name, b"")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 7))
def test_the_meter_sees_an_event_that_grows_over_the_limit(sizes: list[int], step: int) -> None:
    stream = b"".join(b"x" * size + b"\n\n" for size in sizes)
    meter = EventMeter(30)
    found = [meter.exceeds(stream[i : i + step]) for i in range(0, len(stream), step)]
    if max(sizes) > 30 + step:
        assert any(found)
    if max(sizes) + 2 <= 30:
        assert not any(found)


def test_a_line_of_three_mebibytes_in_small_reads_takes_linear_time() -> None:
    reader, meter = EventReader(), EventMeter(2**30)
    for _ in range(3 * 1024):
        reader.feed(b"x" * 1024)
        meter.exceeds(b"x" * 1024)
    (event,) = reader.feed(b"\n\n")
    assert len(event.raw) == 3 * 2**20 + 2


@given(STREAMS, st.data())
def test_only_whole_events_go_on_and_no_byte_is_lost(stream: bytes, data: st.DataObject) -> None:
    """Whatever the cuts: what has gone on ends where an event ends, and with the rest it is the stream."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)) | {0, len(stream)})
    whole = WholeEvents()
    gone = b""
    for a, b in pairwise(cuts):
        gone += whole.feed(stream[a:b])
        assert gone == b"" or re.search(rb"(\r\n|\n|\r)(\r\n|\n|\r)\Z", gone)
    assert gone + whole.close() == stream
    assert whole.close() == b""


def test_a_long_event_is_not_held_back() -> None:
    whole = WholeEvents()
    assert whole.feed(b"data: " + bytes(100_000)) == b"data: " + bytes(100_000)
    assert whole.feed(b"x\n\ndata: y") == b"x\n\n"
