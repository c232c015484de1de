"""Addresses that send bad keys: after so many in a minute they are refused before a key is looked up.

While no address is watched, no request is looked at. An address is counted from its first bad key on, IPv6
by its /64 network; at most 10,000 are watched at a time, so that memory is bounded however many come.
"""

from __future__ import annotations

import time
from ipaddress import IPv6Address

from raven_proxy import Exchange, RateLimited
from raven_proxy.counters import Claim
from raven_proxy.gateway import Gateway

from .rules import MINUTE_S

__all__ = ["Strangers"]

_NOTE = "limits-stranger"
_MOST_WATCHED = 10_000
_WATCHED_S = 2.0 * MINUTE_S


class Strangers:
    """Counts failed authentication by client address; `limit` per minute, 0 for no limit."""

    def __init__(self, gateway: Gateway, limit: int) -> None:
        self._counters = gateway.counters
        self._tasks = gateway.tasks
        self._limit = limit
        self.watched: dict[str, float] = {}  # address → until when, on the monotonic clock; never empty again

    async def check(self, exchange: Exchange) -> None:
        """Count an attempt of an address that failed lately. Raises RateLimited (429)."""
        if not _has_key(exchange):
            return
        address = _network(exchange.client_address)
        if address not in self.watched:
            return
        denial = await self._counters.take((self._claim(address),))
        if denial is not None:
            raise RateLimited(
                "Too many requests with a bad key came from this address.",
                retry_after_s=denial.retry_after_s or 1.0,
            )
        exchange.notes[_NOTE] = address

    def settle(self, exchange: Exchange) -> None:
        """Count a failure that was not counted before; forget an attempt that was none."""
        counted: str | None = exchange.notes.get(_NOTE)
        error = exchange.error
        has_failed = exchange.principal is None and error is not None and error.status == 401
        if has_failed and self._limit and _has_key(exchange):
            address = counted or _network(exchange.client_address)
            if self._watch(address) and counted is None:
                self._correct(address, 1)
        elif counted is not None:
            self._correct(counted, -1)

    def _watch(self, address: str) -> bool:
        now = time.monotonic()
        if address not in self.watched and len(self.watched) >= _MOST_WATCHED:
            self.watched = {name: until for name, until in self.watched.items() if until > now}
            if len(self.watched) >= _MOST_WATCHED:
                return False
        self.watched[address] = now + _WATCHED_S
        return True

    def _correct(self, address: str, difference: int) -> None:
        claim = self._claim(address)
        self._tasks.begin(self._counters.correct(claim.key, claim.window_s, difference), "limits")

    def _claim(self, address: str) -> Claim:
        return Claim(f"limits:failures:{address}", 1, self._limit, MINUTE_S)


_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key"})


def _has_key(exchange: Exchange) -> bool:
    """A request without any key guesses nothing."""
    return not _CREDENTIALS.isdisjoint(exchange.headers)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return IPv6Address(address).packed[:8].hex()
    except ValueError:
        return address
