"""What is the same for each request of one caller for one model, found once a minute instead of each time.

Prices, what bounds the caller, and what rows and the journal's records say of all of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from raven_proxy import Exchange, InvalidRequest, Principal
from raven_proxy.addresses import OWN_NAMES
from raven_proxy.exchange import Candidate
from raven_proxy.gateway import Gateway
from raven_proxy.upstream import Upstream

from .books import NO_BOUNDS, Books, Bounds
from .exchanges import name_parts
from .pricing import ONE, Tariff
from .records import who_and_what
from .tariffs import Tariffs

__all__ = ["Place", "TermBook", "Terms", "is_own", "make_place", "rate_of"]

_MOST_KEPT = 8192
_MINUTE_S = 60
_Key = tuple[str, str, str | None, bool]


class Place(msgspec.Struct, frozen=True):
    """A candidate as one caller sees it; None where a request went nowhere."""

    candidate: Candidate | None
    tariff: Tariff | None
    rate: Decimal  # the multiplier of the caller's prices
    names: tuple[str | None, ...]  # `exchanges.name_parts`
    member_id: str | None
    is_unpriced: bool = False  # nobody knows a price, and somebody lets it pass
    answer: int = 0  # tokens of an answer whose length the client leaves open
    record: bytes = b""  # `records.who_and_what`


class Terms(msgspec.Struct, frozen=True):
    """What holds for a caller's requests of one kind. `version` is that of the books that `bounds` are of.

    What no vendor bills (`Dialect.is_free`) has neither places nor bounds.
    """

    principal: Principal
    candidates: tuple[Candidate, ...]
    version: int
    first: Place  # where it goes if nothing fails
    places: tuple[Place, ...] = ()
    bounds: Bounds = NO_BOUNDS
    is_unpriced: bool = False  # one of its places is


class TermBook:
    """The terms of all callers of one pipeline.

    They hold until the minute is over, as prices and periods change with a minute, or the books change.
    """

    def __init__(
        self,
        gateway: Gateway,
        books: Books,
        tariffs: Tariffs,
        *,
        allow_unpriced: bool,
        assumed_output_tokens: int,
    ) -> None:
        self._gateway = gateway
        self._books = books
        self._tariffs = tariffs
        self._allow_unpriced = allow_unpriced
        self._assumed_output_tokens = assumed_output_tokens
        self._kept: dict[_Key, Terms] = {}
        self._minute = 0
        self._version = -1

    def find(self, exchange: Exchange, principal: Principal, at: int) -> Terms:
        """Give the terms of a request at a moment (Unix seconds). Raises InvalidRequest (no price)."""
        call, minute = exchange.call, at // _MINUTE_S
        if minute != self._minute or self._version != self._books.version:
            self._kept, self._minute, self._version = {}, minute, self._books.version
        key = principal.key_id, exchange.face.name, call.model, call.stream
        terms = self._kept.get(key)
        if (
            terms is not None
            and terms.principal == principal
            and terms.candidates == exchange.candidates
            and not (terms.is_unpriced and not self.lets_unpriced(exchange))
        ):
            return terms
        if len(self._kept) >= _MOST_KEPT:  # names of models come from clients
            self._kept.clear()
        terms = self._kept[key] = self._make(exchange, principal, at)
        return terms

    def _make(self, exchange: Exchange, principal: Principal, at: int) -> Terms:
        candidates = exchange.candidates
        if exchange.face.dialect.is_free:
            # Of no version of the books: if it costs something after all, that is charged.
            return Terms(principal, candidates, -1, make_place(exchange, None, None))
        places = tuple([self.price(exchange, one) for one in candidates])
        return Terms(
            principal=principal,
            candidates=candidates,
            version=self._version,
            first=places[0] if places else make_place(exchange, None, None),
            places=places,
            bounds=self._books.bounds(principal, at),
            is_unpriced=any(place.is_unpriced for place in places),
        )

    def price(self, exchange: Exchange, candidate: Candidate) -> Place:
        """Find what a candidate costs; without a tariff it may cost nothing. Raises InvalidRequest."""
        tariff = self.find_tariff(exchange, candidate)
        upstream, model = candidate.upstream, candidate.model or exchange.model
        is_unpriced = tariff is None and model is not None and self.lets_unpriced(exchange)
        if tariff is None and model is not None and not is_unpriced and not is_own(upstream):
            raise InvalidRequest(
                f"The model {model!r} of {upstream.name} has no known price, so it cannot be billed. Who "
                "runs the gateway can give it one in the file that `catalog` names, or let it pass: with "
                "`allow_unpriced` in [plugin.meter], or `allowUnpriced` of the organisation.",
                code="unknown_model_pricing",
                param="model",
            )
        answer = 0
        if tariff is not None:
            longest = upstream.describe(model or "").max_tokens
            answer = min(longest or self._assumed_output_tokens, self._assumed_output_tokens)
        record = who_and_what(exchange, candidate, rate_of(exchange.principal))
        place = make_place(exchange, candidate, tariff, record=record)
        return msgspec.structs.replace(place, answer=answer, is_unpriced=is_unpriced)

    def find_tariff(self, exchange: Exchange, candidate: Candidate) -> Tariff | None:
        """Give the prices of now; None where none is known, or there is no model to have one."""
        model = candidate.model or exchange.model
        return None if model is None else self._tariffs.find(candidate.upstream.preset, model)

    def lets_unpriced(self, exchange: Exchange) -> bool:
        """Say whether models without a price pass: as the organisation says, or else the config."""
        principal = exchange.principal
        known = self._gateway.organizations.get(principal.organization_id) if principal is not None else None
        own = known.allow_unpriced if known is not None else None
        return self._allow_unpriced if own is None else own


def make_place(
    exchange: Exchange, candidate: Candidate | None, tariff: Tariff | None, *, record: bytes = b""
) -> Place:
    """Say what a candidate is to the caller of an exchange."""
    principal = exchange.principal
    attributes: Mapping[str, Any] = principal.attributes if principal is not None else {}
    return Place(
        candidate=candidate,
        tariff=tariff,
        rate=rate_of(principal),
        names=name_parts(exchange, candidate),
        member_id=attributes.get("member_id"),
        record=record,
    )


def rate_of(principal: Principal | None) -> Decimal:
    """Give the multiplier of a caller's prices: `ONE` itself where it changes nothing."""
    value = principal.attributes.get("rate_multiplier") if principal is not None else None
    return ONE if value is None or value == 1 else Decimal(str(value))


def is_own(upstream: Upstream) -> bool:
    """Say whether an upstream is the operator's own machine: it has no key and no public address."""
    if upstream.implicit:
        return True
    if upstream.credential is not None or upstream.provider.needs_key(upstream.preset):
        return False
    try:
        return not ipaddress.ip_address(upstream.host.strip("[]")).is_global
    except ValueError:
        return "." not in upstream.host or upstream.host.endswith(OWN_NAMES)
