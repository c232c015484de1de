"""The hub's chat request → a vendor's chat completion request; messages are written in `speaking`.

What the vendor cannot be told is noted in `request.dropped`; what cannot be left out without changing
the meaning is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_openai.presets import Preset
from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

from .replies import SERVICE_TIERS
from .speaking import write_messages
from .thinking import is_reasoning_model, thinks_by_itself, write_thinking

__all__ = ["write_chat_request"]

_NOT_WHILE_THINKING = (
    "temperature top_p presence_penalty frequency_penalty logprobs top_logprobs logit_bias".split()
)
_PLAIN = (
    "temperature top_p n seed presence_penalty frequency_penalty logit_bias logprobs top_logprobs user "
    "parallel_tool_calls"
).split()
_OPENAI_ONLY = (
    "verbosity metadata service_tier store prompt_cache_key safety_identifier audio prediction".split()
)


def write_chat_request(request: hub.ChatRequest, exchange: Exchange, preset: Preset) -> bytes:
    """Write the vendor's body."""
    where = exchange.candidate.upstream.name if exchange.candidate is not None else "this upstream"
    traits = preset.chat
    body: dict[str, Any] = {"model": request.model}
    body["messages"] = write_messages(request, preset, where)
    if request.stream:
        body["stream"] = True
        if preset.usage_in_stream == "asked":
            body["stream_options"] = {"include_usage": True}
    _refuse(request, preset, where)
    thinks = traits.openai_models and thinks_by_itself(request)
    for name in _PLAIN:
        value = getattr(request, name)
        if value is None or value == {} or (name == "n" and value == 1) or (name == "logprobs" and not value):
            continue
        if thinks and name in _NOT_WHILE_THINKING:
            request.drop(name)
        else:
            body[name] = value
    if request.temperature is not None and "temperature" in body:
        body["temperature"] = min(request.temperature, traits.max_temperature)
    _write_limits(request, preset, body, thinks=thinks)
    _write_tools(request, preset, body, where)
    _write_format(request, preset, body)
    if request.thinking is not None:
        write_thinking(request, request.thinking, preset.chat, body)
    _write_rest(request, preset, body)
    return msgspec.json.encode(_rename(request, preset, body))


def _refuse(request: hub.ChatRequest, preset: Preset, where: str) -> None:
    traits = preset.chat
    if (request.n or 1) > 1 and not traits.many:
        raise InvalidRequest(f"n: {where} gives one answer; send n = 1.", param="n")
    for kind in request.modalities or ():
        if kind not in traits.modalities:
            raise InvalidRequest(
                f"modalities: {where} does not answer in {kind!r}; choose another model.", param="modalities"
            )
    if request.web_search is not None and not traits.web_search:
        name = request.names.get("web_search", "web_search")
        raise InvalidRequest(f"{name}: {where} cannot search the web; choose another model.", param=name)
    for tool in request.server_tools:
        kind = tool.get("type") or next(iter(tool), "tool")
        raise InvalidRequest(
            f"tools: {where} does not have the tool {str(kind)[:80]!r}, which runs at its vendor's; "
            "leave it out or choose another model.",
            param="tools",
        )


def _write_limits(request: hub.ChatRequest, preset: Preset, body: dict[str, Any], *, thinks: bool) -> None:
    traits = preset.chat
    if request.max_tokens is not None:
        is_newer = traits.limit == "max_completion_tokens" or is_reasoning_model(request.model)
        body["max_completion_tokens" if is_newer else "max_tokens"] = request.max_tokens
    if request.stop:
        if thinks:
            request.drop("stop")
        else:
            if len(request.stop) > traits.most_stops:
                request.drop("stop")
            body["stop"] = request.stop[: traits.most_stops]
    if request.top_k is not None:
        if traits.top_k:
            body["top_k"] = request.top_k
        else:
            request.drop("top_k")


def _write_rest(request: hub.ChatRequest, preset: Preset, body: dict[str, Any]) -> None:
    traits = preset.chat
    for name in _OPENAI_ONLY:
        value = getattr(request, name)
        if value is None or (value is False and name not in traits.knows):
            continue
        if name in traits.knows and (name != "service_tier" or value in SERVICE_TIERS):
            body[name] = value
        else:
            request.drop(name)
    if request.modalities and set(request.modalities) != {"text"}:
        body["modalities"] = request.modalities
    if request.web_search is not None:
        body["web_search_options"] = request.web_search
    if request.family == "openai.chat":
        body |= {name: value for name, value in request.extra.items() if name not in body}
        request.dropped = [name for name in request.dropped if name not in request.extra]


