"""What a reply says of the limits: `X-RateLimit-*`, and OpenAI's `x-ratelimit-*-requests` and `-tokens`.

`X-RateLimit-*` is about requests per minute (per day where no minute is limited), OpenAI's about minute and
day. Of several limits the one with the least left is shown. A reset is when all of the limit is free again
if nothing more is sent: as Unix seconds in `X-RateLimit-Reset`, as a duration in OpenAI's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from raven_proxy.counters import SLICES, Claim, Counters

from .rules import DAY_S, MINUTE_S, Rules

__all__ = ["duration", "show", "show_tokens"]

_REQUESTS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


def duration(seconds: int) -> str:
    """Write a duration as OpenAI does: "1s", "6m0s", "24h0m0s"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


# What was taken a moment ago counts until its slice has passed.
_RESET_S = {window_s: math.ceil(window_s * (SLICES + 1) / SLICES) for window_s in (MINUTE_S, DAY_S)}
_RESET = {window_s: duration(seconds) for window_s, seconds in _RESET_S.items()}


async def show(counters: Counters, rules: Rules, headers: dict[str, str], *, tokens: bool = True) -> None:
    """Put into `headers` what is left of every limit that they have a name for; `tokens` can wait."""
    used = await counters.used_of(rules.windows if tokens else rules.requests)
    if rules.requests:
        left, claim = tightest = _tightest(rules.requests, used)
        if claim.window_s != MINUTE_S:
            minutes = [c for c in rules.requests if c.window_s == MINUTE_S]
            if minutes:
                found = dict(zip(rules.requests, used, strict=False))
                left, claim = _tightest(minutes, [found[c] for c in minutes])
        headers["X-RateLimit-Limit"] = str(claim.limit)
        headers["X-RateLimit-Remaining"] = str(left if left > 0 else 0)
        wait_s = _RESET_S[claim.window_s] if left < claim.limit else 0
        headers["X-RateLimit-Reset"] = str(math.ceil(time.time()) + wait_s)
        _write(headers, _REQUESTS, *tightest)
    if rules.tokens and tokens:
        _write(headers, _TOKENS, *_tightest(rules.tokens, used[len(rules.requests) :]))


async def show_tokens(counters: Counters, rules: Rules, headers: dict[str, str]) -> None:
    """Put into `headers` what is left of the tokens."""
    _write(headers, _TOKENS, *_tightest(rules.tokens, await counters.used_of(rules.tokens)))


def _tightest(claims: Sequence[Claim], used: Sequence[int]) -> tuple[int, Claim]:
    """Find what has the least left, and how much."""
    claim = claims[0]
    left = claim.limit - used[0]
    if len(claims) == 1:  # mostly
        return left, claim
    for number in range(1, len(claims)):
        other = claims[number]
        if other.limit - used[number] < left:
            left, claim = other.limit - used[number], other
    return left, claim


def _write(headers: dict[str, str], names: tuple[str, str, str], left: int, claim: Claim) -> None:
    limit, remaining, reset = names
    headers[limit] = str(claim.limit)
    headers[remaining] = str(left if left > 0 else 0)
    headers[reset] = _RESET[claim.window_s] if left < claim.limit else "0s"
