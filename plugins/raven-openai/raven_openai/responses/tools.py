"""Tools of a Responses client in the hub's terms, and back: flat, strict unless they say otherwise.

`namespace` tools (Codex groups functions so) become plain functions called `namespace__name`; what the
model calls by that name is told to the client under both names again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .asked import Tool

__all__ = ["Toolbox", "read_tool_choice"]

_LONGEST = 64  # characters of a function's name, at most vendors
_as_tool = msgspec.convert


class Toolbox:
    """The tools of one request. `names` maps flat names to (namespace, name).

    `server` are types of tools that only OpenAI runs; they are left out.
    """

    def __init__(self) -> None:
        self.tools: list[hub.Tool] = []
        self.names: dict[str, tuple[str, str]] = {}
        self.server: list[str] = []
        self._flat: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def add(self, tools: Iterable[Tool], where: str = "tools") -> None:
        """Take more tools. Raises InvalidRequest for one without a name, or one that is there twice."""
        for index, tool in enumerate(tools):
            place = f"{where}[{index}]"
            if tool.type in ("function", "custom"):
                self._add(tool, place, tool.name)
            elif tool.type == "namespace":
                for number, inner in enumerate(_inner(tool, place)):
                    self._add(inner, f"{place}.tools[{number}]", self._flatten(tool.name, inner.name))
            elif tool.type not in self.server:
                self.server.append(tool.type)

    def flat_name(self, name: str, namespace: str | None) -> str:
        """Give the name under which the model knows a function."""
        if not namespace:
            return name
        return self._flat.get((namespace, name)) or _join(namespace, name)

    def _add(self, tool: Tool, place: str, name: str) -> None:
        if not tool.name:
            raise InvalidRequest(f"{place}.name: it is missing. Name the tool.", param=f"{place}.name")
        if name in self._taken:
            raise InvalidRequest(
                f"{place}.name: there are two tools called {name!r}; name each one once.",
                param=f"{place}.name",
            )
        self._taken.add(name)
        if tool.type == "custom":
            made = hub.Tool(name=name, description=tool.description, custom=True, grammar=_grammar(tool))
        else:
            made = hub.Tool(name=name, description=tool.description, strict=_is_strict(tool))
            if tool.parameters:
                made.schema = tool.parameters
        self.tools.append(made)

    def _flatten(self, namespace: str, name: str) -> str:
        flat = _join(namespace, name)
        self.names[flat] = (namespace, name)
        self._flat[namespace, name] = flat
        return flat


def _inner(tool: Tool, place: str) -> list[Tool]:
    try:
        found: list[Tool] = _as_tool(tool.tools or [], list[Tool])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{place}.tools: {error}.", param=f"{place}.tools") from None
    return [inner for inner in found if inner.type in ("function", "custom")]


def _join(namespace: str, name: str) -> str:
    flat = f"{namespace}__{name}"
    if len(flat) <= _LONGEST:
        return flat
    digest = hashlib.blake2s(flat.encode(), digest_size=4).hexdigest()
    return f"{flat[: _LONGEST - 9]}_{digest}"


def _grammar(tool: Tool) -> dict[str, Any] | None:
    """Give a custom tool's `format` as chats nest it, which is the hub's form."""
    form = tool.format
    if form is None or form.get("type") != "grammar":
        return None
    grammar = {name: form[name] for name in ("syntax", "definition") if name in form}
    return {"type": "grammar", "grammar": grammar}


def _is_strict(tool: Tool) -> bool:
    """Say whether arguments must match: the default here is yes, where the schema allows it.

    OpenAI falls back to loose validation for a schema that strict mode cannot take; chats answer 400.
    """
    return tool.strict if tool.strict is not None else _can_be_strict(tool.parameters or {})


def _can_be_strict(schema: Any, depth: int = 0) -> bool:
    if isinstance(schema, list):
        return all(_can_be_strict(one, depth + 1) for one in schema)
    if not isinstance(schema, dict):
        return True
    if depth > 32:
        return False
    kinds = schema.get("type")
    if kinds == "object" or "properties" in schema or (isinstance(kinds, list) and "object" in kinds):
        properties = schema.get("properties")
        required = schema.get("required")
        known = properties.keys() if isinstance(properties, dict) else set()
        if schema.get("additionalProperties") is not False:
            return False
        if known and (not isinstance(required, list) or not known <= {str(one) for one in required}):
            return False
    inner: list[Any] = [schema.get("items"), schema.get("anyOf")]
    for name in ("properties", "$defs"):
        found = schema.get(name)
        inner += found.values() if isinstance(found, dict) else ()
    return _can_be_strict(inner, depth + 1)


def read_tool_choice(choice: str | Mapping[str, Any] | None, box: Toolbox) -> hub.ToolChoice | None:
    """Read `tool_choice`; narrows `box.tools` to those that it allows.

    Raises InvalidRequest where it forces a tool that only OpenAI runs, or one that is not declared.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        return _read_mode(choice, box)
    kind = choice.get("type")
    if kind == "allowed_tools":
        return _read_allowed(choice, box)
    if kind in ("function", "custom"):
        return hub.ToolChoice(mode="named", names=[_declared(choice, box, "tool_choice")])
    raise _foreign(str(kind))


def _read_mode(mode: str, box: Toolbox) -> hub.ToolChoice | None:
    if mode not in ("auto", "none", "required"):
        raise InvalidRequest(
            'tool_choice: send "auto", "none", "required", or an object that names a tool.',
            param="tool_choice",
        )
    if box.tools:
        return hub.ToolChoice(mode=mode)  # type: ignore[arg-type]
    if mode == "required" and box.server:
        raise _foreign(box.server[0])
    return None


def _read_allowed(choice: Mapping[str, Any], box: Toolbox) -> hub.ToolChoice | None:
    listed = choice.get("tools")
    tools = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    names = [_declared(one, box, "tool_choice.tools") for one in tools if one.get("name")]
    if choice.get("mode") == "required":
        if not names:
            raise _foreign(str(tools[0].get("type")) if tools else "none")
        return hub.ToolChoice(mode="named", names=names)
    box.tools = [tool for tool in box.tools if tool.name in names]
    return hub.ToolChoice(mode="auto") if box.tools else None


def _declared(choice: Mapping[str, Any], box: Toolbox, param: str) -> str:
    if not isinstance(choice.get("name"), str):
        raise InvalidRequest(f"{param}.name: name a tool as a string.", param=f"{param}.name")
    namespace = choice.get("namespace")
    name = box.flat_name(choice["name"], namespace if isinstance(namespace, str) else None)
    if not any(tool.name == name for tool in box.tools):
        raise InvalidRequest(f"{param}: there is no tool called {name!r} in tools.", param=param)
    return name


def _foreign(kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"tool_choice: {kind} runs only at vendors that serve the Responses API themselves; "
        'choose another model, or send "auto".',
        param="tool_choice",
    )
