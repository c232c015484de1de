"""Cursors: what was read is not read again, and what comes late is not passed over."""

from __future__ import annotations

import random
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_meter.cursor import Cursor, moment, span
from raven_meter.exchanges import RowIds

START = moment()


def test_ids_are_understood() -> None:
    """The writer's number stands where a cursor looks for it, and a second is as long as here."""
    for writer in (0, 1, 4095):
        ids = RowIds(writer)
        first = ids.next()
        assert first % 4096 == writer
        assert ids.next() > first
        assert 0 <= moment() - first < span(60)


def test_a_cursor_can_be_written_and_read() -> None:
    cursor = Cursor(START)
    for writer in (3, 1, 2):
        cursor.take(START + span(1) * writer + writer - START % 4096)
    again = Cursor.read(str(cursor))
    assert str(again) == str(cursor)
    assert again.unread() == cursor.unread()


@pytest.mark.parametrize(
    "text", ["", "x", "1..2", "1.", "-1", "1 2", "f" * 17, "g", "1\n", ".".join("1" * 66), "f" * 16]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.read(text)


def test_a_cursor_stays_short() -> None:
    """However many processes came and went, a header can carry it."""
    cursor = Cursor(0)
    for number in range(1, 5000):
        cursor.take(number * 4096 * 7 + number % 4096)
    assert len(str(cursor)) < 1200
    assert Cursor.read(str(cursor)).floor == cursor.floor > 0


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), writers=st.integers(1, 5), page=st.integers(1, 7))
def test_every_row_is_read_once(seed: int, writers: int, page: int) -> None:
    """Rows of several writers become visible each in its own order, between looks of pages; the reader comes
    back with what was written down of it at any moment.
    """
    chance = random.Random(seed)
    queues: list[list[int]] = [[] for _ in range(writers)]
    for moment_us in range(1, 60):
        writer = chance.randrange(writers)
        queues[writer].append(START + span(moment_us / 1_000_000) // 4096 * 4096 - START % 4096 + writer)
    expected = sorted(row for queue in queues for row in queue)
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE exchanges (id INTEGER PRIMARY KEY)")
    cursor, got = Cursor(START - 4096), []
    for _ in range(10_000):
        for queue in queues:
            for _ in range(min(chance.randrange(4), len(queue))):
                table.execute("INSERT INTO exchanges VALUES (?)", (queue.pop(0),))
        condition, values = cursor.unread()
        rows = table.execute(f"SELECT id FROM exchanges WHERE {condition} ORDER BY id LIMIT {page}", values)
        for (row,) in rows.fetchall():
            if chance.random() < 0.1:
                break  # the connection is lost in the middle of a page
            cursor.take(row)
            got.append(row)
            if chance.random() < 0.2:
                cursor = Cursor.read(str(cursor))
        if len(got) == len(expected):
            break
    table.close()
    assert sorted(got) == expected
