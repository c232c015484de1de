"""Pieces: the demo's tokens."""

from hypothesis import given
from hypothesis import strategies as st
from raven_demo import speech


@given(st.text())
def test_the_pieces_of_a_text_join_to_it(text):
    assert "".join(speech.split(text)) == text


@given(st.text())
def test_each_piece_counts_as_one_wherever_it_is_counted(text):
    pieces = speech.split(text)
    assert speech.count(text) == len(pieces) == sum(map(speech.count, pieces))


def test_a_text_of_megabytes_is_estimated():
    assert speech.count("a" * 4_000_000) == 1_000_000
