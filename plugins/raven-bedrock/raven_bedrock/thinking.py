"""How a model is told to think, and the sampling that goes with it: different for each family.

Claude before 4.6 takes a budget of tokens, later ones decide by an effort; Nova 2 and gpt-oss take an
effort. Sources: docs.aws.amazon.com/bedrock (extended thinking, adaptive thinking) and /nova (extended
thinking).
"""

from __future__ import annotations

from typing import Any

from raven_proxy import hub

from .models import Model
from .tools import ToolPlan

__all__ = ["Block", "inference_config", "plan_thinking"]

Block = dict[str, Any]

_LEAST_BUDGET = 1024  # tokens; Claude refuses less
_USUAL_ANSWER = 4096  # tokens for the answer, where the client set no bound
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 20480, "max": 26624}
_SHARES = {"minimal": 0.1, "low": 0.25, "medium": 0.5, "high": 0.75, "xhigh": 0.9, "max": 0.95}
_THREE = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_TOP_K = {"anthropic": "top_k", "mistral": "top_k", "cohere": "k"}


def plan_thinking(request: hub.ChatRequest, model: Model, plan: ToolPlan, adjusted: list[str]) -> Block:
    """Give the fields of `additionalModelRequestFields` that turn thinking on; {} where it stays off.

    What the model cannot be told is noted in `request`, whose `max_tokens` and sampling may change; a
    value that is made to fit is noted in `adjusted`.
    """
    thinking = request.thinking
    if thinking is None or thinking.enabled is False or thinking.effort == "none":
        return {}
    if model.is_claude:
        return _claude(request, thinking, model, plan, adjusted)
    effort = _THREE.get(thinking.effort or "", "medium")
    if model.is_nova and "nova-2" in model.id:
        if effort == "high":  # refused together with it
            for name in ("temperature", "top_p", "max_tokens"):
                _take_out(request, name)
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
    if "gpt-oss" in model.id:
        return {"reasoning_effort": effort}
    request.drop("thinking")
    return {}


def inference_config(
    request: hub.ChatRequest, model: Model, adjusted: list[str], *, thinks: bool
) -> tuple[Block, Block]:
    """Give `inferenceConfig`, and the sampling fields that only the model's family knows."""
    if not model.takes_sampling or (thinks and model.is_claude):
        if request.temperature not in (None, 1):
            request.drop("temperature")
        request.temperature = None
        _take_out(request, "top_k")
        if not (thinks and model.takes_sampling and request.top_p is not None and request.top_p >= 0.95):
            _take_out(request, "top_p")
    if request.temperature is not None and request.top_p is not None and model.version >= (4, 1):
        _take_out(request, "top_p")  # Claude takes one of the two
    if request.temperature is not None and request.temperature > 1:
        adjusted.append("temperature")
        request.temperature = 1.0
    config: Block = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": [text for text in request.stop if text.strip()] or None,
    }
    fields: Block = {}
    if request.top_k is not None:
        if model.is_nova:
            fields["inferenceConfig"] = {"topK": request.top_k}
        elif (word := _TOP_K.get(model.family)) is not None:
            fields[word] = request.top_k
        else:
            request.drop("top_k")
    return {name: value for name, value in config.items() if value is not None}, fields


def _claude(
    request: hub.ChatRequest, thinking: hub.Thinking, model: Model, plan: ToolPlan, adjusted: list[str]
) -> Block:
    if model.version < (3, 7) and model.version != (0, 0):
        request.drop("thinking")
        return {}
    if plan.forces:  # "Thinking may not be enabled when tool_choice forces tool use"
        request.drop("thinking")
        return {}
    if model.thinks_adaptively:
        return _adaptive(thinking, model)
    if _ends_in_unsigned_calls(request):
        request.drop("thinking")
        return {}
    budget = thinking.budget_tokens
    if budget is None:
        share = _SHARES.get(thinking.effort or "medium", 0.5)
        usual = _BUDGETS.get(thinking.effort or "medium", 8192)
        budget = int(request.max_tokens * share) if request.max_tokens is not None else usual
    budget = max(_LEAST_BUDGET, budget)
    if request.max_tokens is None:
        request.max_tokens = budget + _USUAL_ANSWER
    elif request.max_tokens <= budget:  # the bound was meant for the answer
        request.max_tokens += budget
        adjusted.append("max_tokens")
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _adaptive(thinking: hub.Thinking, model: Model) -> Block:
    is_newer = model.version >= (4, 7)
    shown: Block = {"type": "adaptive"}
    if is_newer and (thinking.include or thinking.summary is not None):  # 4.6 shows it anyhow
        shown["display"] = "summarized"
    effort: str | None = thinking.effort
    if effort is None and thinking.budget_tokens is not None:
        budget = thinking.budget_tokens
        effort = "low" if budget < 4096 else "medium" if budget < 16384 else "high"
    if effort is None:
        return {"thinking": shown}
    if effort == "xhigh" and not is_newer:
        effort = "max"
    return {"thinking": shown, "output_config": {"effort": "low" if effort == "minimal" else effort}}


def _ends_in_unsigned_calls(request: hub.ChatRequest) -> bool:
    """Say whether a tool loop is open whose turn lost its thinking: Claude refuses to think on in it."""
    for message in reversed(request.messages):
        if message.role == "user":
            return False
        if message.role == "assistant":
            has_calls = any(isinstance(part, hub.ToolCall) for part in message.parts)
            signed = any(
                isinstance(part, hub.Reasoning)
                and part.format == "anthropic"
                and (part.signature or part.data)
                for part in message.parts
            )
            return has_calls and not signed
    return False


def _take_out(request: hub.ChatRequest, name: str) -> None:
    if getattr(request, name) is not None:
        request.drop(name)
        setattr(request, name, None)
