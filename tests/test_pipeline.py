"""Calling hooks: in order, within their time, and what fails names its plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from raven_proxy.errors import PluginFailed, Refused
from raven_proxy.pipeline import HookCall, call_all, call_first


def call(function: Callable[[Any], Coroutine[Any, Any, Any]], timeout_s: float = 5.0) -> HookCall:
    return HookCall("plug", "check_request", function, timeout_s)


async def test_the_first_answer_wins_and_later_plugins_are_not_asked() -> None:
    asked: list[int] = []

    def answers(number: int, answer: object) -> HookCall:
        async def hook(_: object) -> object:
            asked.append(number)
            await asyncio.sleep(0)
            return answer

        return call(hook)

    assert await call_first((answers(1, None), answers(2, 0), answers(3, "late")), None) == 0
    assert asked == [1, 2]
    assert await call_first((), None) is None
    assert await call_first((answers(1, None),), None) is None


async def test_all_are_called_in_order_with_the_subject() -> None:
    seen: list[object] = []

    async def hook(subject: object) -> None:
        seen.append(subject)

    await call_all((call(hook), call(hook)), "exchange")
    assert seen == ["exchange", "exchange"]


@pytest.mark.parametrize("wait", [False, True])
async def test_a_refusal_passes_and_anything_else_becomes_a_failure_of_the_plugin(*, wait: bool) -> None:
    async def hook(error: Exception) -> None:
        if wait:
            await asyncio.sleep(0.001)
        raise error

    with pytest.raises(Refused):
        await call_all((call(hook),), Refused("no"))
    with capture_logs() as events, pytest.raises(PluginFailed) as failure:
        await call_all((call(hook),), KeyError("inside"))
    assert (failure.value.plugin, failure.value.hook, failure.value.status) == ("plug", "check_request", 500)
    assert "inside" not in failure.value.message
    assert [(event["plugin"], event["hook"], event["reason"]) for event in events] == [
        ("plug", "check_request", "KeyError")
    ]


async def test_a_hook_that_outlasts_its_limit_is_stopped() -> None:
    stopped: list[bool] = []

    async def hook(_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    with capture_logs() as events, pytest.raises(PluginFailed):
        await call_all((call(hook, 0.02),), None)
    assert stopped == [True]
    assert events[0]["reason"] == "outlasted its limit of 0.02 s"


async def test_a_timeout_of_the_plugins_own_is_its_own_failure() -> None:
    async def hook(_: object) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    with capture_logs() as events, pytest.raises(PluginFailed):
        await call_all((call(hook),), None)
    assert events[0]["reason"] == "TimeoutError"


@pytest.mark.parametrize("steps", [0, 1, 3])
async def test_a_hook_may_suspend_as_often_as_it_likes(steps: int) -> None:
    async def hook(loop: asyncio.AbstractEventLoop) -> str:
        for _ in range(steps):
            await asyncio.sleep(0)
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
        return "done"

    assert await call_first((call(hook),), asyncio.get_running_loop()) == "done"


async def test_cancelling_the_exchange_reaches_the_hook() -> None:
    reached = asyncio.Event()

    async def hook(_: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            reached.set()

    task = asyncio.get_running_loop().create_task(call_all((call(hook),), None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached.is_set()
