"""Chat requests for Cohere's `/v2/chat`, written from the hub's.

Cohere's own parameters (`_OWN`) go up where the client named them, whatever its dialect.
Source: Cohere's API reference, v2/chat.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest, Tool

from .messages import write_messages

__all__ = ["write_chat"]

_OWN = frozenset(
    "documents citation_options safety_mode connectors strict_tools priority k p stop_sequences "
    "raw_prompting return_prompt".split()
)
_MOST_STOPS = 5
_SHARES = {"minimal": 0.1, "low": 0.25, "medium": 0.5, "high": 0.75}  # of `max_tokens`, for thinking
_UNKNOWN = (
    "logit_bias", "top_logprobs", "verbosity", "user", "metadata", "service_tier", "store",
    "prompt_cache_key", "safety_identifier", "prediction",
)  # fmt: skip


def write_chat(request: ChatRequest) -> bytes:
    """Write Cohere's request; what is lost is noted in `request.dropped`.

    Raises InvalidRequest for what cannot be left out without changing the meaning.
    """
    _refuse(request)
    messages, documents = write_messages(request)
    body: dict[str, Any] = {"model": request.model, "messages": messages, "stream": request.stream}
    body |= _write_limits(request) | _write_tools(request) | _write_format(request)
    thinking = _write_thinking(request)
    if thinking is not None:
        body["thinking"] = thinking
    _take_extra(request, body)
    if documents:
        theirs = body.get("documents")
        body["documents"] = [*(theirs if isinstance(theirs, list) else ()), *documents]
    request.drop_if_set(*_UNKNOWN)
    return msgspec.json.encode(body)


def _take_extra(request: ChatRequest, body: dict[str, Any]) -> None:
    for name, value in request.extra.items():
        if name not in _OWN:
            request.drop(name)
            continue
        body.setdefault(name, value)
        if name in request.dropped:  # as unknown to the client's dialect
            request.dropped.remove(name)


def _refuse(request: ChatRequest) -> None:
    wrong: tuple[str, str] | None = None
    if request.n is not None and request.n > 1:
        wrong = "n", "Cohere gives one answer; leave n out, or ask several times"
    elif request.audio is not None or "audio" in (request.modalities or ()):
        wrong = "modalities", "Cohere answers in text; leave audio out"
    elif request.web_search is not None:
        wrong = "web_search_options", "Cohere does not search the web; leave it out"
    elif request.server_tools:
        kind = request.server_tools[0].get("type", "a built-in tool")
        wrong = "tools", f"{kind} is another vendor's tool; send functions of your own"
    elif any(tool.custom for tool in request.tools):
        wrong = "tools", "Cohere takes functions, and no custom tools; give the tool a JSON schema"
    elif len(request.stop) > _MOST_STOPS:
        wrong = "stop", f"Cohere takes at most {_MOST_STOPS} stop sequences; send fewer"
    if wrong is not None:
        param = request.names.get(wrong[0], wrong[0])
        raise InvalidRequest(f"{param}: {wrong[1]}.", param=param)


def _write_limits(request: ChatRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "logprobs": request.logprobs,
        "stop_sequences": request.stop or None,
        "frequency_penalty": _bound(request, "frequency_penalty"),
        "presence_penalty": _bound(request, "presence_penalty"),
        # The bounds are Cohere's; "all" is 1 elsewhere and 0.99 here, "off" is -1 elsewhere and 0 here.
        "p": None if request.top_p is None else min(max(request.top_p, 0.01), 0.99),
        "k": None if request.top_k is None else min(max(request.top_k, 0), 500),
    }
    return {name: value for name, value in found.items() if value is not None}


def _bound(request: ChatRequest, name: str) -> float | None:
    """Give a penalty within Cohere's 0..1; one that had to be bent counts as dropped."""
    value: float | None = getattr(request, name)
    if value is None or 0 <= value <= 1:
        return value
    request.drop(name)
    return min(max(value, 0.0), 1.0)


def _write_tools(request: ChatRequest) -> dict[str, Any]:
    tools, choice = request.tools, request.tool_choice
    if request.parallel_tool_calls is False:
        request.drop("parallel_tool_calls")
    if not tools:
        return {}
    found: dict[str, Any] = {}
    if choice is not None and choice.mode == "named":
        # There is no way to name one; with the others out of sight it comes to the same.
        tools = [tool for tool in tools if tool.name in choice.names]
        if not tools:
            raise InvalidRequest("tool_choice: it names no tool of this request.", param="tool_choice")
    if choice is not None and choice.mode != "auto":
        found["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if any(tool.strict for tool in tools):
        found["strict_tools"] = True
    if any(tool.cache is not None for tool in tools):
        request.drop("cache_control")
    return found | {"tools": [_write_tool(tool) for tool in tools]}


def _write_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _write_format(request: ChatRequest) -> dict[str, Any]:
    wanted = request.output_format
    if wanted is None:
        return {}
    found: dict[str, Any] = {"type": "json_object"}
    if wanted.mode == "json_schema" and wanted.schema is not None:
        found["json_schema"] = wanted.schema
    return {"response_format": found}


def _write_thinking(request: ChatRequest) -> dict[str, Any] | None:
    """Say how much to think. Models that can, do so unasked: an "adaptive" request says nothing."""
    wanted = request.thinking
    if wanted is None:
        return None
    if wanted.include is False and wanted.enabled is not False:
        request.drop("thinking")
    if wanted.enabled is False or wanted.effort == "none":
        return {"type": "disabled"}
    budget = wanted.budget_tokens
    share = _SHARES.get(wanted.effort or "")
    if budget is None and share is not None and request.max_tokens:
        budget = max(int(request.max_tokens * share), 1)
    if budget is not None and budget > 0:
        return {"type": "enabled", "token_budget": budget}
    if share is not None:
        request.drop("thinking")
    is_asked = (wanted.enabled and not wanted.adaptive) or wanted.effort is not None
    return {"type": "enabled"} if is_asked else None
