"""The turns of a chat in Cohere's v2 shape, written from the hub's messages.

Text, images, thinking, tool calls and their results have a place in the turns; texts of documents go to
the request's `documents`, where Cohere can cite them. Source: Cohere's API reference, v2/chat.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import (
    ChatRequest,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    ServerTool,
    Text,
    ToolCall,
    ToolResult,
    make_data_url,
    parse_arguments,
    read_text,
)

__all__ = ["write_messages"]

_Json = dict[str, Any]


def write_messages(request: ChatRequest) -> tuple[list[_Json], list[_Json]]:
    """Give Cohere's messages, and the documents that stood in them.

    Raises InvalidRequest for sound, for documents that are no text, and for files by id.
    """
    turns: list[_Json] = []
    documents: list[_Json] = []
    pictures: list[_Json] = []  # of tool results: Cohere takes them from users alone
    for message in request.messages:
        if pictures and message.role != "tool":
            turns.append({"role": "user", "content": pictures})
            pictures = []
        if message.name is not None:
            request.drop("messages[].name")
        if any(getattr(part, "cache", None) is not None for part in message.parts):
            request.drop("cache_control")
        if message.role == "tool":
            turns += _write_results(message, pictures)
        elif message.role == "assistant":
            turn = _write_assistant(message)
            if turn is not None:
                turns.append(turn)
        else:
            role = "user" if message.role == "user" else "system"
            turns.append({"role": role, "content": _write_content(message.parts, documents)})
    if pictures:
        turns.append({"role": "user", "content": pictures})
    return turns, documents


def _write_content(parts: Iterable[Part], documents: list[_Json]) -> str | list[_Json]:
    blocks: list[_Json] = []
    for part in parts:
        if isinstance(part, Text | Refusal):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            blocks.append(_write_image(part))
        elif isinstance(part, File):
            documents.append(_write_document(part))
        elif isinstance(part, ServerTool):
            continue
        else:
            raise InvalidRequest(
                "messages: Cohere takes texts, images and documents; leave sound out.", param="messages"
            )
    return _shorten(blocks)


def _write_assistant(message: Message) -> _Json | None:
    """Give the turn; None where nothing was said, which Cohere refuses."""
    turn: _Json = {"role": "assistant"}
    blocks: list[_Json] = []
    calls: list[_Json] = []
    plans: list[str] = []
    has_calls = any(isinstance(part, ToolCall) for part in message.parts)
    for part in message.parts:
        if isinstance(part, Reasoning) and part.text:
            # Beside calls every model takes a plan; blocks of thinking are for reasoning models alone.
            if has_calls:
                plans.append(part.text)
            else:
                blocks.append({"type": "thinking", "thinking": part.text})
        elif isinstance(part, Text | Refusal) and part.text:
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, ToolCall):
            calls.append(_write_call(part))
    if not blocks and not calls:
        return None
    if blocks:
        turn["content"] = _shorten(blocks)
    if plans:
        turn["tool_plan"] = "\n".join(plans)
    if calls:
        turn["tool_calls"] = calls
    return turn


def _write_call(call: ToolCall) -> _Json:
    if call.custom:
        arguments = msgspec.json.encode({"input": call.arguments}).decode()
    elif call.arguments.startswith("{") and _is_object(call.arguments):
        arguments = call.arguments
    else:
        arguments = msgspec.json.encode(parse_arguments(call.arguments)).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _write_results(message: Message, pictures: list[_Json]) -> list[_Json]:
    return [_write_result(part, pictures) for part in message.parts if isinstance(part, ToolResult)]


def _write_result(result: ToolResult, pictures: list[_Json]) -> _Json:
    blocks: list[_Json] = []
    for part in result.content:
        if isinstance(part, Text):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, File):
            blocks.append({"type": "document", "document": _write_document(part)})
        elif isinstance(part, Image):
            pictures.append(_write_image(part))
    if result.is_error:  # there is no flag for it
        blocks.insert(0, {"type": "text", "text": "Error:"})
    return {"role": "tool", "tool_call_id": result.call_id, "content": _shorten(blocks)}


def _shorten(blocks: list[_Json]) -> str | list[_Json]:
    """Write a single text, or nothing, as a string: every model takes that."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks


def _write_image(image: Image) -> _Json:
    media = image.media
    if media.file_id is not None or (media.url is not None and not media.url.startswith("http")):
        raise InvalidRequest(
            "messages: Cohere takes images as http(s) links or data: URLs; send one of these.",
            param="messages",
        )
    found: _Json = {"url": make_data_url(media, "image/png")}
    if image.detail in ("low", "high", "auto"):
        found["detail"] = image.detail
    return {"type": "image_url", "image_url": found}


def _write_document(file: File) -> _Json:
    text = read_text(file)
    if text is None:
        raise InvalidRequest(
            "messages: Cohere takes documents as text alone; send the document's text.", param="messages"
        )
    data: _Json = {"title": file.filename} if file.filename else {}
    return {"data": data | {"text": text}}
