"""A client's chat completion request → the hub's. Messages are read in `turns`."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_openai.calls import REMEDIES
from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange
from raven_proxy.judging import judge

from . import shapes
from .turns import mark, read_turns

__all__ = ["read_chat_request"]

_decode = msgspec.json.Decoder(shapes.Body).decode
_KNOWN = frozenset(shapes.Body.__struct_fields__)
_PLAIN = (
    "temperature top_p top_k n seed presence_penalty frequency_penalty logit_bias logprobs top_logprobs "
    "parallel_tool_calls verbosity user metadata service_tier store prompt_cache_key safety_identifier "
    "modalities audio prediction"
).split()
_BUILT_IN = {"web_search": "web_search_options", "output_format": "response_format"}


def read_chat_request(exchange: Exchange) -> hub.ChatRequest:
    """Read `exchange.body`. Raises InvalidRequest whose `param` says where."""
    body = judge(_decode, exchange.body, REMEDIES)
    candidate = exchange.candidate
    model = candidate.model if candidate is not None and candidate.model is not None else body.model
    request = hub.ChatRequest(
        model=model,
        messages=read_turns(body.messages),
        stream=body.stream is True,
        max_tokens=body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens,
        stop=_read_stop(body.stop),
        output_format=_read_format(body.response_format),
        web_search=body.web_search_options,
        family="openai.chat",
    )
    for name in _PLAIN:
        setattr(request, name, getattr(body, name))
    request.names = dict(_BUILT_IN)
    if body.max_completion_tokens is not None:
        request.names["max_tokens"] = "max_completion_tokens"
    _read_tools(body, request)
    _read_tool_choice(body, request)
    request.thinking = _read_thinking(body, request.names)
    _read_extra(exchange, request)
    return request


def _read_extra(exchange: Exchange, request: hub.ChatRequest) -> None:
    """Keep what nobody here knows for a vendor of the same family; for others it counts as dropped."""
    for name in exchange.call.members.keys() - _KNOWN:
        start, end = exchange.call.members[name]
        value = exchange.body[start:end]
        if value != b"null":
            request.extra[name] = msgspec.json.decode(value)
            request.dropped.append(name)
    request.dropped.sort()


def _read_stop(stop: str | list[str] | None) -> list[str]:
    words = [stop] if isinstance(stop, str) else stop or []
    return [word for word in words if word]


def _read_format(wanted: shapes.ResponseFormat | None) -> hub.OutputFormat | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return hub.OutputFormat(mode="json_object")
    found = wanted.json_schema
    if found is None or found.schema is None:
        param = "response_format.json_schema" + (".schema" if found is not None else "")
        raise InvalidRequest(f"{param}: it is missing. Send the schema.", param=param)
    return hub.OutputFormat(
        mode="json_schema",
        name=found.name or "response",
        schema=found.schema,
        description=found.description,
        strict=found.strict,
    )


# -- tools ---------------------------------------------------------------------------


def _read_tools(body: shapes.Body, request: hub.ChatRequest) -> None:
    for index, raw in enumerate(body.tools or ()):
        place = f"tools[{index}]"
        kind = raw.get("type", "function" if "function" in raw else None)
        if kind not in ("function", "custom"):
            request.server_tools.append(raw)
            continue
        item = judge_at(raw, shapes.ToolItem, place)
        cache = mark(item.cache_control)
        if kind == "function" and item.function is not None:
            request.tools.append(_make_tool(item.function, cache))
        elif kind == "custom" and item.custom is not None:
            custom = item.custom
            request.tools.append(
                hub.Tool(
                    name=custom.name,
                    description=custom.description,
                    custom=True,
                    grammar=custom.format,
                    cache=cache,
                )
            )
        else:
            raise InvalidRequest(
                f"{place}.{kind}: it is missing. Describe the tool.", param=f"{place}.{kind}"
            )
    if body.functions and not body.tools:
        request.tools = [_make_tool(function, None) for function in body.functions]
        request.names |= {"tools": "functions", "tool_choice": "function_call"}


def _make_tool(function: Any, cache: hub.CacheMark | None) -> hub.Tool:
    tool = hub.Tool(
        name=function.name,
        description=function.description,
        strict=function.strict,
        cache=cache or mark(function.cache_control),
    )
    if function.parameters:
        tool.schema = function.parameters
    return tool


def judge_at(raw: Any, kind: type[Any], place: str) -> Any:
    """Convert decoded JSON to a Struct, or raise InvalidRequest with `param` under `place`."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        param = place + path.rstrip("`")
        raise InvalidRequest(
            f"{param}: {what[:1].lower()}{what[1:200]}. Correct it or leave it out.", param=param
        ) from None


def _read_tool_choice(body: shapes.Body, request: hub.ChatRequest) -> None:
    choice = body.tool_choice
    if choice is None:
        old = body.function_call
        if old is None:
            return
        if isinstance(old, str):
            request.tool_choice = hub.ToolChoice(mode=old)
        else:
            request.tool_choice = hub.ToolChoice(mode="named", names=[old.name])
    elif isinstance(choice, str):
        request.tool_choice = hub.ToolChoice(mode="required" if choice == "any" else choice)
    elif choice.allowed_tools is not None:
        names = [_name_of(tool, "tool_choice.allowed_tools") for tool in choice.allowed_tools.tools]
        if choice.allowed_tools.mode == "required":
            request.tool_choice = hub.ToolChoice(mode="named", names=names)
        else:  # no other dialect can say so, but fewer tools mean the same
            request.tools = [tool for tool in request.tools if tool.name in names]
            request.tool_choice = hub.ToolChoice(mode="auto")
    else:
        request.tool_choice = hub.ToolChoice(mode="named", names=[_name_of(choice, "tool_choice")])


def _name_of(choice: shapes.ForcedTool, place: str) -> str:
    found = choice.function or choice.custom
    if found is None:
        raise InvalidRequest(f"{place}: name a function.", param=place)
    return found.name


# -- thinking ------------------------------------------------------------------------


def _read_thinking(body: shapes.Body, names: dict[str, str]) -> hub.Thinking | None:
    """Put the three ways of asking for thought together; what is said twice, the plainer one says."""
    wanted = hub.Thinking()
    if body.thinking is not None:
        names["thinking"] = "thinking"
        wanted.enabled = body.thinking.type != "disabled"
        wanted.adaptive = body.thinking.type == "adaptive"
        wanted.budget_tokens = body.thinking.budget_tokens
    if body.include_reasoning is not None:
        names["thinking"] = "include_reasoning"
        wanted.include = body.include_reasoning
    if (reasoning := body.reasoning) is not None:
        names["thinking"] = "reasoning"
        wanted.effort = reasoning.effort
        wanted.summary = reasoning.summary
        if reasoning.max_tokens is not None:
            wanted.budget_tokens = reasoning.max_tokens
        if reasoning.enabled is not None:
            wanted.enabled = reasoning.enabled
        if reasoning.exclude is not None:
            wanted.include = not reasoning.exclude
    if body.reasoning_effort is not None and body.reasoning_effort != "default":
        names["thinking"] = "reasoning_effort"
        wanted.effort = body.reasoning_effort
    if wanted.effort == "none":
        wanted.enabled = False
    elif wanted.enabled is None and (wanted.effort is not None or wanted.budget_tokens):
        wanted.enabled = True
    return wanted if wanted != hub.Thinking() else None
