"""The plugin `limits`: how many requests and tokens per minute and day, and how many requests at once.

Responsible for whose limits a request has (`rules`), what it counts for (`estimates`), taking and giving
back (`admission`), what replies say of it (`headers`) and addresses that send bad keys (`strangers`). The
counting itself is the gateway's (`raven_proxy.counters`), and lasts over reloads.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raven_proxy import Exchange, Finding, hookimpl
from raven_proxy.config import Plan
from raven_proxy.gateway import Gateway

from .admission import Admissions
from .estimates import Estimates
from .explain import explain
from .rules import RuleBook
from .strangers import Strangers

__all__ = ["Limits"]

Tokens = Annotated[int, Meta(ge=1, le=2**31)]


class Limits:
    """Takes what a request needs at the door, and gives back what it did not use."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.limits]`.

        `default_plan` is for keys without a plan of their own; without it they have their own limits only.
        `organizations` and `members` are limits by id, `models` by name; the names are glob patterns. The
        token figures are explained in `estimates`. `failed_keys_per_minute` is by client address; 0 is off.
        """

        default_plan: str | None = None
        organizations: dict[str, Plan] = {}
        members: dict[str, Plan] = {}
        models: dict[str, Plan] = {}
        assumed_output_tokens: Tokens = 1024
        counted_output_tokens: Tokens = 4096
        minimum_tokens: Tokens = 100
        failed_keys_per_minute: Annotated[int, Meta(ge=0, le=2**31)] = 600

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Limits.Config()
        self._gateway: Gateway
        self._rules: RuleBook
        self._estimates: Estimates
        self._admissions: Admissions
        self._strangers: Strangers

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Look the plans up. Raises ConfigError for one that does not exist."""
        config = self._config
        self._gateway = gateway
        self._rules = rules = RuleBook(
            gateway.config.all_plans(),
            default_plan=config.default_plan,
            organizations=config.organizations,
            members=config.members,
            models=config.models,
        )
        self._estimates = estimates = Estimates(
            config.assumed_output_tokens, config.counted_output_tokens, config.minimum_tokens
        )
        self._admissions = Admissions(gateway, rules, estimates)
        self._strangers = Strangers(gateway, config.failed_keys_per_minute)

    @hookimpl(tryfirst=True)  # wherever it stands in `plugins`: before a key is looked up
    async def authenticate(self, exchange: Exchange) -> None:
        """Refuse addresses that sent too many bad keys; never says who is calling."""
        if self._strangers.watched:  # mostly nobody is
            await self._strangers.check(exchange)

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Take what the request needs, or refuse it."""
        rules = self._admissions.find(exchange)
        if rules is not None:
            await self._admissions.admit(exchange, rules)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say what is limited, and how much of it is in use."""
        return await explain(exchange, self._rules, self._estimates, self._gateway.counters)

    @hookimpl
    def settle_exchange(self, exchange: Exchange) -> None:
        """Give back what was not used."""
        if exchange.error is not None or self._strangers.watched:
            self._strangers.settle(exchange)
        self._admissions.settle(exchange)
