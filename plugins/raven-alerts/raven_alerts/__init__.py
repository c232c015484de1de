"""The plugin `alerts`: thresholds on money and on providers' days, and what follows from them.

Responsible for daily counters, for mails and events (one a day for each rule and subject), and for pausing
upstreams until an administrator reactivates them. Read `watch` first. It stands behind the meter in the
order of plugins: what an exchange cost is known by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from raven_proxy import ConfigError, Exchange, Face, Finding, GatewayError, Reply, hookimpl, read_nothing
from raven_proxy.events import Event
from raven_proxy.faces import Doc
from raven_proxy.gateway import Gateway
from raven_proxy.storage import Transaction
from raven_proxy.tasks import Tasks

from .deliveries import Courier, Postbox
from .management import Management
from .pauses import EVERYBODY, Pauses
from .register import TOPIC, Register, migrate
from .rules import read_rules
from .settings import Settings
from .tallies import Tallies
from .watch import Standing, Watch

__all__ = ["Alerts"]

_MONEY_TOPIC = "budgets"  # what the meter bumps when a budget or a balance changes


class Alerts:
    """Watches, tells, and pauses."""

    Config = Settings

    def __init__(self, config: Settings | None = None) -> None:
        settings = config or Settings()
        try:
            self._rules = read_rules(settings)
            self._postbox = Postbox(settings.mail) if settings.mail is not None else None
        except ConfigError as error:
            raise ConfigError(f"[plugin.alerts]: {error}") from error
        self._gateway: Gateway
        self._pauses: Pauses
        self._watch: Watch
        self._courier: Courier
        self._management: Management
        self._tasks = Tasks()
        self._background: list[asyncio.Task[None]] = []
        self._stop_watching: list[Callable[[], None]] = []

    @hookimpl
    def register_routes(self, register: Callable[[Face], None]) -> None:
        """Offer `GET /alerts` and `DELETE /alerts/paused/{upstream}`."""
        told = Doc(summary="Rules, today's counts and what is paused", tag="alerts", reply=dict[str, Any])
        again = Doc(summary="Reactivate a provider", tag="alerts", reply=dict[str, Any])
        plain: dict[str, Any] = {"read_call": read_nothing, "json_body": False}
        register(
            Face(name="alerts", path="/alerts", methods=("GET",), scope="admin:read", role="viewer",
                 serve=self.serve_alerts, doc=told, **plain)
        )  # fmt: skip
        register(
            Face(name="alerts-reactivate", path="/alerts/paused/{upstream}", methods=("DELETE",),
                 scope="admin:write", role="admin", serve=self.serve_reactivation, doc=again, **plain)
        )  # fmt: skip

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Count today anew, and know what fired and what is paused."""
        self._gateway = gateway
        order = gateway.config.plugins or ()
        if "meter" in order and order.index("meter") > order.index("alerts"):
            raise ConfigError("plugins: name meter before alerts, or no cost is known when it is counted")
        storage = gateway.storage
        await migrate(storage)
        register = Register(storage)
        tallies = Tallies(storage, gateway.counters)
        self._pauses = Pauses(register)
        self._courier = Courier(register, self._rules, self._postbox)
        self._watch = Watch(self._rules, tallies, register, self._pauses, self._courier, self._standings,
                            self._publish)  # fmt: skip
        self._management = Management(
            self._rules, tallies, register, self._pauses, self._publish, gateway.records
        )
        self._stop_watching = [
            storage.watch(TOPIC, self._watch.learn),
            storage.watch(_MONEY_TOPIC, self._watch.look_again),
        ]
        await self._watch.learn()
        await tallies.rebuild()
        self._watch.look_at_all()
        self._background = [
            self._tasks.spawn(self._watch.keep_counting(), "alerts-days"),
            self._tasks.spawn(self._watch.keep_checking_money(), "alerts-money"),
        ]

    @hookimpl
    async def shutdown(self) -> None:
        """Write down what fired; leave what is not delivered to the next start."""
        for stop in self._stop_watching:
            stop()
        for task in self._background:
            task.cancel()
        await self._tasks.settle(1.0)
        await self._watch.close()
        await self._courier.close()

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Refuse what could only go to paused upstreams (429)."""
        self._pauses.check_all(exchange)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say which places are paused."""
        try:
            self._pauses.check_all(exchange)
        except GatewayError as error:
            return [Finding.refusing("paused providers", error)]
        organization_id = exchange.principal.organization_id if exchange.principal is not None else ""
        names = [one.upstream for one in exchange.candidates]
        paused = [one.label for one in names if self._pauses.is_paused(one.name, organization_id)]
        if not paused:
            return [
                Finding(rule="paused providers", verdict="allows", reason="None of the places is paused.")
            ]
        exchange.candidates = tuple(
            one for one in exchange.candidates
            if not self._pauses.is_paused(one.upstream.name, organization_id)
        )  # fmt: skip
        return [Finding(rule="paused providers", verdict="changes", reason=f"Paused: {', '.join(paused)}.")]

    @hookimpl
    async def provide_credential(self, exchange: Exchange) -> None:
        """Pass over a paused upstream before anything is prepared for it; gives no key."""
        self._pauses.check_one(exchange)

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        """Pass over a paused upstream, whoever gave the key."""
        self._pauses.check_one(exchange)

    @hookimpl
    def settle_exchange(self, exchange: Exchange) -> None:
        """Count what went upstream."""
        self._watch.settle(exchange)

    async def serve_alerts(self, exchange: Exchange) -> Reply:
        """`GET /alerts`."""
        return await self._management.show(exchange)

    async def serve_reactivation(self, exchange: Exchange) -> Reply:
        """`DELETE /alerts/paused/{upstream}`."""
        return await self._management.reactivate(exchange)

    def is_paused(self, upstream: str, organization_id: str) -> bool:
        """Say whether an upstream is paused for an organisation: for who shows upstreams."""
        return self._pauses.is_paused(upstream, organization_id)

    async def lift_pause(self, transaction: Transaction, upstream: str, organization_id: str) -> None:
        """End every pause of an upstream that is one organisation's own, as part of a change to it."""
        for place in (EVERYBODY, organization_id):
            await self._management.lift(transaction, upstream, place)

    def _publish(self, event: Event) -> None:
        """Tell other plugins; what happens to an account of an organisation's own is that one's."""
        if event.organization_id is None and "upstream" in event.data:
            owner = self._gateway.pipeline.catalogue.holdings.owner_of(event.data["upstream"])
            event = msgspec.structs.replace(event, organization_id=owner)
        self._gateway.publish(event)

    async def _standings(self) -> Sequence[Standing]:
        """Ask the plugin that keeps the books, if one is on."""
        for plugin in self._gateway.pipeline.plugins:
            ask = getattr(plugin.instance, "list_standings", None)
            if ask is not None:
                found: Sequence[Standing] = await ask()
                return found
        return ()
