"""`GET /models`: what an organisation may call, where it goes, what fits into it and what it costs.

The list is the core's; the prices are those that hold now. What a key's own `allowedModels` leave of it is
`GET /v1/models`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from raven_proxy import Exchange, Face, GatewayError, Reply, Unauthenticated, read_nothing
from raven_proxy.exchange import Candidate
from raven_proxy.faces import Doc
from raven_proxy.holdings import holding_of
from raven_proxy.resources.routes import PAGING, reply_page

from .pricing import per_million, tiers_of
from .tariffs import Tariffs

__all__ = ["Offer", "offers_face"]

_PRICES = (
    "`prices` are decimal strings in US dollars, by the words of model_catalog.json: of tokens for a "
    "million, of an image, a request or a second for each. `tiers` hold for all tokens of a prompt that is "
    "longer than `above`. `multiplier` is the model's own. `source` is `operator` where model_catalog.json "
    "says anything of the price, `catalog` for the packaged list, `unknown` where nobody knows one: such a "
    "model is refused, unless models without a price are let through or it runs on a machine of your own."
)


class Tier(msgspec.Struct, frozen=True):
    """What holds for all tokens of a prompt that is longer than `above` tokens."""

    above: int
    price: str


class Offer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One model; `id` is what a client writes. `provider` and `upstream` are where it goes first."""

    id: str
    provider: str
    upstream: str
    context_window: int | None
    max_output_tokens: int | None
    prices: dict[str, str]
    tiers: dict[str, list[Tier]]
    multiplier: str
    source: Literal["catalog", "operator", "unknown"]


def offers_face(tariffs: Callable[[], Tariffs]) -> Face:
    """Build the face; `tariffs` gives the prices once the plugin has started."""

    async def serve(exchange: Exchange) -> Reply:
        # Only what is on the page is priced: a catalogue has thousands.
        return reply_page(
            exchange, _places(exchange), lambda one: one[0], lambda one: _offer(*one, tariffs())
        )

    return Face(
        name="models-offered", path="/models", methods=("GET",), scope="admin:read", role="viewer",
        read_call=read_nothing, json_body=False, serve=serve,
        doc=Doc(
            summary="What the organisation may call, and what it costs", tag="models", reply=Offer,
            is_list=True, query=PAGING, description=_PRICES,
        ),
    )  # fmt: skip


def _places(exchange: Exchange) -> list[tuple[str, Candidate]]:
    """List every name that stands for something now, and the place it stands for."""
    if exchange.principal is None:
        raise Unauthenticated("Send a key.")
    catalogue, holding = exchange.pipeline.catalogue, holding_of(exchange)
    anybody = msgspec.structs.replace(exchange.principal, allowed_models=None)
    found: list[tuple[str, Candidate]] = []
    for model in catalogue.list_models(anybody, holding):
        try:
            if holding is None:
                places = catalogue.resolve(model.id)
            else:
                places = catalogue.resolve_in(holding, model.id, brings_key=False)
        except GatewayError:  # all that serve it are switched off
            continue
        # Equal ones take turns, and a list does not.
        own = [one.upstream for one in holding.held] if holding is not None else []
        place = min(places, key=lambda one: own.index(one.upstream) if one.upstream in own else len(own))
        found.append((model.id, place))
    return found


def _offer(name: str, place: Candidate, tariffs: Tariffs) -> Offer:
    upstream, model = place.upstream, place.model or name
    known, tariff = upstream.describe(model), tariffs.find(upstream.preset, model)
    return Offer(
        id=name,
        provider=upstream.preset,
        upstream=upstream.label,
        context_window=known.context_window,
        max_output_tokens=known.max_tokens,
        prices=per_million(tariff) if tariff is not None else {},
        tiers={
            kind: [Tier(above=start, price=price) for start, price in steps]
            for kind, steps in (tiers_of(tariff) if tariff is not None else {}).items()
        },
        multiplier=format(tariff.multiplier, "f") if tariff is not None else "1",
        source=tariffs.source(upstream.preset, model) if tariff is not None else "unknown",
    )
