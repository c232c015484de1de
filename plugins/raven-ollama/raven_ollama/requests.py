"""Requests for Ollama's `/api/chat` and `/api/embed`, written from the hub's.

Ollama's own parameters go up where the client named them, at the top (`_OWN`) or among the `options`
(`_OPTIONS`). Source: Ollama's API documentation, and its Modelfile parameters.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest, EmbeddingsRequest

from .messages import write_messages

__all__ = ["write_chat", "write_embeddings"]

_OWN = frozenset({"keep_alive", "truncate", "shift", "think"})
_OF_VECTORS = ("truncate", "keep_alive", "options")
_OPTIONS = frozenset(
    "num_ctx num_keep num_batch num_gpu main_gpu num_thread min_p typical_p repeat_last_n repeat_penalty "
    "mirostat mirostat_tau mirostat_eta penalize_newline use_mmap tfs_z".split()
)
_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_UNKNOWN = (
    "logit_bias", "verbosity", "user", "metadata", "service_tier", "store", "prompt_cache_key",
    "safety_identifier", "prediction",
)  # fmt: skip


def write_chat(request: ChatRequest) -> bytes:
    """Write Ollama's request; what is lost is noted in `request.dropped`.

    Raises InvalidRequest for what cannot be left out without changing the meaning.
    """
    _refuse(request)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": write_messages(request),
        "stream": request.stream,
    }
    tools = _write_tools(request)
    if tools:
        body["tools"] = tools
    wanted = request.output_format
    if wanted is not None:
        body["format"] = wanted.schema if wanted.schema is not None else "json"
    think = _write_think(request)
    if think is not None:
        body["think"] = think
    for name in ("logprobs", "top_logprobs"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    options = _take_extra(request, body) | _write_options(request)
    if options:
        body["options"] = options
    request.drop_if_set(*_UNKNOWN)
    return msgspec.json.encode(body)


def write_embeddings(request: EmbeddingsRequest) -> bytes:
    """Write Ollama's request for vectors. Raises InvalidRequest for tokens."""
    if request.tokens:
        raise InvalidRequest("input: this model takes texts, not tokens; send strings.", param="input")
    body: dict[str, Any] = {"model": request.model, "input": request.texts}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    for name, value in request.extra.items():
        if name in _OF_VECTORS:
            body[name] = value
        else:
            request.drop(name)
    request.dropped = [name for name in request.dropped if name not in _OF_VECTORS]
    for name in ("purpose", "user"):
        if getattr(request, name) is not None:
            request.drop("input_type" if name == "purpose" else name)
    return msgspec.json.encode(body)


def _refuse(request: ChatRequest) -> None:
    wrong: tuple[str, str] | None = None
    if request.n is not None and request.n > 1:
        wrong = "n", "Ollama gives one answer; leave n out, or ask several times"
    elif request.audio is not None or "audio" in (request.modalities or ()):
        wrong = "modalities", "Ollama answers in text; leave audio out"
    elif request.web_search is not None:
        wrong = "web_search_options", "Ollama does not search the web; leave it out"
    elif request.server_tools:
        kind = request.server_tools[0].get("type", "a built-in tool")
        wrong = "tools", f"{kind} is another vendor's tool; send functions of your own"
    elif any(tool.custom for tool in request.tools):
        wrong = "tools", "Ollama takes functions, and no custom tools; give the tool a JSON schema"
    if wrong is not None:
        param = request.names.get(wrong[0], wrong[0])
        raise InvalidRequest(f"{param}: {wrong[1]}.", param=param)


def _write_tools(request: ChatRequest) -> list[dict[str, Any]]:
    """Write the tools that the model may call. Ollama cannot be told that it must."""
    tools, choice = request.tools, request.tool_choice
    if request.parallel_tool_calls is False:
        request.drop("parallel_tool_calls")
    if choice is not None and choice.mode == "none":
        return []
    if choice is not None and choice.mode == "named":
        tools = [tool for tool in tools if tool.name in choice.names]
        if not tools:
            raise InvalidRequest("tool_choice: it names no tool of this request.", param="tool_choice")
    if choice is not None and choice.mode != "auto":
        request.drop("tool_choice")
    if any(tool.strict for tool in tools):
        request.drop("tools[].strict")
    written: list[dict[str, Any]] = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.name, "parameters": tool.schema}
        if tool.description is not None:
            function["description"] = tool.description
        written.append({"type": "function", "function": function})
        if tool.cache is not None:
            request.drop("cache_control")
    return written


def _write_think(request: ChatRequest) -> bool | str | None:
    wanted = request.thinking
    if wanted is None:
        return None
    if wanted.enabled is False or wanted.effort == "none":
        return False
    if wanted.effort is not None:
        return _LEVELS[wanted.effort]
    if wanted.budget_tokens is not None:
        request.drop("thinking")  # there is no bound on it
    is_asked = (wanted.enabled and not wanted.adaptive) or wanted.budget_tokens is not None
    return True if is_asked else None


def _write_options(request: ChatRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
        "stop": request.stop or None,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    return {name: value for name, value in found.items() if value is not None}


def _take_extra(request: ChatRequest, body: dict[str, Any]) -> dict[str, Any]:
    """Put Ollama's own parameters into `body`; give those that belong among the options."""
    options: dict[str, Any] = {}
    for name, value in request.extra.items():
        if name in _OWN:
            body.setdefault(name, value)
        elif name == "options" and isinstance(value, dict):
            options = value | options
        elif name in _OPTIONS:
            options[name] = value
        else:
            request.drop(name)
            continue
        if name in request.dropped:  # as unknown to the client's dialect
            request.dropped.remove(name)
    return options
