"""The client's functions and how they may be called, as Google's `tools` and `toolConfig`."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest, Tool, ToolChoice

from .models import Traits
from .schemas import to_openapi

__all__ = ["write_tool_config", "write_tools"]

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}

Json = dict[str, Any]


def write_tools(request: ChatRequest, traits: Traits) -> list[Json]:
    """Write `tools`. Raises InvalidRequest for tools that Google does not have."""
    is_searching = request.web_search is not None
    for index, found in enumerate(request.server_tools):
        kind = str(found.get("type") or found.get("name") or "?")[:100]
        if not kind.startswith("web_search"):
            raise InvalidRequest(
                f"tools[{index}].type: {kind!r} runs at another vendor only. "
                "Leave it out, or choose a model of that vendor.",
                param=f"tools[{index}].type",
            )
        is_searching = True
    tools: list[Json] = []
    if request.tools:
        written = [_declare(tool, index, traits) for index, tool in enumerate(request.tools)]
        tools.append({"functionDeclarations": written})
        if any(tool.strict for tool in request.tools):
            request.drop("strict")
        if request.parallel_tool_calls is False:
            request.drop("parallel_tool_calls")
    if is_searching:
        tools.append({"googleSearch": {}})
        if request.web_search:  # where and how much to search cannot be said
            request.drop("web_search")
    return tools


def write_tool_config(choice: ToolChoice | None) -> Json | None:
    """Write `toolConfig`; None where the client left the choice to the model."""
    if choice is None:
        return None
    config: Json = {"mode": _MODES[choice.mode]}
    if choice.mode == "named":
        config["allowedFunctionNames"] = choice.names
    return {"functionCallingConfig": config}


def _declare(tool: Tool, index: int, traits: Traits) -> Json:
    declaration: Json = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    schema = _text_schema(tool) if tool.custom else tool.schema
    if _has_arguments(schema):
        if traits.json_schema:
            declaration["parametersJsonSchema"] = schema
        else:
            declaration["parameters"] = to_openapi(schema, param=f"tools[{index}]")
    return declaration


def _text_schema(tool: Tool) -> Json:
    """Make a function of a tool that takes free text; the reader takes the text out of it again."""
    about = "The whole input, as plain text."
    if tool.grammar is not None:
        about += f" It must match this grammar: {msgspec.json.encode(tool.grammar).decode()}"
    text = {"type": "string", "description": about}
    return {"type": "object", "properties": {"input": text}, "required": ["input"]}


def _has_arguments(schema: Json) -> bool:
    """Google refuses an object without properties; no parameters at all mean the same."""
    return schema.get("type") != "object" or bool(schema.get("properties")) or "$ref" in schema
