"""The turns of a chat in Ollama's shape, written from the hub's messages.

A turn is one text with images beside it. Source: Ollama's API documentation, /api/chat.
"""

from __future__ import annotations

from typing import Any

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
    find_call_names,
    parse_arguments,
    read_text,
)

__all__ = ["write_messages"]

_Json = dict[str, Any]


def write_messages(request: ChatRequest) -> list[_Json]:
    """Give Ollama's messages.

    Raises InvalidRequest for sound, for documents that are no text, and for images that are no bytes.
    """
    turns: list[_Json] = []
    names = find_call_names(request.messages)
    pictures: list[str] = []  # of tool results: models look at users' alone
    for message in request.messages:
        if pictures and message.role != "tool":
            turns.append({"role": "user", "content": "", "images": pictures})
            pictures = []
        _note_lost(message, request)
        if message.role == "tool":
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            turns += [_write_result(result, names, pictures) for result in results]
        elif message.role == "assistant":
            turns.append(_write_assistant(message))
        else:
            images: list[str] = []
            content = "\n".join(_texts(message.parts, images))
            role = "user" if message.role == "user" else "system"
            turns.append({"role": role, "content": content} | ({"images": images} if images else {}))
    if pictures:
        turns.append({"role": "user", "content": "", "images": pictures})
    return turns


def _note_lost(message: Message, request: ChatRequest) -> None:
    if message.name is not None:
        request.drop("messages[].name")
    if any(getattr(part, "cache", None) is not None for part in message.parts):
        request.drop("cache_control")


def _texts(parts: list[Part], images: list[str]) -> list[str]:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text | Refusal):
            texts.append(part.text)
        elif isinstance(part, Image):
            images.append(_write_image(part))
        elif isinstance(part, File):
            texts.append(_write_document(part))
        elif not isinstance(part, ServerTool):
            raise InvalidRequest(
                "messages: Ollama takes texts, images and documents; leave sound out.", param="messages"
            )
    return texts


def _write_assistant(message: Message) -> _Json:
    turn: _Json = {"role": "assistant", "content": ""}
    thinking: list[str] = []
    calls: list[_Json] = []
    for part in message.parts:
        if isinstance(part, Reasoning) and part.text:
            thinking.append(part.text)
        elif isinstance(part, ToolCall):
            arguments = {"input": part.arguments} if part.custom else parse_arguments(part.arguments)
            calls.append({"id": part.id, "function": {"name": part.name, "arguments": arguments}})
        elif isinstance(part, Text | Refusal):
            turn["content"] += part.text
    if thinking:
        turn["thinking"] = "\n".join(thinking)
    if calls:
        turn["tool_calls"] = calls
    return turn


def _write_result(result: ToolResult, names: dict[str, str], pictures: list[str]) -> _Json:
    content = "\n".join(_texts(result.content, pictures))
    turn: _Json = {
        "role": "tool",
        "content": f"Error: {content}" if result.is_error else content,
        "tool_call_id": result.call_id,
    }
    name = result.name or names.get(result.call_id)
    return turn | ({"tool_name": name} if name else {})


def _write_image(image: Image) -> str:
    if image.media.data is None:
        raise InvalidRequest(
            "messages: Ollama takes images as bytes alone; send a data: URL (or have the operator set "
            "options.fetch_images).",
            param="messages",
        )
    return image.media.data


def _write_document(file: File) -> str:
    text = read_text(file)
    if text is None:
        raise InvalidRequest(
            "messages: Ollama takes documents as text alone; send the document's text.", param="messages"
        )
    return f"{file.filename}\n{text}" if file.filename else text