def _rename(request: hub.ChatRequest, preset: Preset, body: dict[str, Any]) -> dict[str, Any]:
    """Use the vendor's names, and leave out what it refuses."""
    for name, theirs in preset.renames.items():
        if name in body:
            body.setdefault(theirs, body.pop(name))
    for name in sorted(preset.unsupported & body.keys()):
        if name != "stream_options":  # that one is the gateway's own
            request.drop("max_tokens" if name == "max_completion_tokens" else name)
        del body[name]
    return body


# -- tools -----------------------------------------------------------------------------


def _write_tools(request: hub.ChatRequest, preset: Preset, body: dict[str, Any], where: str) -> None:
    traits = preset.chat
    tools, choice = request.tools, request.tool_choice
    if not tools:
        body.pop("parallel_tool_calls", None)
        return
    if choice is not None and len(choice.names) > 1 and not traits.openai_models:
        # Fewer tools, one of which must be called, mean the same.
        tools = [tool for tool in tools if tool.name in choice.names]
        choice = hub.ToolChoice(mode="required")
    body["tools"] = [_write_tool(tool, request, preset, where) for tool in tools]
    if choice is None:
        return
    if choice.mode not in traits.tool_choices:
        if choice.mode == "none":  # what is not there is not called
            del body["tools"]
            body.pop("parallel_tool_calls", None)
        elif choice.mode != "auto":
            request.drop("tool_choice")
        return
    body["tool_choice"] = _write_choice(choice, tools)


def _write_tool(tool: hub.Tool, request: hub.ChatRequest, preset: Preset, where: str) -> dict[str, Any]:
    if tool.custom:
        if not preset.chat.openai_models:
            raise InvalidRequest(
                f"tools: {where} has no custom tools ({tool.name}); describe a function.", param="tools"
            )
        custom: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.grammar is not None:
            custom["format"] = tool.grammar
        return {"type": "custom", "custom": custom}
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.schema
    if tool.strict is not None:
        if preset.chat.strict_tools:
            function["strict"] = tool.strict
        elif tool.strict:
            request.drop("strict")
    written: dict[str, Any] = {"type": "function", "function": function}
    if tool.cache is not None:
        if preset.chat.cache_marks:
            ttl = {"ttl": tool.cache.ttl} if tool.cache.ttl else {}
            written["cache_control"] = {"type": "ephemeral", **ttl}
        else:
            request.drop("cache_control")
    return written


def _write_choice(choice: hub.ToolChoice, tools: list[hub.Tool]) -> Any:
    if choice.mode != "named":
        return choice.mode
    custom = {tool.name for tool in tools if tool.custom}
    named: list[dict[str, Any]] = [
        {"type": kind, kind: {"name": name}}
        for name in choice.names
        for kind in ("custom" if name in custom else "function",)
    ]
    if len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}


# -- the shape of the answer -------------------------------------------------------------


def _write_format(request: hub.ChatRequest, preset: Preset, body: dict[str, Any]) -> None:
    wanted, traits = request.output_format, preset.chat
    if wanted is None:
        return
    if wanted.mode == "json_schema" and traits.json_schema:
        schema: dict[str, Any] = {"name": wanted.name, "schema": wanted.schema or {}}
        if wanted.description is not None:
            schema["description"] = wanted.description
        if wanted.strict is not None:
            schema["strict"] = wanted.strict
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return
    if traits.json_object:
        body["response_format"] = {"type": "json_object"}
    elif wanted.mode == "json_object":
        request.drop("output_format")
    if wanted.mode == "json_schema":
        schema_text = msgspec.json.encode(wanted.schema or {}).decode()
        _instruct(
            body["messages"],
            f"Answer with JSON that matches this JSON schema, and nothing else:\n{schema_text}",
        )


def _instruct(messages: list[dict[str, Any]], text: str) -> None:
    """Add to the first system message, or put one first."""
    first = messages[0] if messages else None
    if first is not None and first["role"] in ("system", "developer"):
        if isinstance(first["content"], str):
            first["content"] = f"{first['content']}\n\n{text}"
        else:
            first["content"] = [*first["content"], {"type": "text", "text": text}]
    else:
        messages.insert(0, {"role": "system", "content": text})
