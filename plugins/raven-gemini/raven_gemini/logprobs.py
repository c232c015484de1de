"""Google's log probabilities in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["read_logprobs"]


class _Token(msgspec.Struct, rename="camel", gc=False):
    token: str = ""
    log_probability: float = 0.0


class _Top(msgspec.Struct):
    candidates: list[_Token] | None = None


class _Result(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


def read_logprobs(table: dict[str, Any]) -> dict[str, Any] | None:
    """Read a `logprobsResult`; None if it is empty."""
    result = msgspec.convert(table, _Result)
    chosen, tops = result.chosen_candidates or [], result.top_candidates or []
    content = []
    for place, token in enumerate(chosen):
        others = tops[place].candidates if place < len(tops) else None
        content.append({**_entry(token), "top_logprobs": [_entry(other) for other in others or ()]})
    return {"content": content, "refusal": None} if content else None


def _entry(token: _Token) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.log_probability, "bytes": [*token.token.encode()]}
