"""Make the packaged catalogue file from the price library `genai-prices` (MIT).

Runs where an operator or a developer has that library (`pip install raven-meter[refresh]`); the gateway
itself never imports it. What the library says in units that nothing here counts is left out by name.
"""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from .entries import CatalogueFile, Match, ModelEntry, Price, ProviderEntry, Rates, Variant

__all__ = ["build", "encode"]

LIBRARY = "genai-prices"
# The library's names and ours.
_NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "cached_audio_input",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "cache_image_read_mtok": "cached_image_input",
    "requests_kcount": "request_thousand",
    "web_searches_kcount": "web_search_thousand",
    "audio_hours": "audio_hour",
    "input_audio_hours": "audio_hour",
    "input_mchars": "input_mchars",
}


def build() -> CatalogueFile:
    """Read the installed library. Raises ImportError without it."""
    from genai_prices import data  # type: ignore[import-not-found,unused-ignore]

    entries = [_provider(provider) for provider in data.providers]
    return CatalogueFile(
        source=f"https://pypi.org/project/{LIBRARY}/",
        version=importlib.metadata.version(LIBRARY),
        licence="MIT, Copyright (c) Pydantic Services Inc.",
        generated=datetime.now(UTC).date().isoformat(),
        providers={entry.id: msgspec.Raw(msgspec.json.encode(entry)) for entry in entries},
    )


def encode(file: CatalogueFile) -> bytes:
    """Write the file so that a change shows as few changed lines: one line a model."""
    lines = [
        b'{"source":%b,"version":%b,"licence":%b,"generated":%b,"providers":{'
        % tuple(map(msgspec.json.encode, (file.source, file.version, file.licence, file.generated)))
    ]
    for name, raw in file.providers.items():
        entry = msgspec.json.decode(raw, type=ProviderEntry)
        models = b",\n".join(map(msgspec.json.encode, entry.models))
        head = msgspec.json.encode(ProviderEntry(id=entry.id, fallback=entry.fallback))[:-1]
        lines.append(b'%b:%b,"models":[\n%b\n]},' % (msgspec.json.encode(name), head, models))
    lines[-1] = lines[-1][:-1]
    return b"\n".join(lines) + b"\n}}\n"


def _provider(provider: Any) -> ProviderEntry:
    return ProviderEntry(
        id=provider.id,
        fallback=list(provider.fallback_model_providers or ()),
        models=[_model(model) for model in provider.models],
    )


def _model(model: Any) -> ModelEntry:
    prices = model.prices if isinstance(model.prices, list) else [model]
    rates = [Rates(prices=_prices(one.prices), **_constraint(one)) for one in prices]
    variants = [
        Variant(when=one.when, prices=_prices(one.prices), **_constraint(one))
        for one in model.price_variants or ()
    ]
    return ModelEntry(
        id=model.id,
        match=_clause(model.match),
        name=model.name or "",
        context_window=model.context_window,
        deprecated=bool(model.deprecated),
        rates=[rate for rate in rates if rate.prices],
        variants=[variant for variant in variants if variant.prices],
    )


def _constraint(priced: Any) -> dict[str, Any]:
    constraint = getattr(priced, "constraint", None)
    if constraint is None:
        return {}
    if hasattr(constraint, "start_date"):
        return {"since": constraint.start_date.isoformat()}
    times = (constraint.start_time, constraint.end_time)
    if any(time.utcoffset() for time in times):
        raise ValueError("a time of day that is not in UTC")
    return {"between": tuple(time.strftime("%H:%M") for time in times)}


def _prices(prices: Any) -> dict[str, Price]:
    told = {name: value for name, value in vars(prices).items() if value is not None}
    return {_NAMES[name]: _price(value) for name, value in sorted(told.items()) if name in _NAMES}


def _price(value: Any) -> Price:
    if isinstance(value, Decimal):
        return _write(value)
    return [_write(value.base), *([tier.start, _write(tier.price)] for tier in value.tiers)]


def _write(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _clause(clause: Any) -> Match:
    [(kind, wanted)] = vars(clause).items()
    if kind in {"or_", "and_"}:
        parts = [_clause(one) for one in wanted]
        if kind == "or_" and all(list(part) == ["equals"] for part in parts):
            return {"in": [part["equals"] for part in parts]}
        return {kind[:-1]: parts}
    return {kind: wanted if kind == "regex" else wanted.lower()}
