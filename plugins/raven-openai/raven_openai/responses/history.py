"""The hub's turns as items of `input`, in the order in which they were said.

Reasoning goes along only where OpenAI can read it (format "openai", sealed) and where something of the
same turn follows it: an item of reasoning at a turn's end is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .thoughts import belongs_to

__all__ = ["write_input"]


def write_input(messages: Iterable[hub.Message], *, knows_developer: bool = True) -> list[dict[str, Any]]:
    """Write turns as items. Raises InvalidRequest for content that the API does not take."""
    items: list[dict[str, Any]] = []
    custom: set[str] = set()  # ids of calls of custom tools: their outputs have a type of their own
    for index, message in enumerate(messages):
        if message.role == "assistant":
            items += _write_assistant(message, custom)
        elif message.role == "tool":
            items += [
                _write_output(part, part.call_id in custom, f"messages[{index}].content")
                for part in message.parts
                if isinstance(part, hub.ToolResult)
            ]
        else:
            role = "system" if message.role == "developer" and not knows_developer else message.role
            content = _write_content(message.parts, f"messages[{index}].content")
            items.append({"type": "message", "role": role, "content": content})
    return items


def _write_assistant(message: hub.Message, custom: set[str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    thought: hub.Reasoning | None = None
    for part in message.parts:
        if isinstance(part, hub.Reasoning):
            _add_reasoning(items, part, thought)
            thought = part
            continue
        thought = None
        if isinstance(part, hub.ToolCall):
            if part.custom:
                custom.add(part.id)
            items.append(_write_call(part))
        elif isinstance(part, hub.Text | hub.Refusal) and part.text:
            _add_said(items, part)
    while items and items[-1]["type"] == "reasoning":
        items.pop()
    return [item for item in items if item["type"] != "reasoning" or "encrypted_content" in item]


def _add_reasoning(items: list[dict[str, Any]], part: hub.Reasoning, before: hub.Reasoning | None) -> None:
    if part.format != "openai":
        return  # another vendor's, or nobody's: OpenAI cannot check it
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    continues = before is not None and belongs_to(part, before)
    if continues and items and items[-1]["type"] == "reasoning":
        items[-1]["summary"] += summary
    else:
        items.append({"type": "reasoning", "summary": summary})
    sealed = part.data or part.signature
    if sealed is not None:
        items[-1]["encrypted_content"] = sealed
        digest = hashlib.blake2s(sealed.encode("utf-8", "replace"), digest_size=16).hexdigest()
        items[-1]["id"] = part.id or f"rs_{digest}"


def _add_said(items: list[dict[str, Any]], part: hub.Text | hub.Refusal) -> None:
    """Add what the model said. Plain text needs no ids of the vendor's in this form."""
    last = items[-1] if items and items[-1]["type"] == "message" else None
    if isinstance(part, hub.Text):
        if last is not None and isinstance(last["content"], str):
            last["content"] += part.text
        else:
            items.append({"type": "message", "role": "assistant", "content": part.text})
        return
    content = [{"type": "refusal", "refusal": part.text}]
    items.append({"type": "message", "role": "assistant", "content": content})


def _write_call(part: hub.ToolCall) -> dict[str, Any]:
    if part.custom:
        return {
            "type": "custom_tool_call",
            "call_id": part.id,
            "name": part.name,
            "input": part.arguments,
        }
    return {
        "type": "function_call",
        "call_id": part.id,
        "name": part.name,
        "arguments": part.arguments or "{}",
    }


def _write_output(part: hub.ToolResult, custom: bool, where: str) -> dict[str, Any]:
    output: Any
    if all(isinstance(one, hub.Text) for one in part.content):
        output = "".join([one.text for one in part.content])
        if part.is_error:
            output = f"Error: {output}"
    else:
        output = _write_content(part.content, where)
        if part.is_error:
            output.insert(0, {"type": "input_text", "text": "Error:"})
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return {"type": kind, "call_id": part.call_id, "output": output}


def _write_content(parts: Iterable[Any], where: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, hub.Text | hub.Refusal):
            content.append({"type": "input_text", "text": part.text})
        elif isinstance(part, hub.Image):
            content.append(_write_image(part))
        elif isinstance(part, hub.File):
            content.append(_write_file(part))
        elif isinstance(part, hub.Audio):
            raise InvalidRequest(
                f"{where}: the Responses API takes no sound; send its transcript as text.", param=where
            )
    return content


def _write_image(part: hub.Image) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "input_image", "detail": part.detail or "auto"}
    if part.media.file_id is not None:
        return made | {"file_id": part.media.file_id}
    return made | {"image_url": hub.make_data_url(part.media, "image/png")}


def _write_file(part: hub.File) -> dict[str, Any]:
    media = part.media
    if part.text is not None:
        return {"type": "input_text", "text": part.text}
    if media.file_id is not None:
        return {"type": "input_file", "file_id": media.file_id}
    if media.url is not None:
        return {"type": "input_file", "file_url": media.url}
    data = hub.make_data_url(media, "application/pdf")
    return {"type": "input_file", "filename": part.filename or "document.pdf", "file_data": data}
