"""Plugins that misbehave, and what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raven_proxy import Exchange, hookimpl
from raven_proxy.gateway import Gateway

__all__ = ["cancelled_inside", "hanging", "misbehaving", "raising", "raising_later"]


def misbehaving(hook: str, deed: Callable[[Any], Awaitable[Any]]) -> Any:
    """Make a plugin that does `deed` in one asynchronous hook."""

    async def of_exchange(self: Any, exchange: Exchange) -> Any:
        return await deed(exchange)

    async def of_gateway(self: Any, gateway: Gateway) -> Any:
        return await deed(gateway)

    function = of_gateway if hook in {"startup", "shutdown"} else of_exchange
    return type("Broken", (), {hook: hookimpl(function)})


def raising(error: BaseException) -> Callable[[Any], Awaitable[Any]]:
    async def deed(_subject: Any) -> Any:
        raise error

    return deed


async def raising_later(_subject: Any) -> Any:
    await asyncio.sleep(0.01)
    raise ValueError("later")


async def hanging(_subject: Any) -> Any:
    await asyncio.Event().wait()


async def cancelled_inside(_subject: Any) -> Any:
    """Wait for a task of its own that was cancelled."""
    task = asyncio.get_running_loop().create_task(asyncio.sleep(5))
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await task
