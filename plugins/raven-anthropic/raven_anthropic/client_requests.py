"""A client's Messages request, read into the hub.

Tool results become messages of their own, in front of what else their turn says. What the hub has no
field for is kept in `extra`, for hosts of the same dialect, and named in `dropped` for all others.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange
from raven_proxy.hub import ChatRequest, Message

from .blocks import BlockReader, decode, read_cache
from .content import FAMILY
from .shapes import Format, Request, Thinking, Tool

__all__ = ["read_request"]

_NAMES = {
    "stop": "stop_sequences",
    "output_format": "output_config.format",
    "user": "metadata.user_id",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "server_tools": "tools",
}
_READ = frozenset(Request.__struct_fields__) | {"model", "stream"}
_TIERS = {"standard_only": "default"}
_decode_request = msgspec.json.Decoder(Request)
_decode_tool = msgspec.json.Decoder(Tool)
_decode_any = msgspec.json.Decoder()
_decode_native = msgspec.json.Decoder(dict[str, Any])


def read_request(exchange: Exchange) -> ChatRequest:
    """Read `exchange.body`. Raises InvalidRequest with `param`."""
    body, call = exchange.body, exchange.call
    wire = decode(_decode_request, body, "")
    reader = BlockReader()
    candidate = exchange.candidate
    model = candidate.model if candidate is not None else None
    request = ChatRequest(
        model=model or call.model or "",
        messages=_messages(wire, reader),
        stream=call.stream,
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        stop=wire.stop_sequences or [],
        service_tier=_TIERS.get(wire.service_tier or "", wire.service_tier),
        family=FAMILY,
        names=_NAMES,
        dropped=reader.dropped,
    )
    _read_tools(wire, request)
    _read_thinking(wire, request)
    _read_format(wire, request)
    for name, value in (wire.metadata or {}).items():
        if name == "user_id" and isinstance(value, str):
            request.user = value
        elif value is not None:
            request.drop(f"metadata.{name}")
    for name, (start, end) in call.members.items():
        if name not in _READ and body[start:end] != b"null":
            request.extra[name] = decode(_decode_any, body[start:end], name)
            request.drop(name)
    return request


def _messages(wire: Request, reader: BlockReader) -> list[Message]:
    messages: list[Message] = []
    if wire.system is not None:
        messages.append(Message(role="system", parts=reader.read_all(wire.system, "system")))
    for index, turn in enumerate(wire.messages):
        parts = reader.read_all(turn.content, f"messages[{index}].content")
        if turn.role == "user":
            results = [part for part in parts if isinstance(part, hub.ToolResult)]
            messages += [Message(role="tool", parts=[result]) for result in results]
            parts = [part for part in parts if not isinstance(part, hub.ToolResult)]
            if not parts and results:
                continue
        messages.append(Message(role=turn.role, parts=parts))
    return messages


def _read_tools(wire: Request, request: ChatRequest) -> None:
    for index, raw in enumerate(wire.tools or ()):
        place = f"tools[{index}]"
        tool = decode(_decode_tool, raw, place)
        if tool.type not in (None, "custom"):
            request.server_tools.append(decode(_decode_native, raw, place))
            continue
        if not tool.name:
            raise InvalidRequest(f"{place}.name: it is missing. Name the tool.", param=f"{place}.name")
        if tool.input_schema is None:
            raise InvalidRequest(
                f"{place}.input_schema: it is missing. Send a JSON schema of type object.",
                param=f"{place}.input_schema",
            )
        made = hub.Tool(name=tool.name, description=tool.description, strict=tool.strict)
        made.schema = tool.input_schema or made.schema
        made.cache = read_cache(tool.cache_control)
        request.tools.append(made)
        for name in ("defer_loading", "allowed_callers", "input_examples"):
            if getattr(tool, name):
                request.drop(f"{place}.{name}")
    choice = wire.tool_choice
    if choice is None:
        return
    if choice.type == "tool":
        if choice.name is None:
            raise InvalidRequest("tool_choice.name: it is missing. Name the tool.", param="tool_choice.name")
        request.tool_choice = hub.ToolChoice(mode="named", names=[choice.name])
    elif choice.type == "any":
        request.tool_choice = hub.ToolChoice(mode="required")
    else:
        request.tool_choice = hub.ToolChoice(mode=choice.type)
    if choice.disable_parallel_tool_use:
        request.parallel_tool_calls = False


def _read_thinking(wire: Request, request: ChatRequest) -> None:
    effort = wire.output_config.effort if wire.output_config is not None else None
    if wire.thinking is None and effort is None:
        return
    wish = wire.thinking or Thinking(type="")
    request.thinking = hub.Thinking(effort=effort, budget_tokens=wish.budget_tokens)
    if wish.type == "disabled":
        request.thinking.enabled = False
    elif wish.type:
        request.thinking.enabled = True
        request.thinking.adaptive = wish.type == "adaptive"
    if wish.display is not None:
        request.thinking.include = wish.display != "omitted"


def _read_format(wire: Request, request: ChatRequest) -> None:
    found: Format | None = wire.output_config.format if wire.output_config is not None else None
    found = found or wire.output_format
    if found is not None and found.type == "json_schema":
        request.output_format = hub.OutputFormat(mode="json_schema", schema=found.schema, strict=True)
