"""Phases: many requests go through them side by side, a few each on its own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from raven_proxy.phases import others


@pytest.mark.parametrize(
    ("in_flight", "expected"),
    [(3, ["a1", "a2", "b1", "b2", "c1", "c2"]), (30, ["a1", "b1", "c1", "a2", "b2", "c2"])],
)
async def test_many_requests_end_a_phase_before_any_begins_the_next(
    in_flight: int, expected: list[str]
) -> None:
    exchange: Any = SimpleNamespace(pipeline=SimpleNamespace(in_flight=in_flight))
    order: list[str] = []

    async def serve(name: str) -> None:
        order.append(f"{name}1")
        await others(exchange)
        order.append(f"{name}2")

    await asyncio.gather(*map(serve, "abc"))
    assert order == expected
