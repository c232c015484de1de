"""The official clients over a network that loses replies: one upstream call, one charge, one answer."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import ScriptedReply, error_reply

from .caller import Caller, question, reply, stream
from .cutting import Network, open_network

KEYED = {"extra_headers": {"Idempotency-Key": "order-66"}}
ASK: Any = question()
PRICES = {"m-1": {"input": "1000", "output": "2000"}}
COST_NANO = 20_000_000  # 10 x $0.001 + 5 x $0.002


@pytest.fixture
async def shop(start: Any, tmp_path: Path) -> Caller:
    """A gateway that charges."""
    path = tmp_path / "catalog.json"
    path.write_bytes(msgspec.json.encode(PRICES))
    caller: Caller = await start(base=("meter", "openai", "anthropic"), config={"catalog": str(path)})
    return caller


@pytest.fixture
async def network(shop: Caller) -> AsyncIterator[Network]:
    async with open_network(shop.gateway.url) as opened:
        yield opened


@pytest.fixture
async def client(network: Network) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{network.url}/v1", api_key=ADMIN_KEY, max_retries=2) as opened:
        yield opened


async def charges(shop: Caller) -> list[int]:
    rows = await shop.rows("entries")
    assert sum(row["cost_nano"] for row in await shop.rows("exchanges")) == sum(
        r["amount_nano"] for r in rows
    )
    return [row["amount_nano"] for row in rows if row["kind"] == "charge"]


async def test_openai_retries_after_a_lost_reply(
    shop: Caller, network: Network, client: AsyncOpenAI, upstream: Any
) -> None:
    """Its own retry, twice: exactly one upstream call, one charge, the answer that was lost."""
    upstream.script(reply("the only one"))
    network.losses = 2
    got = await client.chat.completions.with_raw_response.create(**ASK, **KEYED)
    assert got.headers["idempotent-replayed"] == "true"
    assert got.parse().choices[0].message.content == "the only one"
    assert [lost.endswith(got.content) for lost in network.lost] == [True, True]
    assert shop.asked == 1
    assert await charges(shop) == [COST_NANO]


async def test_without_the_header_the_same_is_charged_twice(
    shop: Caller, network: Network, client: AsyncOpenAI, upstream: Any
) -> None:
    """What the header is for: without it nobody can know that it is the same request."""
    upstream.script(reply(), reply())
    network.losses = 1
    await client.chat.completions.create(**ASK)
    assert shop.asked == 2
    assert await charges(shop) == [COST_NANO] * 2


async def test_a_stream_that_was_lost_half_way_is_asked_for_again(
    shop: Caller, network: Network, client: AsyncOpenAI, upstream: Any
) -> None:
    """The caller's own retry gets the whole stream, and pays nothing."""
    upstream.script(stream(*"one two three four five".split()))
    network.losses, network.passed = 1, 700
    words: list[str] = []

    async def listen() -> None:
        words.clear()
        chunks = await client.chat.completions.create(**ASK, stream=True, **KEYED)
        async for chunk in chunks:
            words.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - it may break off

    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection"):
        await listen()
    assert 0 < len(words) < 5
    await listen()
    assert "".join(words) == "onetwothreefourfive"
    assert shop.asked == 1
    assert len(await charges(shop)) == 1


async def test_openai_waits_for_the_first_that_is_still_under_way(
    shop: Caller, client: AsyncOpenAI, upstream: Any
) -> None:
    """The 409 is one that it tries again, after the second that `Retry-After` says."""
    upstream.script(reply("slow", delay_s=0.6))
    calls = [client.chat.completions.create(**ASK, **KEYED) for _ in range(3)]
    answers = await asyncio.gather(*calls)
    assert {one.choices[0].message.content for one in answers} == {"slow"}
    assert shop.asked == 1
    assert await charges(shop) == [COST_NANO]


