"""The plugin `webhooks`: tells an organisation's own addresses what happened, signed, for a day if need be.

Responsible for `/webhooks`, for queueing what `observe_event`, the requests and the audit log bring, and for
delivering it. What is worth an event is its publisher's affair; `topics` lists what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from raven_proxy import Exchange, hookimpl
from raven_proxy.events import Event
from raven_proxy.gateway import Gateway
from raven_proxy.resources import Resource
from raven_proxy.storage import Transaction
from raven_proxy.tasks import Tasks

from .courier import Courier
from .endpoints import Endpoint, Endpoints
from .failures import Throttle, read_failure
from .log import Actions
from .outbox import MIGRATIONS, Outbox
from .sending import write_event
from .settings import Settings
from .trail import Trail, read_entry

__all__ = ["Webhooks"]

_log = structlog.get_logger("raven_webhooks")
_LOOK_EVERY_S = 1.0
_FORGET_EVERY_S = 3600.0


class Webhooks:
    """Queues and delivers."""

    Config = Settings

    def __init__(self, config: Settings | None = None) -> None:
        self._settings = config or Settings()
        self._actions = Actions(lambda: self._outbox, lambda: self._endpoints)
        self._endpoints = Endpoints(self._settings, self._actions.all)
        self._throttle = Throttle()
        self._gateway: Gateway
        self._outbox: Outbox
        self._courier: Courier
        self._trail: Trail
        self._tasks = Tasks()
        self._background: list[asyncio.Task[None]] = []
        self._stop_watching: Callable[[], None] | None = None

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/webhooks`."""
        register(self._endpoints.resource)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Know who is to be told, and go on with what is not delivered yet."""
        self._endpoints.check_secrets()
        storage = gateway.storage
        await storage.migrate("webhooks", MIGRATIONS)
        self._gateway, self._outbox, self._trail = gateway, Outbox(storage), Trail(storage)
        self._courier = Courier(
            self._outbox,
            self._endpoints,
            lambda webhook: self._endpoints.switch_off(gateway.records, webhook),
        )
        self._stop_watching = storage.watch(self._endpoints.resource.name, self._refresh)
        await self._refresh()
        self._background = [
            self._tasks.spawn(self._courier.run(), "webhooks-deliver"),
            self._tasks.spawn(self._follow_trail(), "webhooks-audit"),
            self._tasks.spawn(self._keep_forgetting(), "webhooks-forget"),
        ]

    @hookimpl
    async def shutdown(self) -> None:
        """Leave what is not delivered to the next start."""
        if self._stop_watching is not None:
            self._stop_watching()
        for task in self._background:
            task.cancel()
        await self._tasks.settle(1.0)
        await self._courier.close()

    @hookimpl
    async def observe_event(self, event: Event) -> None:
        """Queue what somebody published."""
        hearing = [one for one in self._endpoints.all if one.hears(event)]
        if hearing:
            await self._queue(event, hearing)

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Queue that a request failed or was blocked."""
        if not self._endpoints.all or (event := read_failure(exchange)) is None:
            return
        for endpoint in self._endpoints.all:
            if endpoint.hears(event):
                more = self._throttle.admit(endpoint.id, event.type)
                if more is not None:
                    data = {**event.data, "suppressed": more}
                    await self._queue(msgspec.structs.replace(event, data=data), [endpoint])

    async def _queue(self, event: Event, endpoints: Sequence[Endpoint]) -> None:
        async with self._gateway.storage.transaction() as transaction:
            await self._add(transaction, event, endpoints)
        self._courier.wake()

    async def _add(self, transaction: Transaction, event: Event, endpoints: Sequence[Endpoint]) -> None:
        body = write_event(event)
        for endpoint in endpoints:
            await self._outbox.add(transaction, endpoint.id, event.id, event.type, body)

    async def _refresh(self) -> None:
        await self._endpoints.refresh(self._gateway.records)
        self._throttle.keep(frozenset(one.id for one in self._endpoints.all))
        self._courier.wake()

    async def _follow_trail(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                if self._endpoints.all:
                    await self._look_at_trail()
            except Exception as error:
                _log.error("the audit log cannot be followed", reason=f"{type(error).__name__}: {error}")

    async def _look_at_trail(self) -> None:
        rows, position = await self._trail.look()
        while rows:
            async with self._gateway.storage.transaction() as transaction:
                if not await self._trail.advance(transaction, position, rows[-1]["id"]):
                    return
                for row in rows:
                    for event in read_entry(row):
                        hearing = [
                            one
                            for one in self._endpoints.all
                            if one.created_at <= event.at and one.hears(event)
                        ]
                        await self._add(transaction, event, hearing)
            self._courier.wake()
            rows, position = await self._trail.look()

    async def _keep_forgetting(self) -> None:
        while True:
            try:
                await self._outbox.forget_old(self._settings.keep_days)
            except Exception as error:
                _log.error("old deliveries are still there", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_FORGET_EVERY_S)
