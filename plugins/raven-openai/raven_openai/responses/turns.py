"""The items of `input` as turns of the hub.

What the model said in one go (reasoning, text, calls) is one assistant message, each call's output a
`tool` message. What OpenAI's own tools did is left out: what the model said of it stands in its text.
Items whose meaning only OpenAI knows are refused with a remedy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .asked import Item, Part
from .thoughts import read_reasoning
from .tools import Toolbox

__all__ = ["read_content", "read_turns"]

# What OpenAI's own tools did; and tools that came with the input, which `requests` has read.
_LEFT_OUT = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call mcp_list_tools mcp_call "
    "tool_search_call tool_search_output additional_tools".split()
)


def read_turns(items: list[Item], box: Toolbox) -> list[hub.Message]:
    """Read items in order. Raises InvalidRequest that names the item (`input[3]`) and what to do."""
    turns: list[hub.Message] = []
    for index, item in enumerate(items):
        where = f"input[{index}]"
        kind = item.type or ("message" if item.role is not None else "item_reference")
        if kind == "message":
            _add_message(turns, item, where)
        elif kind in ("function_call", "custom_tool_call"):
            _assistant(turns).parts.append(_read_call(item, kind == "custom_tool_call", where, box))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            turns.append(hub.Message(role="tool", parts=[_read_output(item, where)]))
        elif kind == "reasoning":
            _assistant(turns).parts += read_reasoning(item, where)
        elif kind not in _LEFT_OUT:
            raise _refuse(kind, item, where)
    return [turn for turn in turns if turn.parts]


def _assistant(turns: list[hub.Message]) -> hub.Message:
    if not turns or turns[-1].role != "assistant":
        turns.append(hub.Message(role="assistant"))
    return turns[-1]


def _add_message(turns: list[hub.Message], item: Item, where: str) -> None:
    role: Any = item.role
    if role not in ("user", "assistant", "system", "developer"):
        raise InvalidRequest(
            f"{where}.role: use one of user, assistant, system or developer.", param=f"{where}.role"
        )
    if item.content is None:
        raise InvalidRequest(
            f"{where}.content: it is missing. Send a string or an array of content parts.",
            param=f"{where}.content",
        )
    parts = read_content(item.content, f"{where}.content")
    if role == "assistant":
        _assistant(turns).parts += parts
    else:
        turns.append(hub.Message(role=role, parts=parts))


def read_content(content: str | list[Part], where: str) -> list[Any]:
    """Read a message's content, or a call's output, into parts of the hub."""
    if isinstance(content, str):
        return [hub.Text(text=content)] if content else []
    return [
        _read_part(part, f"{where}[{index}]")
        for index, part in enumerate(content)
        if part.text != "" or part.type not in ("input_text", "output_text", "text")
    ]


def _read_part(part: Part, where: str) -> hub.Part:
    cache = hub.CacheMark() if part.prompt_cache_breakpoint is not None else None
    kind = part.type
    if kind in ("input_text", "output_text", "text"):
        return hub.Text(text=_need(part.text, f"{where}.text"), cache=cache)
    if kind == "refusal":
        return hub.Refusal(text=_need(part.refusal, f"{where}.refusal"))
    if kind == "input_image":
        return hub.Image(media=_read_image(part, where), detail=part.detail, cache=cache)
    if kind == "input_file":
        return hub.File(media=_read_file(part, where), filename=part.filename, cache=cache)
    if kind == "input_audio":
        sound = part.input_audio or {}
        data, form = sound.get("data"), sound.get("format")
        return hub.Audio(
            media=hub.Media(data=_need(data, f"{where}.input_audio.data")),
            format=form if isinstance(form, str) else None,
        )
    raise InvalidRequest(
        f"{where}.type: {kind!r} is not known here. "
        "Use input_text, input_image, input_file, input_audio, output_text or refusal.",
        param=f"{where}.type",
    )


def _read_image(part: Part, where: str) -> hub.Media:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    if isinstance(url, str):
        return hub.media_of_url(url, param=f"{where}.image_url")
    return hub.Media(file_id=_need(part.file_id, f"{where}.image_url"))


def _read_file(part: Part, where: str) -> hub.Media:
    if part.file_data is not None:
        if part.file_data[:5].lower() == "data:":
            return hub.read_data_url(part.file_data, param=f"{where}.file_data")
        return hub.Media(data=part.file_data, media_type=hub.sniff(part.file_data))
    if part.file_url is not None:
        return hub.media_of_url(part.file_url, param=f"{where}.file_url")
    return hub.Media(file_id=_need(part.file_id, f"{where}.file_data"))


def _read_call(item: Item, custom: bool, where: str, box: Toolbox) -> hub.ToolCall:
    name = _need(item.name, f"{where}.name")
    arguments = item.input if custom else item.arguments
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return hub.ToolCall(
        id=_need(item.call_id, f"{where}.call_id"),
        name=box.flat_name(name, item.namespace),
        arguments=_need(arguments, f"{where}.{'input' if custom else 'arguments'}"),
        custom=custom,
    )


def _read_output(item: Item, where: str) -> hub.ToolResult:
    output = item.output
    if isinstance(output, dict) or output is None:
        raise InvalidRequest(
            f"{where}.output: send a string or an array of content parts.", param=f"{where}.output"
        )
    return hub.ToolResult(
        call_id=_need(item.call_id, f"{where}.call_id"),
        content=read_content(output, f"{where}.output"),
        name=item.name,
    )


def _need(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{param}: it is missing. Send a string.", param=param)
    return value


def _refuse(kind: str, item: Item, where: str) -> InvalidRequest:
    if kind == "item_reference":
        return InvalidRequest(
            f"{where}: the item {item.id!r} is not stored here. Send the item itself.",
            param=where,
        )
    return InvalidRequest(
        f"{where}.type: items of the type {kind!r} can be read only by vendors that serve the Responses API "
        "themselves. Choose such a model, or leave the item out.",
        param=f"{where}.type",
    )
