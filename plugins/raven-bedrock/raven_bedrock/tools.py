"""Writes tools, the choice among them, and the shape of the answer for Converse.

Converse has no tool choice "none" and no switch for parallel calls; where a model has no JSON schema of its
own for answers, a tool that it must call stands for it, and `replies` undoes that.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .contents import Blocks
from .models import Model

__all__ = ["ToolPlan", "plan_tools"]

_STUB: dict[str, Any] = {
    "toolSpec": {
        "name": "unavailable",
        "description": "This tool does not work. Do not call it.",
        "inputSchema": {"json": {"type": "object", "properties": {}}},
    }
}


class ToolPlan(msgspec.Struct):
    """What the request says about tools. `fields` go into `additionalModelRequestFields`.

    `forces` says that some tool must be called, which does not go with thinking. `instruction` is one
    more system text.
    """

    config: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    fields: dict[str, Any] = {}
    json_tool: str | None = None
    forces: bool = False
    instruction: str | None = None


def plan_tools(request: hub.ChatRequest, model: Model, blocks: Blocks) -> ToolPlan:
    """Decide all of it. Raises InvalidRequest for tools that have no equivalent."""
    plan = ToolPlan()
    choice = request.tool_choice
    offered = request.tools if choice is None or choice.mode != "none" else []
    if choice is not None and choice.mode == "named" and len(choice.names) > 1:
        offered = [tool for tool in offered if tool.name in choice.names] or offered
    tools: list[dict[str, Any]] = []
    for tool in offered:
        tools += [_write_tool(tool, request, model), *_cache(tool, blocks, model, request)]
    for index, native in enumerate(request.server_tools):
        tools.append(_write_server_tool(native, index))
    word = _choose(request, offered)
    shape = request.output_format
    if shape is not None and shape.mode == "json_schema" and shape.schema is not None:
        if model.takes_json_schema:
            plan.output = _text_format(shape)
        else:
            plan.json_tool = _free_name({tool.name for tool in offered})
            tools.append(_json_tool(plan.json_tool, shape))
            alone = len(tools) == 1
            word = {"tool": {"name": plan.json_tool}} if alone and _takes_named(model) else {"any": {}}
    elif shape is not None:
        plan.instruction = "Answer with one JSON object and nothing else: no code fence, no other text."
    if not tools:
        plan.config = {"tools": [_STUB]} if _has_tool_turns(request) else None
        return plan
    plan.forces = word is not None and "auto" not in word
    plan.config = {"tools": tools}
    if request.parallel_tool_calls is False:
        word = _one_at_a_time(request, model, word, plan)
    if word is not None:
        plan.config["toolChoice"] = word
    return plan


def _write_tool(tool: hub.Tool, request: hub.ChatRequest, model: Model) -> dict[str, Any]:
    if tool.custom:
        raise InvalidRequest(
            f"tools: {tool.name!r} takes free text, which Bedrock has not; give it a JSON schema.",
            param="tools",
        )
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description and tool.description.strip():
        spec["description"] = tool.description
    schema = tool.schema if "type" in tool.schema else {"type": "object", **tool.schema}
    spec["inputSchema"] = {"json": schema}
    if tool.strict and model.takes_json_schema:
        spec["strict"] = True
    elif tool.strict:
        request.drop("strict")
    return {"toolSpec": spec}


def _cache(tool: hub.Tool, blocks: Blocks, model: Model, request: hub.ChatRequest) -> list[dict[str, Any]]:
    if tool.cache is not None and not model.is_claude:  # Nova caches messages and system texts only
        request.drop("cache_control")
        return []
    return blocks.cache_point(tool.cache)


def _write_server_tool(native: dict[str, Any], index: int) -> dict[str, Any]:
    if isinstance(native.get("systemTool"), dict):  # Amazon's own
        return {"systemTool": native["systemTool"]}
    name = native.get("name") or native.get("type") or "?"
    where = f"tools[{index}]"
    raise InvalidRequest(
        f"{where}: {name!r} is a tool that runs at another vendor; Bedrock does not have it.", param=where
    )


def _choose(request: hub.ChatRequest, offered: list[hub.Tool]) -> dict[str, Any] | None:
    choice = request.tool_choice
    if choice is None or choice.mode == "none" or not (offered or request.server_tools):
        return None
    if choice.mode == "named":
        return {"tool": {"name": choice.names[0]}} if len(choice.names) == 1 else {"any": {}}
    return {"any": {}} if choice.mode == "required" else {"auto": {}}


def _one_at_a_time(
    request: hub.ChatRequest, model: Model, word: dict[str, Any] | None, plan: ToolPlan
) -> dict[str, Any] | None:
    """Say that calls must come one by one; Claude alone can be told, in Anthropic's own words."""
    if plan.json_tool is not None:
        return word
    if not model.is_claude or model.version < (4, 5):
        request.drop("parallel_tool_calls")
        return word
    kind, named = next(iter((word or {"auto": {}}).items()))
    plan.fields["tool_choice"] = {"type": kind, "disable_parallel_tool_use": True, **named}
    return None


def _text_format(shape: hub.OutputFormat) -> dict[str, Any]:
    schema: dict[str, Any] = {"schema": msgspec.json.encode(shape.schema).decode()}
    if shape.name:
        schema["name"] = shape.name
    if shape.description:
        schema["description"] = shape.description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _json_tool(name: str, shape: hub.OutputFormat) -> dict[str, Any]:
    schema = shape.schema or {}
    return {
        "toolSpec": {
            "name": name,
            "description": shape.description or "Give the answer by calling this tool.",
            "inputSchema": {"json": schema if "type" in schema else {"type": "object", **schema}},
        }
    }


def _takes_named(model: Model) -> bool:
    return model.is_claude or model.is_nova


def _free_name(taken: set[str]) -> str:
    name = "json"
    while name in taken:
        name += "_answer"
    return name


def _has_tool_turns(request: hub.ChatRequest) -> bool:
    return any(
        isinstance(part, hub.ToolCall | hub.ToolResult)
        for message in request.messages
        for part in message.parts
    )
