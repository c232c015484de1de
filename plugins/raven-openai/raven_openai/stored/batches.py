"""What a finished batch used, told once for whoever bills it.

A vendor says it on the batch object (`usage`, `model`), which the gateway sees when somebody asks for the
batch. https://platform.openai.com/docs/api-reference/batch/object
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from raven_openai.usage import read_usage
from raven_proxy.events import Event
from raven_proxy.exchange import Exchange

__all__ = ["BatchWatch"]

_OVER = frozenset({"completed", "expired", "cancelled"})  # of the last two what was done is billed
_REMEMBERED = 4096
_AGAIN_S = 60.0  # who bills it may have been out of reach; telling it twice does no harm


class BatchWatch:
    """Publishes `batch.finished`, at most once a minute for each batch in each process, with one id."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self._publish = publish
        self._told: dict[tuple[str, str], float] = {}

    def look(self, exchange: Exchange, batch: Any) -> None:
        """Look at a batch object that passes. One that is not over, or says no usage, tells nothing."""
        principal, candidate = exchange.principal, exchange.candidate
        batch_id, table = batch.id, batch.usage
        if principal is None or candidate is None or batch.status not in _OVER:
            return
        if not isinstance(batch_id, str) or not isinstance(table, dict) or not isinstance(batch.model, str):
            return
        usage = read_usage(table, int, int)
        name = candidate.upstream.name, batch_id
        now = time.monotonic()
        if now < self._told.get(name, 0.0) or not usage.total_tokens:
            return
        self._told.pop(name, None)  # to the end, as the newest
        self._told[name] = now + _AGAIN_S
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        self._publish(
            Event(
                type="batch.finished",
                organization_id=principal.organization_id,
                id=f"evt_batch_{candidate.upstream.name}_{batch_id}"[:200],
                data={
                    "batchId": batch_id,
                    "upstream": candidate.upstream.name,
                    "provider": candidate.upstream.preset,
                    "model": batch.model,
                    "keyId": principal.key_id,
                    "memberId": principal.attributes.get("member_id"),
                    "rateMultiplier": _text(principal.attributes.get("rate_multiplier")),
                    "usage": msgspec.to_builtins(usage),
                },
            )
        )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
