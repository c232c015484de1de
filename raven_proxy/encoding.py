"""Undo a content encoding that a provider used although `identity` was asked for.

Bounded: a small body that unfolds into a huge one is an error, not memory (a gzip bomb).
"""

from __future__ import annotations

import zlib

from .errors import UpstreamError, UpstreamTruncated

__all__ = ["Inflater", "open_decoder"]

_MAX_RATIO_STEP = 2**24  # bytes that one read may unfold into


class Inflater:
    """A stage that unfolds gzip or deflate (RFC 1950, 1952), member after member."""

    __slots__ = ("_machine", "_started")

    def __init__(self) -> None:
        self._machine = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, by its header
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """Unfold the next bytes. Raises UpstreamError for broken data or absurd growth."""
        out: list[bytes] = []
        size = 0
        try:
            while data:
                self._started = True
                piece = self._machine.decompress(data, _MAX_RATIO_STEP)
                out.append(piece)
                size += len(piece)
                if size >= _MAX_RATIO_STEP:
                    raise UpstreamError("The provider's compressed reply unfolds into too much.")
                data = self._machine.unused_data
                if self._machine.eof and data:
                    self._machine = zlib.decompressobj(wbits=47)
        except zlib.error:
            raise UpstreamError("The provider's compressed reply is broken.") from None
        return b"".join(out)

    def close(self) -> bytes:
        """Check that the last member was whole. Raises UpstreamTruncated."""
        if self._started and not self._machine.eof:
            raise UpstreamTruncated("The provider's compressed reply broke off.")
        return b""


def open_decoder(encoding: str | None) -> Inflater | None:
    """Give the stage for a `Content-Encoding`; None for identity. Raises UpstreamError."""
    if not encoding or encoding.lower() == "identity":
        return None
    if encoding.lower() in {"gzip", "x-gzip", "deflate"}:
        return Inflater()
    raise UpstreamError("The provider used a content encoding that was not asked for.")
