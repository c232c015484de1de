"""One timer a reply: silence, total time, and signs of life."""

from __future__ import annotations

import asyncio

import pytest

from raven_proxy.errors import UpstreamTimeout
from raven_proxy.watch import Watch


async def test_silence_is_noticed_once() -> None:
    late: list[UpstreamTimeout] = []
    Watch(0.03, 60, late.append)
    await asyncio.sleep(0.1)
    assert [str(error) for error in late] == ["The provider was silent for 0.03 s."]


async def test_bytes_put_silence_off_but_not_the_total() -> None:
    late: list[UpstreamTimeout] = []
    watch = Watch(0.15, 0.6, late.append)
    for _ in range(25):
        await asyncio.sleep(0.01)
        watch.touch()
    assert late == []
    for _ in range(45):
        await asyncio.sleep(0.01)
        watch.touch()
    assert [str(error) for error in late] == ["The reply took longer than the total limit."]


async def test_while_the_client_is_slow_silence_is_not_the_providers() -> None:
    late: list[UpstreamTimeout] = []
    watch = Watch(0.02, 60, late.append)
    watch.paused = True
    await asyncio.sleep(0.08)
    assert late == []
    watch.paused = False
    watch.touch()
    await asyncio.sleep(0.08)
    assert len(late) == 1


@pytest.mark.parametrize("quiet_s", [0.0, 0.02])
async def test_a_sign_of_life_is_sent_only_where_it_is_asked_for(quiet_s: float) -> None:
    signs: list[int] = []
    watch = Watch(60, 60, lambda _: None, quiet_s, lambda: signs.append(1))
    await asyncio.sleep(0.07)
    watch.stop()
    assert bool(signs) is (quiet_s > 0)


async def test_a_stopped_watch_says_nothing() -> None:
    late: list[UpstreamTimeout] = []
    watch = Watch(0.01, 60, late.append)
    watch.stop()
    watch.stop()
    await asyncio.sleep(0.04)
    assert late == []
