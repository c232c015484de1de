"""How much a Claude model is asked to think: effort, budgets and adaptive thinking.

A budget must be 1024 tokens at least and leave room for the answer within `max_tokens`. Forced tool
calls and thinking exclude each other, so does a tool turn whose thinking is not there to be sent back
(https://platform.claude.com/docs/en/build-with-claude/extended-thinking).
"""

from __future__ import annotations

from typing import Any

from raven_proxy.hub import ChatRequest, Thinking

from .content import FAMILY
from .models import Abilities

__all__ = ["write_thinking"]

_LEAST = 1024
_SHARES = {"minimal": 0.1, "low": 0.25, "medium": 0.5, "high": 0.75, "xhigh": 0.9, "max": 0.9}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def write_thinking(
    request: ChatRequest, abilities: Abilities, body: dict[str, Any], *, is_forced: bool, is_broken: bool
) -> None:
    """Set `thinking`, `output_config.effort` and what of `max_tokens` follows from them in `body`.

    `is_forced`: a tool has to be called. `is_broken`: the turn that is answered has calls but no
    thinking that could be sent back.
    """
    wish = request.thinking
    if wish is None:
        return
    effort = wish.effort
    if wish.enabled is False or effort == "none" or wish.budget_tokens == 0:
        if abilities.always_thinks:
            request.drop("thinking")
        elif abilities.thinks:
            body["thinking"] = {"type": "disabled"}
        return
    if abilities.efforts and effort is not None:
        body.setdefault("output_config", {})["effort"] = _nearest(effort, abilities.efforts)
    if request.family == FAMILY and wish.enabled is None:
        return  # there effort is a thing of its own
    if not abilities.thinks or is_forced:
        request.drop("thinking")
        return
    if abilities.adaptive and (wish.budget_tokens is None or not abilities.budgets):
        _write_adaptive(wish, abilities, body)
        return
    if is_broken:
        request.drop("thinking")
        return
    _write_budget(wish, abilities, body)


def _write_adaptive(wish: Thinking, abilities: Abilities, body: dict[str, Any]) -> None:
    if wish.effort is None and wish.budget_tokens is not None:
        share = wish.budget_tokens / max(1, body["max_tokens"])
        effort = "low" if share < 0.35 else "medium" if share < 0.65 else "high"
        body.setdefault("output_config", {})["effort"] = _nearest(effort, abilities.efforts)
    body["thinking"] = {"type": "adaptive", **_display(wish)}


def _write_budget(wish: Thinking, abilities: Abilities, body: dict[str, Any]) -> None:
    most = body["max_tokens"]
    budget = wish.budget_tokens
    if budget is None or budget < 0:
        budget = int(most * _SHARES[wish.effort or "medium"])
    budget = max(_LEAST, budget)
    if budget >= most:  # the client's bound was for the answer then
        most = min(most + budget, abilities.max_tokens or most + budget)
        budget = min(budget, most - 1)
    body["max_tokens"] = most
    body["thinking"] = {"type": "enabled", "budget_tokens": budget, **_display(wish)}


def _display(wish: Thinking) -> dict[str, str]:
    if wish.include is False:
        return {"display": "omitted"}
    return {"display": "summarized"} if wish.include or wish.summary is not None else {}


def _nearest(effort: str, known: tuple[str, ...]) -> str:
    """Give the strongest known word that is not over `effort`."""
    rank = _EFFORTS.index(effort) if effort in _EFFORTS else 0
    return next((word for word in reversed(_EFFORTS[: rank + 1]) if word in known), known[0])
