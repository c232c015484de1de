"""T31, T32: clients that leave in the middle."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from raven_proxy import Outcome
from raven_proxy.harness import ADMINISTRATOR

from .conftest import Case
from .wire import chat, post


async def leave_after_three_chunks(case: Case, model: str) -> None:
    async with await case.wire() as wire:
        await wire.send(post(chat(f"mock/{model}", stream=True)))
        await wire.head()
        for _ in range(3):
            assert await wire.chunk()


async def test_t31_a_client_that_leaves_closes_the_provider(case: Case) -> None:
    """Leaving after 3 chunks closes the upstream socket within 1 s, and leaks no slot of the pool."""
    limit = 3
    await case.start()
    case.gateways[-1].gateway.pipeline.upstreams["mock"].max_connections = limit
    for _ in range(limit + 1):
        await leave_after_three_chunks(case, "fx-endless")
        await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
        assert case.upstream.seen[-1].closed_early
    began = time.monotonic()
    assert (await case.chat()).status == 200
    assert time.monotonic() - began < 1.0
    ended = await case.settle()
    assert [one.outcome for one in ended] == [Outcome.CANCELLED] * (limit + 1) + [Outcome.COMPLETED]
    assert all(one.usage is not None and one.usage.completion_tokens > 0 for one in ended)


async def test_t31_a_reset_by_the_client_does_the_same(case: Case) -> None:
    """A client that resets its connection is a client that left."""
    await case.start()
    wire = await case.wire()
    await wire.send(post(chat("mock/fx-endless", stream=True)))
    await wire.head()
    wire.abort()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
    assert (await case.last()).outcome is Outcome.CANCELLED


async def test_t31_a_stream_may_be_drained_for_its_usage(case: Case) -> None:
    """With `on_disconnect = "drain"` the provider is read to its end, and the usage is its own."""
    await case.start(principal=msgspec.structs.replace(ADMINISTRATOR, on_disconnect="drain"))
    await leave_after_three_chunks(case, "fx-paced-20")
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    assert not case.upstream.seen[0].closed_early
    assert ended.usage is not None
    assert not ended.usage.estimated
    assert (await case.chat()).status == 200
    assert case.upstream.connections_opened == 1


async def test_t31_a_client_that_leaves_in_its_own_request(case: Case) -> None:
    """Gone before its body was all here: nothing is sent upstream, and nothing is an error."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(chat())[:-20])
        await asyncio.sleep(0.05)
    ended = await case.last()
    assert (ended.outcome, ended.status) == (Outcome.CANCELLED, 499)
    assert case.upstream.seen == []


async def test_t31_a_client_that_leaves_a_reply_of_a_plugin(case: Case) -> None:
    """The same where no provider is asked: what a plugin streams ends with its client."""
    await case.start(base=("openai", "demo"))
    async with await case.wire() as wire:
        await wire.send(post(chat("demo/chat", stream=True)))
        await wire.head()
        assert await wire.chunk()
    assert (await case.last()).outcome is Outcome.CANCELLED


@pytest.mark.parametrize(("model", "status"), [("fx-silent", 499), ("fx-stall", 200), ("fx-slow-20", 499)])
@pytest.mark.parametrize("stream", [False, True])
async def test_t32_a_client_that_leaves_a_silent_provider(
    case: Case, model: str, status: int, stream: bool
) -> None:
    """A departure is noticed while nothing comes: upstream closed within 1 s, logged as 499, no error."""
    await case.start()
    wire = await case.wire()
    await wire.send(post(chat(f"mock/{model}", stream=stream)))
    await case.upstream.wait_until(lambda: case.upstream.seen)
    if model == "fx-stall" and stream:
        await wire.head()
    await asyncio.sleep(0.05)
    await wire.close()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=1.0)
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    assert ended.status == (status if stream else 499)
    assert [line["level"] for line in case.log] == ["info"]
    assert case.events("exchange")[0]["status"] == ended.status
