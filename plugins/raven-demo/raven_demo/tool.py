"""When the demo model calls a tool, and with what arguments."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from raven_proxy import InvalidRequest

from . import sample

__all__ = ["Function", "Tool", "ToolCall", "call"]


class Function(msgspec.Struct):
    """A tool's name, and the JSON schema of its arguments."""

    name: str
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """One of a request's `tools`; those that are not functions are never called here."""

    type: str = "function"
    function: Function | None = None


class ToolCall(msgspec.Struct):
    """One call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


def call(
    tools: list[Tool],
    choice: str | dict[str, Any] | None,
    text: str,
    *,
    is_answered: bool,
    may_be_many: bool,
    seed: str,
) -> list[ToolCall]:
    """Make the calls that a request asks for, by `tool_choice` or in the user's words.

    A tool is asked for where `text` has its name or a longer word of it ("weather" for
    `get_weather`). `is_answered` says that `text` is a tool's result: then only `choice` can ask.
    Raises InvalidRequest where `choice` names no tool.
    """
    functions = [tool.function for tool in tools if tool.function is not None]
    if not functions or choice == "none":
        return []
    named, is_required = _read_choice(choice, functions)
    asked = [named] if named else [f for f in functions if not is_answered and _mentions(text, f.name)]
    if not asked and is_required:
        asked = functions[:1]
    return [
        ToolCall(
            f"call_{seed[-12:]}{index}",
            function.name,
            msgspec.json.encode(sample.fill(function.parameters or {"type": "object"}, text)).decode(),
        )
        for index, function in enumerate(asked if may_be_many else asked[:1])
    ]


def _read_choice(
    choice: str | dict[str, Any] | None, functions: list[Function]
) -> tuple[Function | None, bool]:
    """Give the function that must be called, and whether some function must be."""
    if not isinstance(choice, dict):
        return None, choice == "required"
    if choice.get("type") == "allowed_tools":
        return None, choice.get("mode") == "required"
    named = choice.get("function")
    name = named.get("name") if isinstance(named, dict) else None
    for function in functions:
        if function.name == name:
            return function, True
    raise InvalidRequest(f"tool_choice: there is no tool named {name!r}.", param="tool_choice")


def _mentions(text: str, name: str) -> bool:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = {name.lower(), *re.findall(r"[a-z0-9]{4,}", apart)}
    return not words.isdisjoint(re.findall(r"[\w-]+", text[:20_000].lower()))
