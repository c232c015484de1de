"""Requests that are worth telling: those that failed, and those that a guardrail refused.

Where a provider is down every request fails: a webhook is told of the first ones of each minute, and then how
many more there were.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from raven_proxy import Exchange, Outcome
from raven_proxy.events import Event

__all__ = ["Throttle", "read_failure"]

_FAILED = frozenset({Outcome.UPSTREAM_ERROR, Outcome.TRUNCATED, Outcome.FAILED})
_PER_MINUTE = 30  # of one type, to one webhook, from one process


def read_failure(exchange: Exchange) -> Event | None:
    """Make the event of an exchange that failed or was blocked; None for any other. No prompt is in it."""
    principal, error = exchange.principal, exchange.error
    if principal is None or exchange.face.serve is not None:
        return None
    code = error.code if error is not None else None
    if code == "guardrail_blocked":
        topic = "guardrail.blocked"
    elif exchange.outcome in _FAILED:
        topic = "exchange.failed"
    else:
        return None
    candidate = exchange.candidate
    data: dict[str, Any] = {
        "requestId": exchange.id,
        "keyId": principal.key_id,
        "face": exchange.face.name,
        "model": exchange.model[:200] if exchange.model is not None else None,
        "provider": candidate.upstream.name if candidate is not None else None,
        "status": exchange.status,
        "outcome": exchange.outcome.value,
        "errorCode": code,
        "attempts": len(exchange.attempts),
    }
    return Event(type=topic, organization_id=principal.organization_id, data=data)


class _Minute(msgspec.Struct):
    begins_at: float
    told: int = 0
    more: int = 0


class Throttle:
    """How many of a minute's failures a webhook was told of."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str], _Minute] = {}

    def admit(self, webhook: str, topic: str) -> int | None:
        """Give how many were passed over since the last one that was told; None if this one is, too."""
        now = time.monotonic()
        minute = self._minutes.setdefault((webhook, topic), _Minute(now))
        if now - minute.begins_at >= 60.0:
            minute.begins_at, minute.told = now, 0
        if minute.told >= _PER_MINUTE:
            minute.more += 1
            return None
        minute.told += 1
        more, minute.more = minute.more, 0
        return more

    def keep(self, webhooks: frozenset[str]) -> None:
        """Forget the webhooks that are no more."""
        self._minutes = {key: minute for key, minute in self._minutes.items() if key[0] in webhooks}
