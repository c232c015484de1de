"""The plugin `providers`: an organisation's own accounts at providers, kept in the database.

Responsible for `/providers`, and for the upstreams that it comes to (`Gateway.holdings`): a change reaches
the next request in every worker. Who is routed where is the core's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from raven_proxy import hookimpl
from raven_proxy.gateway import Gateway
from raven_proxy.resources import Record, Resource
from raven_proxy.tasks import Tasks

from .account import MIGRATIONS, Account, Shown, example
from .listing import Listings
from .pauses import Pauses
from .rules import Rules
from .shelf import Shelf
from .trial import make_trial

__all__ = ["Providers"]


class Providers:
    """Keeps provider accounts and makes upstreams of them."""

    def __init__(self) -> None:
        self._gateway: Gateway
        self._rules: Rules
        self._shelf: Shelf
        self._pauses: Pauses
        self._tasks = Tasks()
        self._asking: asyncio.Task[None] | None = None
        self._stop_watching: Callable[[], None] | None = None
        self.resource: Resource[Account] = Resource(
            name="providers", most=200, singular="provider", table="providers", prefix="prov_", body=Account,
            shown=Shown, summary="Accounts at providers, of an organisation's own", example=example(),
            filters=("provider",),
            prepare=lambda fields: self._rules.prepare(fields),
            check=lambda change: self._rules.check(change),
            show=self._show,
            actions=(make_trial(lambda record: self._shelf.build(record)),),
        )  # fmt: skip

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/providers`."""
        register(self.resource)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Make upstreams of what is stored, and again whenever that changes."""
        self._gateway = gateway
        await gateway.storage.migrate("providers", MIGRATIONS)
        before, holdings = gateway.pipeline.catalogue.holdings, gateway.holdings
        self._pauses = Pauses(lambda: gateway.pipeline.plugins)
        self._rules = Rules(lambda: gateway.pipeline, holdings, self._pauses)
        self._shelf = Shelf(gateway.records, self.resource, holdings)
        listings = Listings(self._shelf, holdings, gateway.config.models_refresh_s)
        self._stop_watching = gateway.storage.watch(self.resource.name, self._shelf.refresh)
        await self._shelf.refresh()
        self._shelf.inherit(before)
        self._asking = self._tasks.spawn(listings.run(), "providers-models")

    @hookimpl
    async def shutdown(self) -> None:
        """Watch and ask no longer, and let the connections go."""
        if self._stop_watching is not None:
            self._stop_watching()
        if self._asking is not None:
            self._asking.cancel()
        await self._tasks.settle(1.0)
        self._shelf.close()

    async def _show(self, record: Record[Account]) -> dict[str, Any]:
        status = self._shelf.judge(record)
        if status == "active" and self._pauses.is_paused(record.id, record.organization_id):
            status = "paused"
        return {"slug": record.columns["slug"], "status": status}
