"""Cohere's words and counts in the gateway's terms: tokens, finish reasons."""

from __future__ import annotations

import msgspec

from raven_proxy.exchange import Usage
from raven_proxy.hub import Finish

__all__ = ["Counts", "Spent", "finish_of", "usage_of"]

_MOST = 10**8
_FINISH: dict[str, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "USER_CANCEL": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "length",  # v1: the context is full
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}


class Counts(msgspec.Struct, gc=False):
    """Tokens, or units that are billed; Cohere writes them as floats at times."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    reasoning_tokens: float | None = None
    search_units: float | None = None


class Spent(msgspec.Struct, gc=False):
    """`usage` of a chat (v2), or `meta` of anything else."""

    tokens: Counts | None = None
    billed_units: Counts | None = None
    cached_tokens: float | None = None


def finish_of(word: str | None, *, has_calls: bool) -> Finish:
    """Give the standard word for Cohere's; one that nobody knows is a `stop`."""
    finish = _FINISH.get(word or "", "stop")
    return "tool_calls" if has_calls and finish == "stop" and word != "STOP_SEQUENCE" else finish


def usage_of(spent: Spent | None) -> Usage | None:
    """Give what the model read and wrote; what is billed (much less, at times) where that is all there is."""
    if spent is None:
        return None
    tokens, billed = spent.tokens or Counts(), spent.billed_units or Counts()
    prompt = _first(tokens.input_tokens, billed.input_tokens)
    completion = _first(tokens.output_tokens, billed.output_tokens)
    if prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=min(_first(spent.cached_tokens) or 0, prompt),
        reasoning_tokens=min(_first(tokens.reasoning_tokens) or 0, completion),
    )


def _first(*counts: float | None) -> int | None:
    return next((int(count) for count in counts if count is not None and 0 <= count <= _MOST), None)
