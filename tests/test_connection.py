"""A connection's body: handed over as it comes, held back on demand, and ended exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from raven_proxy.config import UpstreamConfig
from raven_proxy.connection import StaleConnection, UpstreamConnection
from raven_proxy.errors import UpstreamError, UpstreamTruncated
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.upstream import Upstream


class Sink:
    """Keeps what it is given, and how it ended."""

    def __init__(self) -> None:
        self.data = b""
        self.pieces = 0
        self.endings: list[object] = []
        self.on_feed: Any = None

    def feed(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1
        if self.on_feed is not None:
            self.on_feed()

    def end(self) -> None:
        self.endings.append("end")

    def fail(self, error: UpstreamError) -> None:
        self.endings.append(error)


@pytest.fixture
async def mock() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as running:
        yield running


async def begin(mock: MockUpstream, reply: ScriptedReply) -> UpstreamConnection:
    """Send a request; give the connection whose reply has begun."""
    mock.script(reply)
    config = UpstreamConfig(name="up", provider="vendor", base_url=mock.url)
    provider: Any = SimpleNamespace()
    upstream = Upstream(config, provider, allow_private=True)
    connection = await upstream.acquire(5.0)
    await connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", expects_body=True, timeout_s=5.0)
    return connection


async def test_pieces_are_handed_over_as_they_come(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"one", 0.02, b"two", 0.02, b"three"]))
    sink = Sink()
    connection.attach(sink)
    await mock.wait_until(lambda: sink.endings)
    assert (sink.data, sink.pieces, sink.endings) == (b"onetwothree", 3, ["end"])


async def test_what_came_before_anybody_took_it_is_not_lost(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"early", 0.05, b"late"]))
    await asyncio.sleep(0.02)
    sink = Sink()
    connection.attach(sink)
    assert sink.data == b"early"
    await mock.wait_until(lambda: sink.endings)
    assert (sink.data, sink.endings) == (b"earlylate", ["end"])


async def test_a_body_that_has_come_is_taken_without_a_sink(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(body=b"whole"))
    assert connection.take() == b"whole"
    connection = await begin(mock, ScriptedReply(chunks=[b"half", 0.1, b"rest"]))
    assert connection.take() is None
    connection.abort()


async def test_a_body_that_broke_off_before_anybody_took_it_is_an_error(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"half"], end="reset"))
    await asyncio.sleep(0.1)
    sink = Sink()
    connection.attach(sink)
    assert len(sink.endings) == 1
    assert isinstance(sink.endings[0], UpstreamTruncated)


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
@pytest.mark.parametrize("size", [65_500, 140_000, 262_000, 700_000])
async def test_a_body_of_any_size_is_whole_if_it_is_taken_late(
    mock: MockUpstream, framing: Any, size: int
) -> None:
    body = bytes(range(250)) * (size // 250)
    connection = await begin(mock, ScriptedReply(body=body, framing=framing))
    await asyncio.sleep(0.02)
    sink = Sink()
    connection.attach(sink)
    await mock.wait_until(lambda: sink.endings, 5)
    assert sink.endings == ["end"]
    assert sink.data == body


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20])
async def test_chunks_that_came_with_the_head_are_not_lost_or_stuck(mock: MockUpstream, count: int) -> None:
    chunks = b"".join(b"ea60\r\n" + b"%d" % (n % 10) * 60_000 + b"\r\n" for n in range(count))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection = await begin(mock, ScriptedReply(framing="raw", chunks=[head + chunks + b"0\r\n\r\n"]))
    sink = Sink()
    connection.attach(sink)
    await mock.wait_until(lambda: sink.endings)
    assert sink.endings == ["end"]
    assert sink.data == b"".join(b"%d" % (n % 10) * 60_000 for n in range(count))
    mock.reply(body=b"next")
    await connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", expects_body=True, timeout_s=2.0)
    assert connection.take() == b"next"


async def test_a_large_body_that_nobody_takes_is_not_read_into_memory(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(body=b"x" * 20_000_000))
    await asyncio.sleep(0.2)
    assert mock.seen[0].ended_at is None  # the provider could not send it all
    sink = Sink()
    connection.attach(sink)
    await mock.wait_until(lambda: sink.endings, 10)
    assert len(sink.data) == 20_000_000
    assert sink.endings == ["end"]


async def test_held_back_the_provider_cannot_go_on(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"x" * 2**20] * 40))
    sink = Sink()
    connection.attach(sink)
    connection.hold()
    connection.hold()
    await asyncio.sleep(0.2)
    assert len(sink.data) < 2**20
    assert mock.seen[0].ended_at is None
    connection.resume()
    await mock.wait_until(lambda: sink.endings, 10)
    assert len(sink.data) == 40 * 2**20


async def test_a_connection_that_was_held_back_to_the_end_reads_again(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"early", 0.02, b"late"]))
    sink = Sink()
    sink.on_feed = connection.hold
    connection.attach(sink)
    connection.resume()
    await mock.wait_until(lambda: sink.data)
    connection.resume()
    await mock.wait_until(lambda: sink.endings)  # held once more by its last piece
    mock.reply(body=b"next")
    await connection.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", expects_body=True, timeout_s=2.0)
    assert connection.take() == b"next"


async def test_a_sink_that_has_enough_hears_nothing_more(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"one", 0.02, b"two"], repeat=True))
    sink = Sink()
    sink.on_feed = connection.abort
    connection.attach(sink)
    await mock.wait_until(lambda: sink.pieces)
    await mock.wait_until(lambda: mock.connections == 0)
    await asyncio.sleep(0.05)
    assert (sink.pieces, sink.endings) == (1, [])


async def test_a_break_in_the_middle_is_told_once(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(chunks=[b"one", 0.02], end="cut"))
    sink = Sink()
    connection.attach(sink)
    await mock.wait_until(lambda: sink.endings)
    await asyncio.sleep(0.02)
    assert sink.data == b"one"
    assert [type(ending) for ending in sink.endings] == [UpstreamTruncated]


async def test_a_connection_that_was_closed_while_idle_is_stale(mock: MockUpstream) -> None:
    connection = await begin(mock, ScriptedReply(status=204))
    assert connection.take() == b""
    mock.drop_connections()
    await mock.wait_until(lambda: connection.transport is None)
    with pytest.raises(StaleConnection):
        await connection.send(b"GET / HTTP/1.1\r\n\r\n", b"", expects_body=True, timeout_s=5.0)
