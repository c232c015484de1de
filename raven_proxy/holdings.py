"""What organisations hold beside what everybody has: upstreams of their own.

A table in memory that one plugin fills, one for each pipeline. A request reads its own organisation's part
and no other. While nobody holds anything, a request tests one attribute.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING

import msgspec

from .errors import ConfigError, NoActiveKey
from .exchange import Candidate
from .providers import Checking, Provider, find_provider
from .upstream import Describe, Upstream, open_tls

if TYPE_CHECKING:
    from .config import UpstreamConfig
    from .exchange import Credential, Exchange

__all__ = ["Held", "Holding", "Holdings", "Match", "holding_of", "visible_upstreams"]

_CACHE_SIZE = 4096
_NOTHING: Mapping[str, Holding] = {}


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream of an organisation's own.

    Those with the lowest `priority` are asked first; among equal ones `weight` says how often each is the
    first (RFC 2782). One that is not active is known, and gets no request; one that lacks its key serves
    callers who bring theirs.
    """

    upstream: Upstream
    priority: int = 0
    weight: int = 1
    is_active: bool = True
    lacks_key: bool = False


class Match(msgspec.Struct):
    """What a name stands for in one organisation: its own upstreams, then everybody's (`others`).

    `settled` is the answer where there is nothing to draw.
    """

    own: tuple[Held, ...]
    model: str | None
    others: tuple[Candidate, ...]
    settled: tuple[Candidate, ...] | None = None


class Holding:
    """The upstreams of one organisation, the lowest priority first. Immutable but for what it remembers."""

    def __init__(self, held: Iterable[Held], random: Random | None = None) -> None:
        self.held = tuple(sorted(held, key=lambda one: one.priority))
        self.matches: dict[str, Match] = {}
        self._random = random or Random()  # noqa: S311  # shares work out, keeps no secret

    def named(self, name: str) -> tuple[Held, ...]:
        """List those of this id, label or provider."""
        return tuple(
            one for one in self.held if name in (one.upstream.name, one.upstream.label, one.upstream.preset)
        )

    def is_one(self, name: str) -> bool:
        """Say whether a name is an upstream's here, and no provider's."""
        return any(name in (one.upstream.name, one.upstream.label) for one in self.held) and not any(
            name == one.upstream.preset for one in self.held
        )

    def keep(self, name: str, match: Match) -> Match:
        """Remember what a name stands for; names come from clients, so not without end."""
        if len(self.matches) < _CACHE_SIZE:
            self.matches[name] = match
        return match

    def pick(self, match: Match, *, brings_key: bool) -> tuple[Candidate, ...]:
        """List the places to try, in order. Raises NoActiveKey (503) where all are switched off."""
        if match.settled is not None and not brings_key:
            return match.settled
        usable = [one for one in match.own if one.is_active and (brings_key or not one.lacks_key)]
        if not usable and not match.others:
            raise NoActiveKey("No provider for this request is switched on and has a key.")
        if len(usable) > 1 and not brings_key:  # a caller's key is not to go now here, now there
            usable.sort(key=self._draw)
        found = (*(Candidate(one.upstream, match.model) for one in usable), *match.others)
        if len(usable) < 2 and not brings_key:
            match.settled = found
        return found

    def upstreams(self) -> dict[str, Upstream]:
        """Map the active upstreams by id."""
        return {one.upstream.name: one.upstream for one in self.held if one.is_active}

    def _draw(self, one: Held) -> tuple[int, float]:
        """Draw so that each comes first as often as its weight says (Efraimidis and Spirakis, 2006)."""
        if one.weight <= 0:
            return one.priority, math.inf
        return one.priority, -math.log(1.0 - self._random.random()) / one.weight


class Holdings:
    """The holdings of every organisation on one pipeline; replaced as a whole when one changes.

    `providers` are those that upstreams may be built for, by name and preset.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider] | None = None,
        describers: tuple[Describe, ...] = (),
        *,
        allow_private: bool = False,
    ) -> None:
        self.providers = providers or {}
        self.allow_private = allow_private
        self.are_any = False
        self._known = _NOTHING
        self._describers = describers
        self._tls: ssl.SSLContext | None = None

    def of(self, organization_id: str) -> Holding | None:
        """Give what an organisation holds."""
        return self._known.get(organization_id)

    def all(self) -> Iterable[Holding]:
        """List what everybody holds."""
        return self._known.values()

    def owner_of(self, upstream: str) -> str | None:
        """Name the organisation that holds an upstream; None for the config's, and for none."""
        held = ((owner, one) for owner, holding in self._known.items() for one in holding.held)
        return next((owner for owner, one in held if one.upstream.name == upstream), None)

    def replace(self, known: Mapping[str, Holding]) -> None:
        """Put these in the place of the ones before."""
        self._known = known
        self.are_any = bool(known)

    def forget(self) -> None:
        """Look names up anew: upstreams have learned what they offer."""
        for holding in self._known.values():
            holding.matches = {}

    def build(self, config: UpstreamConfig, label: str, credential: Credential | None) -> Upstream:
        """Build an upstream that is not the config's: it has no say over what only a config file may say.

        Raises ConfigError for an unknown provider, and for options that its plugin does not take.
        """
        provider = find_provider(self.providers, config.provider)
        if isinstance(provider, Checking):
            provider.check_options(config.provider, config.options)
        elif config.options:
            raise ConfigError(f"options: the provider {config.provider!r} takes none")
        if self._tls is None:
            self._tls = open_tls(None)  # reading the certificates takes 10 ms: once for all
        return Upstream(
            config,
            provider,
            allow_private=self.allow_private,
            describers=self._describers,
            label=label,
            credential=credential,
            tls=self._tls,
            is_stored=True,
        )


def holding_of(exchange: Exchange) -> Holding | None:
    """Give what the caller's organisation holds."""
    holdings = exchange.pipeline.catalogue.holdings
    if not holdings.are_any or exchange.principal is None:
        return None
    return holdings.of(exchange.principal.organization_id)


def visible_upstreams(exchange: Exchange) -> Mapping[str, Upstream]:
    """Map the upstreams that the caller's organisation may use by id: its own first, then everybody's."""
    holding = holding_of(exchange)
    upstreams = exchange.pipeline.upstreams
    return upstreams if holding is None else holding.upstreams() | dict(upstreams)
