"""What usage costs, in whole nano-dollars: exact integers from decimal prices, rounded once.

    cost = (tokens * price per million + units * price each, summed) * the user's * the model's multiplier

rounded half up to a nano-dollar at the very end. Tokens of a kind without a price of
its own cost what the kind above them does: cached and written prompt tokens the input's, reasoning the
output's. No float takes part.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from raven_proxy import Usage

from .catalogue.entries import ModelEntry, Price, Rates
from .catalogue.operator import OperatorModel

__all__ = [
    "NANO", "ONE", "OWN", "Tariff", "cost_nano", "current_rates", "dollars", "per_million", "tariff_of",
    "tiers_of",
]  # fmt: skip

NANO = 10**9
_SCALE = 10**15  # prices are kept in units of 10^-15 dollars: the catalogue has some with 14 decimals
_MILLION = 10**6
_PPM = 10**6  # a multiplier has six decimals
_FLAT = _MILLION * (_SCALE // NANO)
_HALF = _FLAT // 2
ONE = Decimal(1)
"""The multiplier of users who have none."""

Step = tuple[int, int]
"""(more prompt tokens than this, 10^-15 dollars per million or each); the first has -1."""


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one model at one time: kind → steps by prompt length. `multiplier_ppm` is the model's."""

    steps: Mapping[str, tuple[Step, ...]]
    multiplier_ppm: int = _PPM
    flat: tuple[int, ...] | None = None  # a price for each of `_KINDS`, where nothing else is charged

    @property
    def multiplier(self) -> Decimal:
        """The model's own multiplier."""
        return Decimal(self.multiplier_ppm) / _PPM

    def price_text(self, prompt_tokens: int, completion_tokens: int) -> int | None:
        """Price a plain prompt and answer, in nano-dollars; None where more than tokens plays a part."""
        if self.flat is None:
            return None
        return (prompt_tokens * self.flat[_INPUT] + completion_tokens * self.flat[_OUTPUT] + _HALF) // _FLAT

    def price(self, kinds: tuple[str, ...], prompt_tokens: int) -> int:
        """Give the price of the first of `kinds` that has one; 0 if none has."""
        for kind in kinds:
            steps = self.steps.get(kind)
            if steps is not None:
                return next(price for start, price in reversed(steps) if prompt_tokens > start)
        return 0


def per_million(tariff: Tariff) -> dict[str, str]:
    """Write a tariff's first prices in US dollars, by kind: of tokens for a million, else for each."""
    return {kind: _write(steps[0][1]) for kind, steps in tariff.steps.items()}


def tiers_of(tariff: Tariff) -> dict[str, list[tuple[int, str]]]:
    """Write the prices that hold for longer prompts, by kind: (more tokens than this, US dollars)."""
    return {
        kind: [(start, _write(price)) for start, price in steps[1:]]
        for kind, steps in tariff.steps.items()
        if len(steps) > 1
    }


def tariff_of(
    entry: ModelEntry | None, own: OperatorModel | None, at: datetime | None = None
) -> Tariff | None:
    """Compile the prices that hold at a moment (now), the operator's over the catalogue's.

    None where nobody knows a price of input or output: the model is unpriced, and not free.
    """
    steps: dict[str, tuple[Step, ...]] = {}
    rates = current_rates(entry.rates, at or datetime.now(UTC)) if entry is not None else None
    for kind, price in (rates.prices if rates is not None else {}).items():
        steps[kind] = _steps(price)
    multiplier = Decimal(1)
    if own is not None:
        multiplier = own.price("multiplier") or multiplier
        for kind in OWN:
            amount = getattr(own, kind)
            if amount is not None:
                steps[kind] = _steps(amount)
    priced = {"input", "output", "request", "request_thousand", "image", "audio_hour"} & steps.keys()
    if not priced:
        return None
    return Tariff(steps=steps, multiplier_ppm=int(multiplier * _PPM), flat=_flat(steps, multiplier))


def _flat(steps: Mapping[str, tuple[Step, ...]], multiplier: Decimal) -> tuple[int, ...] | None:
    """Give the price of each kind of token, if no tier, fee or multiplier plays a part."""
    if {"request", "request_thousand"} & steps.keys() or multiplier != 1:
        return None
    found = [next((steps[kind] for kind in kinds if kind in steps), ((-1, 0),)) for kinds in _KINDS]
    return None if any(len(one) > 1 for one in found) else tuple(one[0][1] for one in found)


