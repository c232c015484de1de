"""How much is kept and for how long, and what happens when the table cannot be written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from .caller import reply, stream


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_reply_that_is_too_long_is_not_kept_and_a_repeat_says_so(
    start: Any, upstream: Any, *, streamed: bool
) -> None:
    """409 `idempotency_reply_not_kept`, with the id of the first: it ran, and does not run again."""
    caller = await start(max_reply_bytes=500)
    upstream.script(stream(*["word"] * 50) if streamed else reply("word " * 200))
    first = await caller.chat(stream=streamed)
    assert (first.status, len(first.body) > 500) == (200, True)
    again = await caller.chat(stream=streamed)
    assert (again.status, again.error["code"]) == (409, "idempotency_reply_not_kept")
    assert again.headers["x-should-retry"] == "false"
    assert first.headers["x-request-id"] in again.error["message"]
    assert "500 bytes" in again.error["message"]
    assert caller.asked == 1
    assert [row["reply"] for row in await caller.rows()] == [None]


async def test_where_there_is_no_room_a_repeat_says_so(start: Any, upstream: Any) -> None:
    """`max_total_bytes` holds for all replies together."""
    caller = await start(max_total_bytes=1500)
    for n in range(4):
        assert (await caller.chat(f"key {n}")).status == 200
    statuses = [(await caller.chat(f"key {n}")).status for n in range(4)]
    assert statuses == sorted(statuses)
    assert set(statuses) == {200, 409}
    assert sum(row["size"] for row in await caller.rows()) <= 1500
    assert caller.asked == 4


async def test_after_its_time_a_reply_is_deleted_and_the_key_is_free(start: Any) -> None:
    """`keep_s`, from the reply's end."""
    caller = await start(keep_s=0.6, lease_s=1)
    await caller.chat()
    assert (await caller.chat()).replayed
    await asyncio.sleep(1.6)
    assert await caller.rows() == []
    assert not (await caller.chat()).replayed
    assert caller.asked == 2


async def test_a_reload_loses_nothing(start: Any, upstream: Any) -> None:
    """What runs on the old pipeline is kept for the new one."""
    caller = await start()
    upstream.script(reply(delay_s=0.4))
    running = asyncio.ensure_future(caller.chat())  # noqa: TID251
    await upstream.wait_until(lambda: caller.asked)
    await caller.gateway.reload()
    assert (await caller.chat()).status == 409
    first = await running
    again = await caller.chat()
    assert (again.replayed, again.body) == (True, first.body)


async def test_where_the_table_cannot_be_written_nothing_runs(start: Any) -> None:
    """Who asks for one execution does not get an unguarded one."""
    caller = await start()
    await caller.gateway.gateway.storage.execute("DROP TABLE idempotency")
    assert (await caller.chat()).status == 500
    assert (await caller.chat(None)).status == 200
    assert caller.asked == 1


async def test_an_ending_that_cannot_be_written_is_tried_again(start: Any, upstream: Any) -> None:
    """The database is busy for a moment: the reply is kept all the same."""
    caller = await start(lease_s=1)
    storage = caller.gateway.gateway.storage
    upstream.script(reply(delay_s=0.3))
    running = asyncio.ensure_future(caller.chat())  # noqa: TID251
    await upstream.wait_until(lambda: caller.asked)
    await storage.execute("ALTER TABLE idempotency_space RENAME TO elsewhere")
    with capture_logs() as logs:
        first = await running
        await upstream.wait_until(lambda: any(log["event"] == "an ending has to wait" for log in logs))
    assert (await caller.chat()).status == 409
    await storage.execute("ALTER TABLE elsewhere RENAME TO idempotency_space")
    async with asyncio.timeout(5):
        while (again := await caller.chat()).status == 409:
            await asyncio.sleep(0.05)
    assert (again.replayed, again.body, caller.asked) == (True, first.body, 1)
