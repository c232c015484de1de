"""`count_tokens` where the vendor cannot count: an estimate, marked as one.

A provider that can count says so by an attribute `counts_tokens`: True, or a function of the preset's
name. Its requests go upstream; nothing is answered in its place. Where it depends on the model, it has
a method `counts_tokens_of(upstream, model)` instead.
"""

from __future__ import annotations

import msgspec

from raven_proxy.exchange import Candidate, Exchange, Reply
from raven_proxy.providers import estimate_prompt

from .dialect import COUNT_TOKENS

__all__ = ["answer_count"]


def answer_count(exchange: Exchange) -> Reply | None:
    """Answer a request to count tokens if no place that it may go to can; None goes on to those that can."""
    if exchange.face.dialect is not COUNT_TOKENS or exchange.face.raw:
        return None
    able = tuple(one for one in exchange.candidates if _counts(one))
    if able or not exchange.candidates:
        exchange.candidates = able  # the others could only refuse
        return None
    count = max(1, estimate_prompt(exchange.body))
    headers = {"Content-Type": "application/json", "X-Raven-Estimated": "true"}
    return Reply(200, headers, msgspec.json.encode({"input_tokens": count}))


def _counts(candidate: Candidate) -> bool:
    upstream = candidate.upstream
    of_model = getattr(upstream.provider, "counts_tokens_of", None)
    if of_model is not None:
        return bool(of_model(upstream, candidate.model))
    able = getattr(upstream.provider, "counts_tokens", False)
    return bool(able(upstream.preset)) if callable(able) else bool(able)
