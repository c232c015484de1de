"""The reader that a body passes through on its way to a sink: nothing kept, nothing held back."""

from __future__ import annotations

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from raven_proxy.sink import SinkReader


async def test_a_reader_in_use_becomes_one_that_holds_nothing_back() -> None:
    protocol = BaseProtocol(asyncio.get_running_loop())
    reader = StreamReader(protocol, limit=10, loop=asyncio.get_running_loop())
    reader.feed_data(b"early")
    reader.__class__ = SinkReader
    assert isinstance(reader, SinkReader)
    for _ in range(100):
        reader.begin_http_chunk_receiving()
        reader.feed_data(b"x" * 1000)
        reader.end_http_chunk_receiving()
    assert reader.take() == b"early" + b"x" * 100_000
    assert not protocol._reading_paused  # the limit of ten bytes is not its affair any more
    assert reader.take() == b""
    assert not reader.is_eof()
    reader.feed_eof()
    assert reader.is_eof()


async def test_one_piece_is_handed_over_as_it_is() -> None:
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), limit=10, loop=loop)
    reader.__class__ = SinkReader
    assert isinstance(reader, SinkReader)
    piece = b"x" * 100
    reader.feed_data(piece)
    assert reader.take() is piece
