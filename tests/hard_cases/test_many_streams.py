"""T104: very many streams at once."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import pytest

from .conftest import Case
from .wire import Wire, chat, post


async def hold(case: Case, count: int, opened: list[Wire]) -> list[int]:
    """Begin `count` streams and wait for the head of each."""

    async def begin() -> int:
        wire = await Wire.open(case.url)
        opened.append(wire)
        await wire.send(post(chat("mock/fx-stall", stream=True)))
        return (await wire.head())[0]

    statuses: list[int] = []
    for start in range(0, count, 250):  # the listen queue of the test's own upstream is 100
        statuses += await asyncio.gather(*(begin() for _ in range(min(250, count - start))))
    return statuses


async def close_all(wires: list[Wire]) -> None:
    for wire in wires:
        wire.abort()
    await asyncio.sleep(0)


async def test_t104_300_streams_run_at_once(case: Case) -> None:
    """No silent limit of a hundred: 300 streams to one host all start, each on its connection."""
    await case.start()
    wires: list[Wire] = []
    began = time.monotonic()
    assert await hold(case, 300, wires) == [200] * 300
    assert time.monotonic() - began < 20
    assert case.upstream.connections == 300
    assert (await case.ask(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    await close_all(wires)
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=5)


@pytest.mark.parametrize("limit", ["max_concurrency", "max_connections"])
async def test_t104_over_our_own_cap_the_answer_is_503_at_once(case: Case, limit: str) -> None:
    """Beyond `max_concurrency` or an upstream's `max_connections`: 503 with Retry-After, not a queue."""
    table: dict[str, Any] = {"name": "mock", "provider": "openai", "base_url": case.upstream.url}
    table["key"] = {"env": "RAVEN_TEST_PROVIDER_KEY"}
    cap = 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAVEN_TEST_PROVIDER_KEY", "sk-upstream-test")
        if limit == "max_connections":
            await case.start(upstreams=[{**table, limit: cap}])
        else:
            await case.start(upstreams=[table], config={limit: cap})
    wires: list[Wire] = []
    assert await hold(case, cap, wires) == [200] * cap
    began = time.monotonic()
    reply = await case.chat()
    assert time.monotonic() - began < 1
    case.refused(reply, 503, type="upstream_error", code="service_unavailable")
    assert reply.headers["retry-after"] == "1"
    assert len(case.upstream.seen) == cap
    assert (await case.ask(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    await close_all(wires)
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=5)
    await case.settle()
    assert (await case.chat()).status == 200


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_t104_2000_streams_run_at_once(case: Case) -> None:
    """2,000 concurrent streams to one host all start, and all end when their clients leave."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 9000:
        pytest.skip(f"four sockets a stream need more files than {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 9000), hard))
    await case.start()
    wires: list[Wire] = []
    assert await hold(case, 2000, wires) == [200] * 2000
    assert case.upstream.connections == 2000
    await close_all(wires)
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=20)
    async with asyncio.timeout(20):
        while case.gateways[0].gateway.in_flight:
            await asyncio.sleep(0.05)
