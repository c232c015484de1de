"""The plugin `meter`: what each exchange used, kept as a row, and a key's view of its own.

Responsible for the table `exchanges` and for `GET /v1/usage`. It observes: whatever fails here, the
client has its reply. Prices, balances and budgets are not here yet.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy import Exchange, Face, Reply, Unauthenticated, hookimpl, read_nothing
from raven_proxy.gateway import Gateway
from raven_proxy.storage import Storage

from .exchanges import INSERT, RowIds, make_row, migrate
from .usage import read_period, summarize

__all__ = ["Meter"]


class Meter:
    """Writes a row per exchange, behind the reply."""

    def __init__(self) -> None:
        self._storage: Storage
        self._ids: RowIds

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `GET /v1/usage`."""
        register(
            Face(
                name="usage",
                path="/v1/usage",
                methods=("GET",),
                scope="usage:read",
                read_call=read_nothing,
                json_body=False,
                serve=self.serve_usage,
            )
        )

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Bring the table up to date."""
        self._storage = gateway.storage
        self._ids = await migrate(gateway.storage)

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Queue the row."""
        self._storage.write_behind(INSERT, make_row(exchange, self._ids.next()))

    async def serve_usage(self, exchange: Exchange) -> Reply:
        """Answer with the calling key's own usage, up to the moment."""
        if exchange.principal is None:
            raise Unauthenticated("Usage is shown to the key that it is of.")
        query = exchange.request.query
        period = read_period(query.get("start_date"), query.get("end_date"))
        summary = await summarize(self._storage, exchange.principal.key_id, period)
        return Reply(headers={"Content-Type": "application/json"}, body=msgspec.json.encode(summary))
