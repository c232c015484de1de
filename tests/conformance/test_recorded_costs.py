"""What every recorded exchange cost: by our reading and prices, and by the price library itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from raven_meter.catalogue import load_packaged
from raven_meter.pricing import NANO, cost_nano, tariff_of

from raven_proxy import Usage, hub

from .cases import Case, cases
from .estimates import SIDES

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_NAMES = {
    "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens",
    "cache_read_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens", "cache_write_1h_tokens": "cache_write_1h_tokens",
    "input_audio_tokens": "audio_input_tokens", "output_audio_tokens": "audio_output_tokens",
    "web_searches": "web_searches",
}  # fmt: skip

_PROVIDERS = {
    "azure_openai": "azure", "bedrock": "aws", "gemini": "google", "vertex": "google", "voyage": "voyageai",
}  # fmt: skip


def read(case: Case) -> Usage | None:
    """Read a recorded reply's usage as the gateway does."""
    side = SIDES.get(case.surface)
    if side is None or case.meaning.usage is None or case.meaning.error is not None:
        return None
    if not case.streaming:
        found: Usage | None = side.read_reply(case.body).usage
        return found
    reader = side.open_reader()
    events: Iterable[hub.Event] = [*reader.feed(case.body), *reader.close()]
    usages = [event.usage for event in events if isinstance(event, hub.UsageReported)]
    return usages[-1] if usages else None


def test_it_agrees_with_the_library_on_every_recorded_usage() -> None:
    pytest.importorskip("genai_prices", reason="genai-prices is not installed (raven-meter[refresh])")
    from genai_prices import Usage as Theirs
    from genai_prices.data_snapshot import get_snapshot

    book, snapshot = load_packaged(), get_snapshot()
    checked, odd = 0, []
    for case in cases():
        usage, name, model = read(case), case.recording.provider, case.recording.model
        if usage is None or not model:
            continue
        name = _PROVIDERS.get(name, name)
        entry = book.find(name, model)
        provider = next((one for one in snapshot.providers if one.id == name), None)
        table = tariff_of(entry, None, AT) if entry is not None else None
        theirs = provider.find_model(model, all_providers=snapshot.providers) if provider else None
        if table is None or theirs is None:
            continue
        if usage.cached_tokens + usage.cache_write_tokens > usage.prompt_tokens:
            odd.append(case.id)  # the library refuses it; ours prices no part below nothing
            continue
        told: dict[str, Any] = {theirs_: getattr(usage, ours) or None for theirs_, ours in _NAMES.items()}
        price = theirs.calc_price(Theirs(**told), provider, genai_request_timestamp=AT).total_price
        expected = int((price * NANO).quantize(Decimal(1), ROUND_HALF_UP))
        assert cost_nano(usage, table) == expected, (case.id, usage)
        checked += 1
    assert checked > 250
    assert len(odd) <= 2, odd
