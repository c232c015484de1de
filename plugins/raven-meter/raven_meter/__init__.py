"""The plugin `meter`: what each exchange used and cost, and whether its caller can pay.

Responsible for the catalogue of models and prices, for balances and budgets, for the journal and the
ledger, and for the table `exchanges`. Read `accounting` first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from raven_proxy import Exchange, Face, Finding, Reply, Unauthenticated, hookimpl, read_nothing
from raven_proxy.events import Event
from raven_proxy.gateway import Gateway
from raven_proxy.resources import Resource
from raven_proxy.storage import Storage
from raven_proxy.tasks import Tasks

from .accounting import Accounting
from .analytics import analytics_face
from .batches import BatchBilling
from .books import Books, Standing
from .budgets import TOPIC, Budgets
from .catalogue import load_packaged, operator
from .catalogue.command import catalogue
from .command import reconcile
from .exchanges import migrate
from .explain import explain
from .feed import Feed
from .journal import Fsync, Journal
from .keeper import Keeper
from .management import Management, faces
from .offers import offers_face
from .pricing_page import faces as pages
from .records import recover
from .request_log import LOGS
from .tail import tail
from .tariffs import Tariffs
from .terms import TermBook
from .usage import read_period, summarize

__all__ = ["Meter"]


class Meter:
    """Prices, holds, charges and writes down every exchange."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.meter]`.

        `allow_unpriced` lets models through that nobody knows a price of. With `prepaid` an organisation
        without any grant may spend nothing. `assumed_output_tokens` bounds what is held for an answer whose
        length the client leaves open. `fsync` is the journal's: "never", "interval" (a second) or "always".
        `batch_share` is what a batch costs of the list price. With `public_pricing` the page /docs/pricing
        needs no key.
        """

        allow_unpriced: bool = False
        prepaid: bool = False
        assumed_output_tokens: Annotated[int, Meta(ge=1)] = 4096
        fsync: Fsync = "interval"
        public_pricing: bool = True
        batch_share: Annotated[str, Meta(pattern=r"^[0-9](\.[0-9]{1,6})?\Z")] = "0.5"

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Meter.Config()
        self._operator_models: dict[str, operator.OperatorModel] = {}
        self._storage: Storage
        self._books: Books
        self._feed = Feed()
        self._tariffs: Tariffs
        self._terms: TermBook
        self._accounting: Accounting
        self._management: Management
        self._gateway: Gateway
        self._budgets = Budgets(lambda: self._gateway.counters, self._find_resource)
        self._journal: Journal
        self._keeper: Keeper
        self._batches: BatchBilling
        self._tasks = Tasks()
        self._background: list[asyncio.Task[None]] = []
        self._stop_watching: Callable[[], None] | None = None

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `GET /v1/usage`, `/credits`, `/models`, `/analytics`, receipts and the feed of the log."""
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
        for face in faces(lambda: self._management):
            register(face)
        register(self._feed.face())
        register(offers_face(lambda: self._tariffs))
        register(analytics_face(lambda: self._storage))
        for page in pages(lambda: self._operator_models, public=self._config.public_pricing):
            register(page)

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/budgets` and `/logs`."""
        register(self._budgets.resource)
        register(LOGS)

    def _find_resource(self, name: str) -> Resource[Any] | None:
        return next((one for one in self._gateway.pipeline.resources if one.name == name), None)

    @hookimpl
    def register_models(self, register: Callable[..., None]) -> None:
        """Tell context windows: the operator's catalogue first, then the packaged one."""
        register(lambda provider, model: operator.describe(self._operator_models, provider, model))
        register(load_packaged().describe)

    @hookimpl
    def register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Offer `raven-proxy catalogue`, `raven-proxy reconcile` and `raven-proxy tail`."""
        register(catalogue)
        register(reconcile)
        register(tail)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read the operator's catalogue, replay what a crash left, and open the books."""
        former = next((p.instance for p in gateway.pipeline.plugins if isinstance(p.instance, Meter)), self)
        self._operator_models = operator.read_catalog(gateway.config.catalog, former._operator_models)
        self._tariffs = tariffs = Tariffs(load_packaged(), self._operator_models)
        self._gateway = gateway
        self._storage = gateway.storage
        ids = await migrate(gateway.storage)
        self._journal = Journal(gateway.data_dir / "journal", self._config.fsync)
        recovered = await recover(self._journal, gateway.storage, ids, tariffs)
        # What the former pipeline still serves is charged to the same books.
        books = Books(gateway.storage, gateway.counters) if former is self else former._books
        books.prepaid = self._config.prepaid
        self._books = books
        self._stop_watching = gateway.storage.watch(TOPIC, books.refresh)
        await books.refresh()
        if any(recovered):
            await books.catch_up()
        self._keeper = Keeper(self._journal, gateway.storage)
        assumed = self._config.assumed_output_tokens
        self._terms = terms = TermBook(
            gateway, books, tariffs,
            allow_unpriced=self._config.allow_unpriced, assumed_output_tokens=assumed,
        )  # fmt: skip
        self._accounting = Accounting(gateway, books, self._keeper, terms, ids, assumed_output_tokens=assumed)
        share = Decimal(self._config.batch_share)
        self._batches = BatchBilling(gateway.storage, books, tariffs, ids, share)
        self._feed.start(gateway)
        self._management = Management(gateway.storage, gateway.counters, books, gateway.records)
        self._background = [
            self._tasks.spawn(books.keep(), "meter-counters"),
            self._tasks.spawn(self._keeper.keep(), "meter-keeper"),
            self._tasks.spawn(self._journal.keep_synced(), "meter-journal"),
        ]

    @hookimpl
    async def shutdown(self) -> None:
        """Bring everything into the database and let go of the journal."""
        for task in self._background:
            task.cancel()
        await self._tasks.settle(1.0)
        if self._stop_watching is not None:
            self._stop_watching()
        await self._keeper.turn_over()
        self._journal.close()

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Hold what the exchange may cost."""
        admission = self._accounting.admit(exchange)
        if admission is not None:
            await self._accounting.hold(exchange, admission)

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        """Write down that it goes upstream."""
        self._accounting.record_admission(exchange)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say what it would cost, and what bounds its caller."""
        return await explain(exchange, self._accounting, self._terms, self._books, self._gateway.counters)

    @hookimpl
    def settle_exchange(self, exchange: Exchange) -> None:
        """Charge what was used and write it down."""
        self._accounting.settle(exchange)

    @hookimpl
    async def observe_event(self, event: Event) -> None:
        """Charge a batch that is over."""
        if event.type == "batch.finished":
            await self._batches.charge(event)

    async def list_standings(self) -> list[Standing]:
        """Say how every balance and budget stands; for plugins that watch over them."""
        return await self._books.standings()

    async def serve_usage(self, exchange: Exchange) -> Reply:
        """Answer with the calling key's own usage, up to the moment."""
        if exchange.principal is None:
            raise Unauthenticated("Usage is shown to the key that it is of.")
        query = exchange.request.query
        period = read_period(query.get("start_date"), query.get("end_date"))
        summary = await summarize(self._storage, exchange.principal.key_id, period)
        return Reply(headers={"Content-Type": "application/json"}, body=msgspec.json.encode(summary))
