"""What a batch cost, charged when the gateway first sees that it is over.

Vendors bill a batch at a share of the list price: half, at OpenAI, Anthropic, Google, Groq and Mistral
(their pricing pages, 2026-11). The catalogue has no such prices, so that the share is a setting.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import msgspec
import structlog

from raven_proxy import Principal, Usage
from raven_proxy.events import Event
from raven_proxy.storage import Storage

from .books import Books
from .exchanges import COLUMNS, RowIds, insert
from .pricing import cost_nano
from .tariffs import Tariffs

__all__ = ["BatchBilling"]

_log = structlog.get_logger("raven_meter.batches")
_INSERT = insert(COLUMNS) + " RETURNING id"


class BatchBilling:
    """Writes one row for each finished batch, and with it its charge; `share` is of the list price."""

    def __init__(self, storage: Storage, books: Books, tariffs: Tariffs, ids: RowIds, share: Decimal) -> None:
        self._storage = storage
        self._books = books
        self._tariffs = tariffs
        self._ids = ids
        self._share = share

    async def charge(self, event: Event) -> None:
        """Charge the batch that an event tells of, once, whoever sees it how often."""
        data = event.data
        if event.organization_id is None:
            return
        usage = msgspec.convert(data["usage"], Usage)
        tariff = self._tariffs.find(data["provider"], data["model"])
        cost = None
        if tariff is not None:
            rate = Decimal(data["rateMultiplier"] or 1) * self._share
            cost = cost_nano(usage, tariff, rate_multiplier=rate)
        now = time.time()
        row = self._row(event, usage, cost, int(now))
        if not await self._storage.fetch_all(_INSERT, row):
            return  # charged before
        _log.info("a batch was charged", batch=data["batchId"], cost_nano=cost)
        if cost:
            principal = Principal(
                key_id=data["keyId"],
                organization_id=event.organization_id,
                attributes={"member_id": data["memberId"]},
            )
            self._books.note(_name(data), principal, cost, now)
            await self._books.settle(self._books.bounds(principal, now).counters, 0, cost)

    def _row(self, event: Event, usage: Usage, cost: int | None, at: int) -> tuple[Any, ...]:
        data = event.data
        return (
            self._ids.next(), _name(data), at, data["keyId"], event.organization_id, "batch", data["model"],
            data["upstream"], data["model"], 200, "completed", 0, usage.prompt_tokens,
            usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens, usage.total_tokens,
            int(usage.estimated), 1, 0.0, None, None, None, cost or 0, int(cost is not None),
            usage.cache_write_tokens, data["memberId"],
        )  # fmt: skip


def _name(data: Any) -> str:
    return f"{data['upstream']}/{data['batchId']}"[:200]
