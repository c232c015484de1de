"""The plugin `meter`: what each exchange used, kept as a row, and a key's view of its own.

Responsible for the table `exchanges`, for `GET /v1/usage`, and for the catalogue of models. It observes:
whatever fails here, the client has its reply. Balances and budgets are not here yet.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from raven_proxy import Exchange, Face, Reply, Unauthenticated, hookimpl, read_nothing
from raven_proxy.gateway import Gateway
from raven_proxy.storage import Storage

from .catalogue import load_packaged, operator
from .catalogue.command import catalogue
from .exchanges import INSERT, RowIds, make_row, migrate
from .tariffs import Tariffs
from .usage import read_period, summarize

__all__ = ["Meter"]


class Meter:
    """Writes a row per exchange, behind the reply."""

    def __init__(self) -> None:
        self._operator_models: dict[str, operator.OperatorModel] = {}
        self._tariffs: Tariffs
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
    def register_models(self, register: Callable[..., None]) -> None:
        """Tell context windows: the operator's catalogue first, then the packaged one."""
        register(lambda provider, model: operator.describe(self._operator_models, provider, model))
        register(load_packaged().describe)

    @hookimpl
    def register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Offer `raven-proxy catalogue`."""
        register(catalogue)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read the operator's catalogue and bring the table up to date."""
        self._operator_models = operator.read_catalog(gateway.config.catalog)
        self._tariffs = Tariffs(load_packaged(), self._operator_models)
        self._storage = gateway.storage
        self._ids = await migrate(gateway.storage)

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Queue the row."""
        cost_nano = self._tariffs.price(exchange)
        self._storage.write_behind(INSERT, make_row(exchange, self._ids.next(), cost_nano))

    async def serve_usage(self, exchange: Exchange) -> Reply:
        """Answer with the calling key's own usage, up to the moment."""
        if exchange.principal is None:
            raise Unauthenticated("Usage is shown to the key that it is of.")
        query = exchange.request.query
        period = read_period(query.get("start_date"), query.get("end_date"))
        summary = await summarize(self._storage, exchange.principal.key_id, period)
        return Reply(headers={"Content-Type": "application/json"}, body=msgspec.json.encode(summary))
