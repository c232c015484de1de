"""How often somebody may try: for each account, for each address, and for everybody together.

What was right is given back. The windows are the gateway's counters, so that all workers count together;
the limit for everybody bounds how many windows there can be, and what hashing costs.
"""

from __future__ import annotations

import hashlib
import ipaddress

from raven_proxy import RateLimited
from raven_proxy.counters import Claim, Counters

__all__ = ["Throttle"]

_MINUTE_S = 60
_NETWORK_V6 = 64  # bits: what one customer of a network has at least


class Throttle:
    """Attempts within `window_s` seconds; those of everybody within a minute."""

    def __init__(
        self, counters: Counters, *, per_account: int, per_address: int, per_minute: int, window_s: int
    ) -> None:
        self._counters = counters
        self._per_account = per_account
        self._per_address = per_address
        self._per_minute = per_minute
        self._window_s = window_s

    async def take(self, account: str, address: str) -> None:
        """Count an attempt. Raises RateLimited (429, with `Retry-After`) for one too many."""
        claims = (
            Claim(_account(account), 1, self._per_account, self._window_s),
            Claim(_address(address), 1, self._per_address, self._window_s),
            Claim("sign-in", 1, self._per_minute, _MINUTE_S),
        )
        denial = await self._counters.take(claims)
        if denial is not None:
            raise RateLimited(
                "Too many attempts to sign in; try again later.",
                retry_after_s=denial.retry_after_s or self._window_s,
            )

    async def give_back(self, account: str, address: str) -> None:
        """Forget an attempt that was right."""
        for key in (_account(account), _address(address)):
            await self._counters.correct(key, self._window_s, -1)


def _account(account: str) -> str:
    return f"sign-in:account:{hashlib.sha256(account.encode()).hexdigest()[:32]}"


def _address(address: str) -> str:
    """Name the counter of an address; of IPv6 its network, since one has as many of them as one likes."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return f"sign-in:address:{address[:64]}"
    if known.version == 6:
        address = str(ipaddress.ip_network((known, _NETWORK_V6), strict=False))
    return f"sign-in:address:{address}"
