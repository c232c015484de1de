"""The collector: a reply comes whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy.collector import Collector
from raven_proxy.errors import UpstreamError, UpstreamTimeout, UpstreamTruncated


class Source:
    """A connection that delivers what the test gives it."""

    def __init__(self, *at_once: bytes) -> None:
        self.at_once = at_once
        self.aborted = False

    def attach(self, sink: Collector) -> None:
        for data in self.at_once:
            sink.feed(data)
        if self.at_once:
            sink.end()

    def abort(self) -> None:
        self.aborted = True


def collect(source: Any, limit: int = 100, idle_s: float = 5.0, total_s: float = 5.0) -> Collector:
    return Collector(source, limit, idle_s, total_s)


async def test_what_has_come_already_needs_no_waiting() -> None:
    assert await collect(Source(b"one ", b"two")).wait() == b"one two"


async def test_pieces_are_joined_at_the_end() -> None:
    collector = collect(Source())
    asyncio.get_running_loop().call_later(0.01, collector.feed, b"one ")
    asyncio.get_running_loop().call_later(0.02, collector.feed, b"two")
    asyncio.get_running_loop().call_later(0.03, collector.end)
    assert await collector.wait() == b"one two"


async def test_an_empty_reply_is_empty() -> None:
    collector = collect(Source())
    collector.end()
    assert await collector.wait() == b""


async def test_a_broken_reply_is_an_error_and_not_half_a_document() -> None:
    collector = collect(Source())
    collector.feed(b"half")
    collector.fail(UpstreamTruncated("broke off"))
    with pytest.raises(UpstreamTruncated):
        await collector.wait()


async def test_more_than_the_limit_is_refused_and_not_read_on() -> None:
    source = Source()
    collector = collect(source, limit=4)
    collector.feed(b"1234")
    collector.feed(b"5")
    assert source.aborted
    with pytest.raises(UpstreamError, match="size limit"):
        await collector.wait()


async def test_silence_drops_the_connection() -> None:
    source = Source()
    with pytest.raises(UpstreamTimeout):
        await collect(source, idle_s=0.02).wait()
    assert source.aborted


async def test_who_stops_waiting_drops_the_connection() -> None:
    source = Source()
    task = asyncio.get_running_loop().create_task(collect(source).wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.aborted
