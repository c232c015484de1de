"""How a vendor is asked to think: the hub's `Thinking` in the words of its row in `presets`."""

from __future__ import annotations

import re
from typing import Any

from raven_openai.traits import ChatTraits
from raven_proxy import hub

__all__ = ["is_reasoning_model", "thinks_by_itself", "write_thinking"]

_REASONING_MODEL = re.compile(r"(?:^|/)(?:o\d|gpt-5|codex)(?!.*-chat)")
_ALWAYS_THINKING = re.compile(r"(?:^|/)(?:o\d|gpt-5(?!\.\d)|codex)(?!.*-chat)")
_FIRST_GPT_5 = re.compile(r"(?:^|/)gpt-5(?!\.\d)")
_RANKS = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "high": 4, "xhigh": 5, "max": 6}


def is_reasoning_model(model: str) -> bool:
    """Say whether it is one of OpenAI's models that think."""
    return _REASONING_MODEL.search(model) is not None


def thinks_by_itself(request: hub.ChatRequest) -> bool:
    """Say whether an OpenAI model will think, and so refuses sampling parameters."""
    if _ALWAYS_THINKING.search(request.model):
        return True
    wanted = request.thinking  # gpt-5.1 and later think only if they are told to
    return bool(_REASONING_MODEL.search(request.model) and wanted is not None and wanted.enabled)


def write_thinking(
    request: hub.ChatRequest, wanted: hub.Thinking, traits: ChatTraits, body: dict[str, Any]
) -> None:
    """Ask for thought in the vendor's way, or note that it cannot be asked."""
    is_off = wanted.enabled is False
    if traits.reasoning == "none" or not re.search(traits.reasoning_models, request.model):
        if not is_off:
            request.drop("thinking")
        return
    known = _openai_efforts(request.model) if traits.openai_models else traits.efforts
    effort = _effort(wanted, request.max_tokens, known)
    if traits.reasoning == "reasoning":
        body["reasoning"] = _openrouter(wanted)
    elif traits.reasoning == "thinking":
        if wanted.enabled is not None:
            body["thinking"] = {"type": "disabled" if is_off else "enabled"}
        if effort is not None and traits.efforts and not is_off:
            body["reasoning_effort"] = effort
    elif traits.reasoning == "enable_thinking":
        if wanted.enabled is not None:
            body["enable_thinking"] = wanted.enabled
        if wanted.budget_tokens is not None and wanted.enabled:
            body["thinking_budget"] = wanted.budget_tokens
    elif traits.reasoning == "template":
        if wanted.enabled is not None:
            body["chat_template_kwargs"] = {"enable_thinking": wanted.enabled}
        if effort is not None and not is_off:
            body["reasoning_effort"] = effort
    else:
        _write_effort(request, effort, body, is_off=is_off)


def _write_effort(
    request: hub.ChatRequest, effort: str | None, body: dict[str, Any], *, is_off: bool
) -> None:
    if is_off:
        # What cannot stop thinking thinks as little as it can.
        if _FIRST_GPT_5.search(request.model):
            effort = "minimal"
        elif effort != "none":
            request.drop("thinking")
            return
    if effort is not None:
        body["reasoning_effort"] = effort


def _openrouter(wanted: hub.Thinking) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if wanted.budget_tokens is not None and wanted.enabled is not False:
        said["max_tokens"] = wanted.budget_tokens  # one of the two: both are refused
    elif wanted.effort is not None:
        said["effort"] = wanted.effort
    elif wanted.enabled is not None:
        said["enabled"] = wanted.enabled
    if wanted.include is not None:
        said["exclude"] = not wanted.include
    return said


def _effort(wanted: hub.Thinking, max_tokens: int | None, known: tuple[str, ...]) -> str | None:
    """Give the nearest effort that the vendor has; a budget counts by its share of the whole answer."""
    effort: str | None = wanted.effort
    if wanted.enabled is False:
        effort = "none"
        return effort if "none" in known else None
    if effort is None and wanted.budget_tokens is not None:
        share = wanted.budget_tokens / (max_tokens or 32_768)
        effort = "low" if share < 0.35 else "medium" if share < 0.65 else "high"
    if effort is None or not known:
        return None
    if effort in known:
        return effort
    words = [word for word in known if word != "none"]
    return min(words, key=lambda word: (abs(_RANKS[word] - _RANKS[effort]), -_RANKS[word])) if words else None


def _openai_efforts(model: str) -> tuple[str, ...]:
    if re.search(r"(?:^|/)o\d|gpt-oss", model):
        return ("low", "medium", "high")
    if _FIRST_GPT_5.search(model):
        return ("minimal", "low", "medium", "high")
    if "gpt-5.1" in model:
        return ("none", "low", "medium", "high")
    return ("none", "low", "medium", "high", "xhigh")
