"""Lines of JSON: `raven_proxy.lines`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy import hub
from raven_proxy.lines import LineReader


def read(pieces: list[bytes]) -> list[Any]:
    def end() -> Iterator[hub.Event]:
        yield hub.Ended()

    reader = LineReader(lambda line: [hub.TextDelta(line.decode("latin-1"))], end)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.close()]


def test_each_line_is_read_once_and_blank_ones_never() -> None:
    texts = [event.text for event in read([b"a\n\r\n  \nb\r\nc"])[:-1]]
    assert [text.strip() for text in texts] == ["a", "b", "c"]


@given(st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b"x", b""]), max_size=30), st.integers(1, 7))
def test_lines_do_not_depend_on_the_reads(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    assert read([data[i : i + size] for i in range(0, len(data), size)]) == read([data]) == read(pieces)


def test_an_endless_line_is_refused() -> None:
    reader = LineReader(lambda line: [], list)
    assert list(reader.feed(b"x" * 16 * 1024 * 1024)) == []
    with pytest.raises(ValueError, match="a line is over"):
        list(reader.feed(b"x"))
