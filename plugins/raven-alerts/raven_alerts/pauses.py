"""What is paused, in memory: the gate that every request passes. The table behind it is `register`'s.

A pause that was just decided holds here at once, before it is written down; one that others decided comes
with the next look at the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from raven_proxy import Exchange, RateLimited
from raven_proxy.errors import UpstreamRefused

from .register import Alert, Register

__all__ = ["EVERYBODY", "Pauses"]

EVERYBODY = ""
"""In the place of an organisation: the pause is for all of them."""

_CODE = "provider_paused"
_RETRY_AFTER_S = 3600  # it takes an administrator; clients need not ask more often


class _Pause(msgspec.Struct, frozen=True):
    since: int
    alert_id: str


class Pauses:
    """The paused upstreams of one process."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._held: dict[tuple[str, str], _Pause] = {}
        self._unwritten: dict[tuple[str, str], _Pause] = {}
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the table anew; what is decided and not written yet stays."""
        async with self._refreshing:
            rows = await self._register.list_pauses()
            held = {
                (row["upstream"], row["organization_id"]): _Pause(row["since"], row["alert_id"])
                for row in rows
            }
            self._held = held | self._unwritten

    def begin(self, alert: Alert) -> None:
        """Pause an upstream here and now."""
        if alert.pauses is not None:
            place = alert.pauses, alert.organization_id or EVERYBODY
            pause = _Pause(alert.created_at, alert.id)
            self._unwritten[place] = pause
            self._held = self._held | {place: pause}

    async def confirm(self, alert: Alert) -> None:
        """The table knows by now whether it is paused."""
        if alert.pauses is not None:
            self._unwritten.pop((alert.pauses, alert.organization_id or EVERYBODY), None)
            await self.refresh()

    def end(self, upstream: str, organization_id: str) -> bool:
        """Forget a pause that is not written yet; say whether there was one."""
        place = upstream, organization_id
        known = self._unwritten.pop(place, None) is not None
        self._held = {name: pause for name, pause in self._held.items() if name != place}
        return known

    def is_paused(self, upstream: str, organization_id: str) -> bool:
        """Say whether an upstream is paused for an organisation."""
        return (upstream, EVERYBODY) in self._held or (upstream, organization_id) in self._held

    def check_all(self, exchange: Exchange) -> None:
        """Refuse a request none of whose places may be used. Raises RateLimited (429)."""
        if not self._held or not exchange.candidates or exchange.face.serve is not None:
            return
        names = {candidate.upstream.name for candidate in exchange.candidates}
        if all(self._find(name, exchange) is not None for name in names):
            text = self._word(sorted(names), exchange)
            raise RateLimited(text, retry_after_s=_RETRY_AFTER_S, code=_CODE)

    def check_one(self, exchange: Exchange) -> None:
        """Refuse an attempt at a paused upstream, so that the next one is tried. Raises UpstreamRefused."""
        candidate = exchange.candidate
        if self._held and candidate is not None and self._find(candidate.upstream.name, exchange) is not None:
            # Not a `Refused`: that would end the request, and the next place may do.
            raise UpstreamRefused(
                self._word([candidate.upstream.name], exchange),
                retryable=True,
                status=429,
                code=_CODE,
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )

    def _find(self, upstream: str, exchange: Exchange) -> _Pause | None:
        pause = self._held.get((upstream, EVERYBODY))
        if pause is None and exchange.principal is not None:
            pause = self._held.get((upstream, exchange.principal.organization_id))
        return pause

    def _word(self, names: Iterable[str], exchange: Exchange) -> str:
        parts = []
        for name in names:
            pause = self._find(name, exchange)
            since = datetime.fromtimestamp(pause.since if pause else 0, UTC)
            parts.append(f"{name} (since {since:%Y-%m-%dT%H:%M:%SZ})")
        return (
            f"Paused at a daily limit: {', '.join(parts)}. An administrator has to reactivate the provider; "
            "waiting alone does not help."
        )
