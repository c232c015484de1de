"""Anthropic's whole replies, read into the hub, and what a reader has to know of the request.

Tools that ran at the vendor (`server_tool_use` and their results) stay the vendor's: they are never
shown as calls for the client to answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import UpstreamError
from raven_proxy.hub import ChatReply, Choice, Part
from raven_proxy.refusals import scrub

from .citations import read_citation
from .content import FAMILY
from .errors import status_of
from .finish import finish_of
from .usage import parse_usage, read_usage

__all__ = ["Reading", "read_part", "read_reply", "unwrap_custom"]


class Reading(msgspec.Struct):
    """How the reply to one request is read.

    `json_tool` is the tool whose input is the answer itself: the gateway's way to get JSON of a model
    that cannot be asked for it. `custom` are tools that take free text.
    """

    json_tool: str | None = None
    custom: frozenset[str] = frozenset()


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None


class _Reply(msgspec.Struct):
    type: str | None = None
    id: str = ""
    model: str = ""
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Any = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Reply).decode


def read_reply(body: bytes, reading: Reading) -> ChatReply:
    """Read a message. Raises UpstreamError for an error under a status of 200, ValueError for no message."""
    wire = _decode(body)
    if wire.type == "error" or (wire.content is None and wire.error is not None):
        error = wire.error or _Error("The provider reported an error.")
        raise UpstreamError(scrub(error.message)[:2048], status=status_of(error.type) or 502)
    if wire.content is None:
        raise ValueError("a message has content")
    parts = [part for block in wire.content if (part := read_part(block, reading)) is not None]
    has_json = reading.json_tool is not None and any(
        block.get("type") == "tool_use" and block.get("name") == reading.json_tool for block in wire.content
    )
    if has_json:  # what is said around the JSON would spoil it
        parts = [part for part in parts if type(part) is not hub.Text]
        parts += [hub.Text(text=text) for text in _json_texts(wire.content, reading)]
    has_calls = any(type(part) is hub.ToolCall for part in parts)
    choice = Choice(
        parts=parts,
        finish=finish_of(wire.stop_reason, has_calls=has_calls, has_json=has_json),
        native_finish=wire.stop_reason,
        stop_sequence=wire.stop_sequence,
    )
    usage = parse_usage(wire.usage) if wire.usage is not None else None
    return ChatReply(
        id=wire.id,
        model=wire.model,
        choices=[choice],
        usage=read_usage(usage) if usage is not None else None,
        service_tier=usage.service_tier if usage is not None else None,
    )


def read_part(block: dict[str, Any], reading: Reading) -> Part | None:
    """Read one whole content block; None for what says nothing to any client."""
    kind = block.get("type")
    if kind == "text":
        text = _text(block, "text")
        citations = [one for one in block.get("citations") or () if isinstance(one, dict)]
        return hub.Text(text=text, annotations=[read_citation(one, len(text)) for one in citations])
    if kind == "thinking":
        signature = _text(block, "signature") or None
        return hub.Reasoning(text=_text(block, "thinking"), signature=signature, format="anthropic")
    if kind == "redacted_thinking":
        return hub.Reasoning(kind="encrypted", data=_text(block, "data"), format="anthropic")
    if kind == "tool_use":
        name = _text(block, "name")
        if name == reading.json_tool:
            return None
        arguments = _encode(block.get("input"))
        if name in reading.custom:
            return hub.ToolCall(
                id=_text(block, "id"), name=name, arguments=unwrap_custom(arguments), custom=True
            )
        return hub.ToolCall(id=_text(block, "id"), name=name, arguments=arguments)
    return hub.ServerTool(native=block, dialect=FAMILY)


def unwrap_custom(arguments: str) -> str:
    """Take the free text out of a custom tool's arguments; what has another shape stays as it is."""
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def _json_texts(content: list[dict[str, Any]], reading: Reading) -> list[str]:
    return [_encode(block.get("input")) for block in content if block.get("name") == reading.json_tool][:1]


def _encode(value: Any) -> str:
    return msgspec.json.encode(value if value is not None else {}).decode()


def _text(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""
