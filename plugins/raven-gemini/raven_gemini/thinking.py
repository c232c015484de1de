"""How much a model is to think: the hub's effort, budget or switch as Google's `thinkingConfig`.

The 2.5 models take a budget in tokens, the 3 models a level; the figures are those of Google's own
OpenAI endpoint (ai.google.dev, "OpenAI compatibility"). Pro models and 3 models cannot be told not to think.
"""

from __future__ import annotations

from typing import Any

from raven_proxy.hub import ChatRequest, Effort, Thinking

from .models import Traits

__all__ = ["write_thinking"]

_BUDGETS: dict[Effort, int] = {
    "none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768,
}  # fmt: skip
_LEVELS: dict[Effort, str] = {
    "none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high",
    "xhigh": "high", "max": "high",
}  # fmt: skip


def write_thinking(request: ChatRequest, traits: Traits) -> dict[str, Any] | None:
    """Give the `thinkingConfig`, None where the client said nothing; notes what cannot be had."""
    thinking = request.thinking
    if thinking is None:
        return None
    is_off = thinking.enabled is False or thinking.effort == "none" or thinking.budget_tokens == 0
    if traits.thinking == "none":
        if not is_off:
            request.drop("thinking")
        return None
    config: dict[str, Any] = {}
    if is_off:
        if traits.is_pro or traits.is_third:
            request.drop("thinking")
        config |= _least(traits)
    elif traits.thinking == "level":
        if (level := _level(thinking, traits)) is not None:
            config["thinkingLevel"] = level
    elif (budget := _budget(thinking, traits)) is not None:
        config["thinkingBudget"] = budget
    shows = thinking.include if thinking.include is not None else not is_off
    if shows or thinking.include is not None:
        config["includeThoughts"] = shows
    return config or None


def _least(traits: Traits) -> dict[str, Any]:
    if traits.thinking == "level":
        return {"thinkingLevel": "low" if traits.is_pro else "minimal"}
    return {"thinkingBudget": 128 if traits.is_pro else 0}


def _level(thinking: Thinking, traits: Traits) -> str | None:
    if thinking.effort is not None:
        level = _LEVELS[thinking.effort]
    elif thinking.budget_tokens is not None and thinking.budget_tokens > 0:
        budget = thinking.budget_tokens
        level = "low" if budget < _BUDGETS["medium"] else "medium" if budget < _BUDGETS["high"] else "high"
    else:
        return None
    if traits.is_pro:
        has_medium = traits.version > (3, 0)
        level = {"minimal": "low", "medium": "medium" if has_medium else "high"}.get(level, level)
    return level


def _budget(thinking: Thinking, traits: Traits) -> int | None:
    if thinking.budget_tokens is not None:
        budget = thinking.budget_tokens
    elif thinking.effort is not None:
        budget = _BUDGETS[thinking.effort]
    else:
        return -1 if thinking.adaptive or thinking.enabled else None
    if budget < 0:
        return -1
    least = 128 if traits.is_pro else 512 if traits.is_lite else 0
    return min(max(budget, least), 32768 if traits.is_pro else 24576)