async def test_openai_does_not_retry_a_key_that_was_used_for_something_else(
    shop: Caller, client: AsyncOpenAI
) -> None:
    """`x-should-retry: false`: one request, one ConflictError."""
    await client.chat.completions.create(**ASK, **KEYED)
    with pytest.raises(openai.ConflictError) as caught:
        await client.chat.completions.create(**ASK, temperature=0, **KEYED)
    assert caught.value.code == "idempotency_key_reused"
    assert [row["status"] for row in await shop.rows("exchanges")] == [200, 409]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_openai_retries_a_providers_error_with_the_same_key(
    shop: Caller, client: AsyncOpenAI, upstream: Any, status: int
) -> None:
    """And succeeds: an error of the provider is not kept."""
    upstream.script(error_reply(status, "No."), reply("at last"))
    answer = await client.chat.completions.create(**ASK, **KEYED)
    assert answer.choices[0].message.content == "at last"
    assert await charges(shop) == [COST_NANO]


async def test_a_form_is_the_same_though_its_boundary_is_new(
    shop: Caller, network: Network, client: AsyncOpenAI, upstream: Any
) -> None:
    """The client writes the form anew for its retry."""
    upstream.script(ScriptedReply.of_json({"text": "hello"}))
    network.losses = 1
    got = await client.audio.transcriptions.create(model="mock/m-1", file=("a.mp3", b"ABC"), **KEYED)
    assert got.text == "hello"
    assert shop.asked == 1


async def test_anthropic_retries_after_a_lost_reply(shop: Caller, network: Network, upstream: Any) -> None:
    """The same on the Messages face, translated."""
    upstream.script(reply("the only one"))
    network.losses = 1
    async with AsyncAnthropic(base_url=network.url, api_key=ADMIN_KEY) as client:
        message = await client.messages.create(
            model="mock/m-1", max_tokens=9, messages=[{"role": "user", "content": "Hi"}], **KEYED
        )
    assert message.content[0].text == "the only one"
    assert shop.asked == 1
    assert await charges(shop) == [COST_NANO]


async def test_a_repeat_holds_no_money_and_is_no_use(shop: Caller, upstream: Any) -> None:
    """It is given though the budget is spent; nothing is reserved, and `/v1/usage` counts one request."""
    client = shop.gateway.client
    async with client.post("/budgets", json={"name": "all", "limit": "15"}) as made:
        assert made.status == 201
    upstream.script(reply())
    first = await shop.chat()
    budget = (await shop.rows("budgets"))[0]["id"]
    async with client.patch(f"/budgets/{budget}", json={"limit": "0.02"}) as changed:
        assert changed.status == 200
    assert (await shop.chat("another")).status == 402
    for _ in range(3):
        again = await shop.chat()
        assert (again.replayed, again.body) == (True, first.body)
        assert "x-raven-cost" not in again.headers
    async with client.get("/v1/usage") as got:
        usage = msgspec.json.decode(await got.read())
    assert (usage["total_requests"], usage["total_tokens"], usage["total_cost"]) == (1, 15, "0.02")
    async with client.get("/budgets") as got:
        assert msgspec.json.decode(await got.read())[0]["reserved"] == "0"
    ended = [(row["outcome"], row["cost_nano"]) for row in await shop.rows("exchanges")]
    assert ended.count(("replayed", 0)) == 3
    assert await charges(shop) == [COST_NANO]
    assert shop.asked == 1


async def test_a_repeat_is_not_counted_against_limits(start: Any) -> None:
    """With one request a minute allowed: the first, any number of repeats, and no other."""
    if not importlib.metadata.entry_points(group="raven_proxy", name="limits"):
        pytest.skip("the plugin limits is not installed")
    plans = {"tiny": {"requests_per_minute": 1}}
    config = {"plans": plans, "plugin": {"limits": {"default_plan": "tiny"}}}
    caller = await start(["limits"], config=config)
    assert (await caller.chat()).status == 200
    for _ in range(5):
        again = await caller.chat()
        assert (again.status, again.headers["x-ratelimit-limit"]) == (200, "1")
    assert (await caller.chat("another")).status == 429
    assert caller.asked == 1
