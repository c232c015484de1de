"""Costs are what a hand computes: exact to the nano-dollar, rounded half up once, never a float."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raven_meter import ledger
from raven_meter.catalogue import load_packaged
from raven_meter.catalogue.entries import ModelEntry, Rates
from raven_meter.catalogue.operator import OperatorModel
from raven_meter.pricing import NANO, Tariff, cost_nano, dollars, tariff_of

from raven_proxy import Usage

CLAUDE = {
    "input": ["3", [200_000, "6"]],
    "output": ["15", [200_000, "22.5"]],
    "cached_input": ["0.3", [200_000, "0.6"]],
    "cache_write": ["3.75", [200_000, "7.5"]],
    "cache_write_1h": ["6", [200_000, "12"]],
}
PLAIN = {"input": "0.15", "output": "0.6"}
FINE = PLAIN | {"cached_input": "0.075", "reasoning": "1.2", "audio_input": "10", "audio_output": "20"}
ALL = {"request_thousand": "5"}
SEARCH = {"web_search_thousand": "10"}


def tariff(prices: dict[str, Any], **own: str) -> Tariff:
    entry = ModelEntry(id="m", match={"equals": "m"}, rates=[Rates(prices=prices)])
    found = tariff_of(entry, OperatorModel(**own) if own else None)
    assert found is not None
    return found


# (prices, operator's own, usage, the user's multiplier, nano-dollars): each worked out by hand.
GOLDEN: list[tuple[dict[str, Any], dict[str, str], dict[str, Any], str, int]] = [
    (PLAIN, {}, {"prompt_tokens": 0}, "1", 0),
    (PLAIN, {}, {"prompt_tokens": 1}, "1", 150),
    (PLAIN, {}, {"completion_tokens": 1}, "1", 600),
    (PLAIN, {}, {"prompt_tokens": 1000, "completion_tokens": 500}, "1", 450_000),
    (PLAIN, {}, {"prompt_tokens": 10**6, "completion_tokens": 10**6}, "1", 750_000_000),
    (PLAIN, {}, {"prompt_tokens": 7, "completion_tokens": 3}, "1.5", 4_275),
    (PLAIN, {}, {"prompt_tokens": 7, "completion_tokens": 3}, "0", 0),
    (PLAIN, {"multiplier": "2"}, {"prompt_tokens": 7, "completion_tokens": 3}, "1", 5_700),
    (PLAIN, {"multiplier": "2"}, {"prompt_tokens": 7, "completion_tokens": 3}, "1.25", 7_125),
    (PLAIN, {"multiplier": "0.333333"}, {"prompt_tokens": 3}, "1", 150),  # 149.99985
    (PLAIN, {"multiplier": "1.1"}, {"prompt_tokens": 1}, "1", 165),
    (PLAIN, {"input": "1"}, {"prompt_tokens": 5, "completion_tokens": 5}, "1", 8_000),
    ({"input": "0.0375"}, {}, {"prompt_tokens": 1}, "1", 38),  # 37.5, half up
    ({"input": "0.0375"}, {}, {"prompt_tokens": 2}, "1", 75),
    ({"input": "0.0375"}, {}, {"prompt_tokens": 3}, "1", 113),  # 112.5
    ({"input": "0.0001"}, {}, {"prompt_tokens": 1_000_000}, "1", 100_000),
    ({"input": "0.1"}, {}, {"prompt_tokens": 1_000_000}, "1", 100_000_000),
    ({"input": "0.0000004"}, {}, {"prompt_tokens": 1000}, "1", 0),  # 0.4
    ({"input": "0.0000005"}, {}, {"prompt_tokens": 1000}, "1", 1),  # 0.5
    (FINE, {}, {"prompt_tokens": 100, "cached_tokens": 100}, "1", 7_500),
    (FINE, {}, {"prompt_tokens": 100, "cached_tokens": 40}, "1", 12_000),
    (FINE, {}, {"completion_tokens": 50, "reasoning_tokens": 20}, "1", 42_000),
    (FINE, {}, {"completion_tokens": 20, "reasoning_tokens": 20}, "1", 24_000),
    (FINE, {}, {"prompt_tokens": 30, "audio_input_tokens": 20}, "1", 201_500),
    (FINE, {}, {"completion_tokens": 30, "audio_output_tokens": 10}, "1", 212_000),
    (PLAIN, {}, {"prompt_tokens": 100, "cached_tokens": 40}, "1", 15_000),  # no price of its own
    (PLAIN, {}, {"completion_tokens": 50, "reasoning_tokens": 20}, "1", 30_000),
    (PLAIN, {}, {"prompt_tokens": 30, "audio_input_tokens": 20}, "1", 4_500),
    (PLAIN, {}, {"prompt_tokens": 30, "cache_write_tokens": 20}, "1", 4_500),
    (CLAUDE, {}, {"prompt_tokens": 1000, "completion_tokens": 100}, "1", 4_500_000),
    (CLAUDE, {}, {"prompt_tokens": 1000, "cached_tokens": 900}, "1", 570_000),
    (CLAUDE, {}, {"prompt_tokens": 1000, "cache_write_tokens": 900}, "1", 3_675_000),
    (CLAUDE, {}, {"prompt_tokens": 1000, "cache_write_tokens": 900, "cache_write_1h_tokens": 900},
     "1", 5_700_000),
    (CLAUDE, {}, {"prompt_tokens": 1000, "cache_write_tokens": 900, "cache_write_1h_tokens": 400},
     "1", 4_575_000),
    (CLAUDE, {}, {"prompt_tokens": 200_000, "completion_tokens": 10}, "1", 600_150_000),
    (CLAUDE, {}, {"prompt_tokens": 200_001, "completion_tokens": 10}, "1", 1_200_231_000),
    (CLAUDE, {}, {"prompt_tokens": 300_000, "cached_tokens": 300_000}, "1", 180_000_000),
    ({"image": "0.04"}, {}, {"images": 3}, "1", 120_000_000),
    ({"output": "1"}, {"image": "0.04"}, {"images": 1}, "2", 80_000_000),
    ({"output": "1"}, {"video_second": "0.1"}, {"seconds": 4.0}, "1", 400_000_000),
    ({"output": "1"}, {"video_second": "0.1"}, {"seconds": 0.5}, "1", 50_000_000),
    (ALL, {}, {}, "1", 5_000_000),
    (ALL, {"request": "0.01"}, {}, "1", 15_000_000),
    (PLAIN | ALL, {}, {"prompt_tokens": 1000}, "1", 5_150_000),
    (PLAIN | SEARCH, {}, {"prompt_tokens": 1000}, "1", 150_000),
    (PLAIN | SEARCH, {}, {"prompt_tokens": 1000, "web_searches": 3}, "1", 30_150_000),
    (PLAIN | SEARCH, {"multiplier": "2"}, {"web_searches": 1}, "1.5", 30_000_000),
    (PLAIN, {}, {"prompt_tokens": 1000, "web_searches": 3}, "1", 150_000),
]  # fmt: skip


@pytest.mark.parametrize(("prices", "own", "usage", "multiplier", "expected"), GOLDEN)
def test_T70_golden_table(prices, own, usage, multiplier, expected):
    """Tokens, prices and multipliers against results worked out by hand."""
    found = cost_nano(Usage(**usage), tariff(prices, **own), rate_multiplier=Decimal(multiplier))
    assert found == expected
    assert type(found) is int


def test_T70_a_million_times_a_ten_millionth_is_a_tenth():
    """Where floats give 0.10000000000184563."""
    one = cost_nano(Usage(prompt_tokens=1), tariff({"input": "0.1"}))
    assert dollars(one * 1_000_000) == "0.1"


AMOUNT = st.decimals(0, 1000, places=6)


FACTOR = st.decimals(0, 10, places=6)


@given(st.integers(0, 10**7), st.integers(0, 10**7), AMOUNT, AMOUNT, FACTOR, FACTOR)
def test_it_is_the_rounded_exact_product(prompt, completion, price_in, price_out, user, model):
    """The PK formula in exact decimals: (in x price + out x price) / 1e6 x the user's x the model's."""
    table = tariff({"input": f"{price_in:f}", "output": f"{price_out:f}"}, multiplier=f"{model:f}")
    if not model:  # a multiplier of zero is free; the entry's default is one
        table = Tariff(steps=table.steps, multiplier_ppm=0)
    exact = (prompt * price_in + completion * price_out) / 10**6 * user * model * 10**9
    expected = int(exact.quantize(Decimal(1), ROUND_HALF_UP)) if exact < 10**20 else None
    found = cost_nano(Usage(prompt_tokens=prompt, completion_tokens=completion), table, rate_multiplier=user)
    if expected is not None:
        assert abs(found - expected) <= 1  # Decimal's own 28 digits


def test_a_model_without_prices_is_unpriced_and_not_free():
    assert tariff_of(None, None) is None
    assert tariff_of(ModelEntry(id="m", match={"equals": "m"}), None) is None
    assert tariff_of(None, OperatorModel(context_window=9)) is None
    assert tariff_of(None, OperatorModel(input="1")) is not None


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-01T12:00", "1"), ("2026-02-01T00:00", "3"), ("2026-02-01T12:00", "2"),
        ("2026-02-01T16:30", "3"), ("2026-02-02T00:29", "3"), ("2026-02-02T00:30", "2"),
    ],
)  # fmt: skip
def test_prices_change_by_day_and_by_hour(at, expected):
    """Days and hours are those of UTC; an interval may cross midnight."""
    rates = [
        Rates(prices={"input": "1"}),
        Rates(prices={"input": "2"}, since="2026-02-01"),
        Rates(prices={"input": "3"}, since="2026-02-01", between=("16:30", "00:30")),
    ]
    entry = ModelEntry(id="m", match={"equals": "m"}, rates=rates)
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = tariff_of(entry, None, moment)
    assert found is not None
    assert found.price(("input",), 0) == int(expected) * 10**15


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (1, "0.000000001"), (10**9, "1"), (1_500_000_000, "1.5"), (-2_000_000_001, "-2.000000001")],
)
def test_amounts_are_decimal_strings(nano, text):
    assert dollars(nano) == text


def test_it_agrees_with_the_library_on_every_priced_model():
    """An independent oracle: plain, cached, written and reasoning tokens, below and above every tier."""
    pytest.importorskip("genai_prices", reason="genai-prices is not installed (raven-meter[refresh])")
    from genai_prices import Usage as Theirs
    from genai_prices.data_snapshot import get_snapshot

    checked = 0
    at = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    book = load_packaged()
    for provider in get_snapshot().providers:
        entries = {entry.id: entry for entry in book._provider(provider.id).models}
        for model in provider.models:
            table = tariff_of(entries[model.id], None, at)
            odd = {k for k, v in vars(model.get_prices(at)).items() if v is not None} - COUNTED
            if table is None or odd:
                continue
            for prompt in (1000, 250_000, 1_500_000):
                ours = Usage(prompt_tokens=prompt, completion_tokens=777, cached_tokens=300)
                theirs = Theirs(input_tokens=prompt, output_tokens=777, cache_read_tokens=300)
                ours.cache_write_tokens = theirs.cache_write_tokens = 200
                total = model.calc_price(theirs, provider, genai_request_timestamp=at).total_price
                expected = int((total * NANO).quantize(Decimal(1), ROUND_HALF_UP))
                assert cost_nano(ours, table) == expected, (provider.id, model.id)
                checked += 1
    assert checked > 5000


COUNTED = {
    "input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok",
    "requests_kcount", "web_searches_kcount", "storage_searches_kcount",
}  # fmt: skip


def test_the_fields_of_an_entry_stand_in_the_order_of_the_columns() -> None:
    """`Entry.row` relies on it."""
    assert ledger.Entry.__struct_fields__ == ledger._COLUMNS