def cost_nano(usage: Usage, tariff: Tariff, *, rate_multiplier: Decimal = ONE) -> int:
    """Price one exchange, in nano-dollars. `rate_multiplier` is the user's, with at most six decimals."""
    flat = tariff.flat
    if (
        flat is not None
        and rate_multiplier is ONE
        and not (  # most exchanges: the same sum at once
            usage.cache_write_1h_tokens
            or usage.audio_input_tokens
            or usage.audio_output_tokens
            or usage.images
            or usage.seconds
            or usage.web_searches
        )
    ):
        cached, written, reasoning = usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens
        fresh, said = usage.prompt_tokens - cached - written, usage.completion_tokens - reasoning
        if fresh | cached | written | said | reasoning >= 0:  # nonsense can make one negative
            scaled = (
                fresh * flat[_INPUT] + cached * flat[_CACHED] + written * flat[_WRITTEN]
                + said * flat[_OUTPUT] + reasoning * flat[_REASONING]
            )  # fmt: skip
            return (scaled + _HALF) // _FLAT
    prompt = usage.prompt_tokens
    million = 0  # 10^-15 dollars per million
    for tokens, kinds in zip(_part(usage), _KINDS, strict=True):
        if tokens > 0:
            million += tokens * tariff.price(kinds, prompt)
    million += usage.images * tariff.price(("image",), prompt) * _MILLION
    million += int(Decimal(repr(usage.seconds)) * _MILLION) * tariff.price(("video_second",), prompt)
    million += tariff.price(("request",), prompt) * _MILLION
    million += tariff.price(("request_thousand",), prompt) * 1000
    million += usage.web_searches * tariff.price(("web_search_thousand",), prompt) * 1000
    scaled = million * tariff.multiplier_ppm * int(rate_multiplier * _PPM)
    whole = _MILLION * _PPM * _PPM * (_SCALE // NANO)
    return (2 * scaled + whole) // (2 * whole)


def dollars(nano: int) -> str:
    """Write nano-dollars as a decimal string in US dollars, without needless zeros."""
    if 0 < nano < NANO:  # on the way of most requests
        return f"0.{nano:09d}".rstrip("0")
    whole, rest = divmod(abs(nano), NANO)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


OWN = (
    "input", "output", "cached_input", "cache_write", "reasoning", "audio_input", "audio_output", "image",
    "video_second", "request",
)  # fmt: skip
"""The kinds of price that an operator's own catalogue may name."""


_KINDS: tuple[tuple[str, ...], ...] = (
    ("input",),
    ("cached_input", "input"),
    ("cache_write", "input"),
    ("cache_write_1h", "cache_write", "input"),
    ("audio_input", "input"),
    ("output",),
    ("reasoning", "output"),
    ("audio_output", "output"),
)
"""The kinds of tokens, each with the prices to look for in order."""
_INPUT, _CACHED, _WRITTEN, _, _, _OUTPUT, _REASONING, _ = range(len(_KINDS))


def _part(usage: Usage) -> tuple[int, ...]:
    """Part the tokens into `_KINDS`, each counted once. Nonsense can make one negative."""
    cached, written, heard = usage.cached_tokens, usage.cache_write_tokens, usage.audio_input_tokens
    reasoning, said = usage.reasoning_tokens, usage.audio_output_tokens
    hour = min(usage.cache_write_1h_tokens, written) if written else 0
    return (
        usage.prompt_tokens - cached - written - heard, cached, written - hour, hour, heard,
        usage.completion_tokens - reasoning - said, reasoning, said,
    )  # fmt: skip


def _steps(price: Price) -> tuple[Step, ...]:
    if isinstance(price, str):
        return ((-1, _scale(price)),)
    base, *tiers = price
    return ((-1, _scale(base)), *((start, _scale(amount)) for start, amount in tiers))


def _write(scaled: int) -> str:
    return format(Decimal(scaled) / _SCALE, "f")


def _scale(amount: str) -> int:
    return int((Decimal(amount) * _SCALE).to_integral_value(ROUND_HALF_UP))


def current_rates(rates: list[Rates], at: datetime) -> Rates | None:
    """Pick the last of the rates that holds at `at`; the first where none does."""
    day, time = at.date().isoformat(), at.strftime("%H:%M")
    for rate in reversed(rates):
        if rate.since is not None and day < rate.since:
            continue
        if rate.between is not None and not _is_between(time, *rate.between):
            continue
        return rate
    return rates[0] if rates else None


def _is_between(time: str, start: str, end: str) -> bool:
    return start <= time < end if start <= end else time >= start or time < end
