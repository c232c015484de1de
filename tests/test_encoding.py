"""Content encodings: unfolded piece by piece, bounded, and never quietly cut short."""

from __future__ import annotations

import gzip
import zlib

import pytest

from raven_proxy.encoding import Inflater, open_decoder
from raven_proxy.errors import UpstreamError, UpstreamTruncated

TEXT = b"one two three " * 50


def unfold(data: bytes, step: int) -> bytes:
    inflater = Inflater()
    out = b"".join(inflater.feed(data[i : i + step]) for i in range(0, len(data), step))
    return out + inflater.close()


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "folded",
    [
        gzip.compress(TEXT, mtime=0),
        zlib.compress(TEXT),
        gzip.compress(TEXT[:9], mtime=0) + gzip.compress(TEXT[9:], mtime=0),
    ],
)
def test_gzip_and_deflate_are_unfolded_at_any_cut(folded: bytes, step: int) -> None:
    assert unfold(folded, step) == TEXT


def test_an_empty_reply_is_whole() -> None:
    assert unfold(b"", 1) == b""


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_reply_that_breaks_off_is_an_error(cut: int) -> None:
    with pytest.raises(UpstreamTruncated):
        unfold(gzip.compress(TEXT, mtime=0)[:-cut], 1000)


def test_broken_data_is_the_providers_fault() -> None:
    with pytest.raises(UpstreamError, match="broken"):
        unfold(b"no gzip at all", 1000)


def test_a_bomb_is_an_error_and_not_memory() -> None:
    with pytest.raises(UpstreamError, match="too much"):
        unfold(gzip.compress(b"\0" * 2**26), 2**20)


def test_only_encodings_that_are_understood_are_taken() -> None:
    assert open_decoder(None) is None
    assert open_decoder("identity") is None
    assert isinstance(open_decoder("GZIP"), Inflater)
    with pytest.raises(UpstreamError):
        open_decoder("br")
