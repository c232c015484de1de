"""Which endings of a request are worth keeping, and what of the reply.

Kept is what somebody was asked for: a reply that went out whole, and an error of the gateway's own after
a provider had produced (an output guardrail's 403, a plugin's 500), since running again would cost again.
Not kept is what a retry may set right: refusals before anybody was asked, a provider's errors, replies
that broke off or that the client did not wait for.
"""

from __future__ import annotations

from enum import Enum

from raven_proxy import Exchange, Outcome

from .copying import Copy

__all__ = ["Ending", "choose_headers", "judge", "read_body"]

# What belongs to one exchange, and what the gateway writes anew for each.
_NOT_KEPT = frozenset(
    "connection content-length date keep-alive retry-after retry-after-ms set-cookie transfer-encoding "
    "x-raven-cost x-raven-latency-ms x-request-id".split()
)


class Ending(Enum):
    """What a request came to."""

    NOTHING = "nothing"
    REPLY = "reply"
    ERROR = "error"


def judge(exchange: Exchange) -> Ending:
    """Say what a request came to, at its settling."""
    if exchange.outcome is Outcome.COMPLETED or exchange.is_complete:
        return Ending.REPLY
    is_ours = exchange.outcome in (Outcome.REFUSED, Outcome.FAILED) and exchange.error is not None
    # With a status below 400 its head was out already: a stream that broke off.
    return Ending.ERROR if is_ours and exchange.produced_bytes and exchange.status >= 400 else Ending.NOTHING


def read_body(exchange: Exchange, ending: Ending, copy: Copy) -> bytes | None:
    """Give the bytes that the client gets, once the head is written; None if they are too many."""
    if ending is Ending.ERROR and exchange.error is not None:
        return exchange.face.dialect.render_error(exchange.error, exchange.id)
    return exchange.reply_body if exchange.reply_body is not None else copy.body


def choose_headers(exchange: Exchange) -> dict[str, str]:
    """Give the headers that matter in a repeat too, under lower-case names."""
    unkept = {*_NOT_KEPT, exchange.face.dialect.id_header.lower()}
    lower = {name.lower(): value for name, value in exchange.reply_headers.items()}
    return {name: value for name, value in lower.items() if name not in unkept and "ratelimit" not in name}
