"""Observers: each sees every exchange once, and what one of them does harms nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from raven_proxy.errors import Refused, UpstreamError
from raven_proxy.observation import Observation
from raven_proxy.pipeline import HookCall
from raven_proxy.tasks import Tasks
from raven_proxy.testing import ExchangeFactory


def call(function: Any, name: str = "plug") -> HookCall:
    return HookCall(name, "finish_exchange", function, 0.05)


async def observe(
    exchange: ExchangeFactory, *calls: HookCall, count: int = 2
) -> tuple[Observation, list[Any]]:
    tasks = Tasks()
    observation = Observation(tasks)
    made = []
    for _ in range(count):
        one = exchange({"model": "m"})
        one.pipeline.finish_exchange = calls
        one.pipeline.in_flight += 1
        observation.add(one)
        made.append(one)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await tasks.settle(2.0)
    return observation, made


async def test_every_observer_sees_every_exchange_once_and_in_order(exchange: ExchangeFactory) -> None:
    seen: list[tuple[str, int]] = []

    async def first(one: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("first", id(one)))

    async def second(one: Any) -> None:
        seen.append(("second", id(one)))

    _, made = await observe(exchange, call(first), call(second))
    assert seen == [(name, id(one)) for one in made for name in ("first", "second")]
    assert made[0].pipeline.in_flight == 0


@pytest.mark.parametrize(
    "error", [ValueError("x"), Refused("too late"), UpstreamError("too late"), TimeoutError()]
)
async def test_one_that_raises_is_counted_and_the_others_still_see_it(
    exchange: ExchangeFactory, error: Exception
) -> None:
    seen: list[Any] = []

    async def raises(_: Any) -> None:
        raise error

    async def sees(one: Any) -> None:
        seen.append(one)

    with capture_logs() as events:
        observation, made = await observe(exchange, call(raises, "bad"), call(sees, "good"))
    assert seen == made
    assert made[0].pipeline.in_flight == 0
    assert observation.failures == {("bad", "finish_exchange"): 2}
    assert {event["plugin"] for event in events if event["event"] == "plugin failed"} == {"bad"}


async def test_one_that_hangs_is_stopped_and_counted(exchange: ExchangeFactory) -> None:
    async def hangs(_: Any) -> None:
        await asyncio.sleep(60)

    with capture_logs():
        observation, made = await observe(exchange, call(hangs, "slow"))
    assert observation.failures == {("slow", "finish_exchange"): 2}
    assert made[0].pipeline.in_flight == 0


async def test_the_access_log_has_one_line_an_exchange_and_no_prompt(exchange: ExchangeFactory) -> None:
    with capture_logs() as events:
        tasks = Tasks()
        observation = Observation(tasks)
        one = exchange({"model": "m", "messages": "canary"})
        one.pipeline.logs_access = True
        observation.add(one)
        await asyncio.sleep(0.01)
        await tasks.settle(1.0)
    (event,) = [event for event in events if event["event"] == "exchange"]
    assert event["request_id"] == "req_test"
    assert (event["model"], event["upstream"], event["key"], event["client"]) == (
        "m",
        "test",
        "key_test",
        "127.0.0.1",
    )
    assert "canary" not in repr(event)
