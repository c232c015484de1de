"""Takes deliveries from the outbox when their turn comes, a few at a time, and writes down how each went.

Every process has one; the outbox gives each delivery to one of them. Nothing here is waited for by a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from raven_proxy.storage import Row
from raven_proxy.tasks import Tasks

from .endpoints import Endpoints
from .outbox import Outbox
from .sending import post

__all__ = ["Courier"]

_log = structlog.get_logger("raven_webhooks.courier")
_AT_ONCE = 8
_AT_ONCE_EACH = 2  # a receiver that hangs holds up nobody else's
_LOOK_EVERY_S = 5.0  # what other processes queued or left behind
_PAUSE_S = 1.0  # after a failure of our own


class Courier:
    """Delivers for one pipeline. `switch_off(webhook)` is called for one that has failed for long."""

    def __init__(
        self, outbox: Outbox, endpoints: Endpoints, switch_off: Callable[[str], Awaitable[None]]
    ) -> None:
        self._outbox = outbox
        self._endpoints = endpoints
        self._switch_off = switch_off
        self._tasks = Tasks()
        self._under_way: dict[str, str] = {}  # delivery → webhook
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at once: something was queued, or the webhooks changed."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            wait_s = _LOOK_EVERY_S
            try:
                if self._endpoints.all:
                    wait_s = await self._begin_due()
            except Exception as error:
                _log.error("webhooks have to wait", reason=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_PAUSE_S)
            try:
                await asyncio.wait_for(self._wake.wait(), max(wait_s, 0.01))
            except TimeoutError:
                continue
            self._wake.clear()

    async def close(self) -> None:
        """Stop; what is not delivered is somebody else's from now on."""
        left = list(self._under_way)
        await self._tasks.settle(0.5)
        await self._outbox.release(left)

    async def _begin_due(self) -> float:
        """Begin what is due; give how long there is nothing more to begin."""
        free = _AT_ONCE - len(self._under_way)
        if free <= 0:
            return _LOOK_EVERY_S  # one that ends wakes us
        number = Counter(self._under_way.values())
        busy = [webhook for webhook, count in number.items() if count >= _AT_ONCE_EACH]
        rows = await self._outbox.claim(min(free, _AT_ONCE_EACH), busy)
        for row in rows:
            self._under_way[row["id"]] = row["webhook_id"]
            self._tasks.launch(self._deliver(row), "webhook-delivery")
        return (
            0.0 if rows else min(_LOOK_EVERY_S, await self._outbox.next_due() if not busy else _LOOK_EVERY_S)
        )

    async def _deliver(self, row: Row) -> None:
        try:
            endpoint = self._endpoints.get(row["webhook_id"])
            if endpoint is None:
                await self._outbox.give_up(row, "the webhook is switched off")
                return
            result = await post(endpoint.target, row["id"], row["type"], bytes(row["payload"]))
            now = await self._outbox.note(row, result)
            if result.error is not None:
                _log.warning(
                    "a webhook was not delivered", webhook=row["webhook_id"], delivery=row["id"],
                    tries=now["tries"], state=now["state"], reason=result.error,
                )  # fmt: skip
            if now["state"] == "failed":
                await self._judge_health(now)
        finally:
            self._under_way.pop(row["id"], None)
            self.wake()

    async def _judge_health(self, row: Row) -> None:
        """Switch a webhook off to which nothing was delivered while one delivery was tried to its end."""
        health = await self._outbox.health_of(row["webhook_id"])
        if health is not None and health <= row["first_tried_at"]:
            await self._switch_off(row["webhook_id"])
