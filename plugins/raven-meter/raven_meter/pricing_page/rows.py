"""What the page shows: one row a model, the operator's prices over the packaged ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from raven_meter.catalogue import ModelEntry, PackagedCatalogue
from raven_meter.catalogue.entries import Price
from raven_meter.catalogue.operator import OperatorModel, find
from raven_meter.pricing import current_rates

__all__ = ["Row", "build"]

_COLUMNS = ("input", "output", "cached_input", "cache_write")
# Kinds of price that have no column of their own, and what they are for.
_OTHERS = {
    "cache_write_1h": "written to a cache for an hour, per million",
    "reasoning": "reasoning, per million",
    "audio_input": "audio in, per million",
    "audio_output": "audio out, per million",
    "cached_audio_input": "cached audio, per million",
    "image_input": "image tokens in, per million",
    "image_output": "image tokens out, per million",
    "cached_image_input": "cached image tokens, per million",
    "input_mchars": "characters in, per million",
    "audio_hour": "an hour of audio",
    "image": "an image",
    "video_second": "a second of video",
    "request": "a request",
    "request_thousand": "a thousand requests",
    "web_search_thousand": "a thousand searches",
}


class Row(msgspec.Struct, array_like=True, frozen=True):
    """One model. Prices are decimal strings in US dollars per million tokens, "" where there is none."""

    provider: str
    model: str
    name: str
    context_window: int | None
    input: str
    output: str
    cached_input: str
    cache_write: str
    notes: list[str]


def build(packaged: PackagedCatalogue, own: Mapping[str, OperatorModel], at: datetime) -> list[Row]:
    """List what is known at a moment: the operator's own models first, then the providers by name."""
    rows = [_own_row(name, model) for name, model in sorted(own.items())]
    for provider in sorted(packaged.providers(), key=lambda one: one.id):
        names = packaged.gateway_names(provider.id)
        shown = f"{provider.id} ({', '.join(names[1:])})" if names[1:] else provider.id
        for entry in provider.models:
            over = next((model for name in names if (model := find(own, name, entry.id))), None)
            rows.append(_row(shown, entry, over, at))
    return rows


def _own_row(key: str, model: OperatorModel) -> Row:
    provider, slash, name = key.partition("/")
    if not slash or model.provider is not None:
        provider, name = model.provider or "any", key
    prices = {kind: amount for kind in (*_COLUMNS, *_OTHERS) if (amount := getattr(model, kind, None))}
    return _make(provider, name, "", model.context_window, prices, _own_notes(model))


def _row(provider: str, entry: ModelEntry, over: OperatorModel | None, at: datetime) -> Row:
    rates = current_rates(entry.rates, at)
    prices: dict[str, Price] = dict(rates.prices) if rates is not None else {}
    window, notes = entry.context_window, list[str]()
    if over is not None:
        window = over.context_window or window
        own = {kind: getattr(over, kind, None) for kind in (*_COLUMNS, *_OTHERS)}
        prices |= {kind: amount for kind, amount in own.items() if amount is not None}
        notes = _own_notes(over)
    if entry.deprecated:
        notes.append("deprecated")
    return _make(provider, entry.id, entry.name, window, prices, notes)


def _own_notes(model: OperatorModel) -> list[str]:
    notes = ["set here"]
    if model.multiplier is not None and model.price("multiplier") != 1:
        notes.append(f"times {model.multiplier}")
    return notes


def _make(
    provider: str, model: str, name: str, window: int | None, prices: Mapping[str, Price], notes: list[str]
) -> Row:
    made, answered, cached, written = (_base(prices[kind]) if kind in prices else "" for kind in _COLUMNS)
    told = notes + [f"${_base(prices[kind])} {what}" for kind, what in _OTHERS.items() if kind in prices]
    for kind, price in prices.items():
        if isinstance(price, list):
            steps = ", ".join(f"${_short(amount)} over {start:,} tokens" for start, amount in price[1:])
            told.append(f"{kind.replace('_', ' ')}: {steps}")
    return Row(provider, model, "" if name == model else name, window, made, answered, cached, written, told)


def _base(price: Price) -> str:
    return _short(price if isinstance(price, str) else price[0])


def _short(amount: str) -> str:
    """Leave out what a float somewhere has left behind: the library has 0.18000000000000002."""
    if len(amount) < 14:
        return amount
    return f"{Decimal(amount).quantize(Decimal(10) ** -12).normalize():f}"
