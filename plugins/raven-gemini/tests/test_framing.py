"""Streams are cut into the same documents however the bytes come, framed or as one array."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_gemini.framing import DocumentReader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(st.sampled_from('a"\\{}[],:é\n🙂'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a"{}\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.lists(st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3), min_size=1, max_size=4)


def run(data: bytes, places: list[int]) -> list[Any]:
    reader = DocumentReader()
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    found: list[bytes] = []
    for start, end in pairwise(edges):
        found += reader.feed(data[start:end])
    return [msgspec.json.decode(one) for one in [*found, *reader.close()]]


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_an_array_is_cut_into_its_objects(documents: list[Any], places: list[int], indent: bool) -> None:
    """Quotes, escapes and braces in texts do not matter, nor where the bytes were cut."""
    data = b",\r\n".join(msgspec.json.format(msgspec.json.encode(d), indent=2 * indent) for d in documents)
    assert run(b"[" + data + b"]", places) == documents


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_cut_at_empty_lines(documents: list[Any], places: list[int], end: bytes) -> None:
    """With LF, CRLF or CR, and a comment in between; the last empty line may be missing."""
    data = b": hello" + end + end
    data += (end + end).join(b"data: " + msgspec.json.encode(d) for d in documents)
    assert run(data, places) == documents


def test_one_object_alone_is_a_stream_too() -> None:
    """A stream that is answered with one document is read all the same."""
    assert run(b' \n {"a": {"b": [1]}}\n', [3]) == [{"a": {"b": [1]}}]


def test_a_long_stream_is_not_kept() -> None:
    """What was given is forgotten."""
    reader = DocumentReader()
    assert list(reader.feed(b"[")) == []
    for _ in range(50):
        assert len(list(reader.feed(b'{"text":"' + b"x" * 1000 + b'"},'))) == 1
    assert len(reader._reader._parts) < 10  # type: ignore[union-attr]


def test_bottomless_nesting_is_refused() -> None:
    """A reader that cannot go on says so."""
    with pytest.raises(ValueError, match="deep"):
        list(DocumentReader().feed(b"[" + b"{[" * 2000))
