"""The shapes of the packaged catalogue file.

Prices are decimal strings in US dollars: per million tokens for tokens, per thousand for requests and
searches, each for images, seconds and hours. A price in tiers is `[base, [start, price], …]`: the price
of the highest tier whose `start` the prompt's tokens exceed holds for all tokens.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["CatalogueFile", "Match", "ModelEntry", "Price", "ProviderEntry", "Rates", "Variant"]

Price = str | list[Any]
"""A decimal string, or tiers."""

Match = dict[str, Any]
"""One clause: `{"equals": text}`, likewise `starts_with`, `ends_with`, `contains`, `regex`, or
`{"in": [text, …]}`, `{"or": [clause, …]}`, `{"and": [clause, …]}`. Texts are lower case."""


class Rates(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a model costs from `since` (a day of UTC) on, or `between` two times of day of UTC."""

    prices: dict[str, Price]
    since: str | None = None
    between: tuple[str, str] | None = None


class Variant(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Prices that go over the usual ones where the request says `when` (`service_tier`, `processing`)."""

    when: dict[str, str]
    prices: dict[str, Price]
    since: str | None = None
    between: tuple[str, str] | None = None


class ModelEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One model of a provider. Of `rates` the last that holds at the time counts, else the first."""

    id: str
    match: Match
    name: str = ""
    context_window: int | None = None
    deprecated: bool = False
    rates: list[Rates] = []
    variants: list[Variant] = []


class ProviderEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One provider. `fallback` names providers whose models it resells at their prices."""

    id: str
    fallback: list[str] = []
    models: list[ModelEntry] = []


class CatalogueFile(msgspec.Struct, kw_only=True):
    """The whole file, with where and when it came from. Providers are decoded when they are asked for."""

    source: str
    version: str
    licence: str
    generated: str  # the day, YYYY-MM-DD
    providers: dict[str, msgspec.Raw]
