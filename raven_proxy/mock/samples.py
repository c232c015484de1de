"""Sample values for JSON schemas, and tool calls made of them.

Responsible for what a made-up model says where the caller prescribes a shape. Pure functions.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["call_tools", "fill_schema"]

Json = dict[str, Any]
_SAMPLES: dict[str, object] = {"string": "sample", "integer": 1, "number": 1.5, "boolean": True, "null": None}


def call_tools(tools: list[Json], choice: str | Json | None, text: str) -> list[Json]:
    """Return the `tool_calls` that the user's `text` asks for; arguments are samples.

    Asked for are the functions that share a word of four letters or more with it; with none, the
    first one where it speaks of tools or `choice` is "required". `choice` may name one, or "none".
    Raises LookupError or TypeError where the tools are malformed.
    """
    functions = [tool["function"] for tool in tools if tool.get("type") == "function"]
    if not functions or choice == "none":
        return []
    words = _words(text)
    asked = [function for function in functions if words & _words(function["name"])]
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        asked = [function for function in functions if function["name"] == name]
    elif not asked and (choice == "required" or words & {"tool", "tools", "call", "function"}):
        asked = functions[:1]
    return [_call(index, function) for index, function in enumerate(asked)]


def _words(text: str) -> set[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return set(re.findall(r"[a-z0-9]{4,}", apart.lower()))


def _call(index: int, function: Json) -> Json:
    schema = function.get("parameters") or {"type": "object"}
    arguments = msgspec.json.encode(fill_schema(schema, schema)).decode()
    made = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_mock_{index}", "type": "function", "function": made}


def fill_schema(schema: Json, root: Json) -> object:
    """Return a small value that the JSON schema accepts; `root` is where its `$ref` point.

    Lengths, patterns and maxima are not looked at.
    """
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if choices := schema.get("enum"):
        return choices[0]
    if ref := schema.get("$ref"):
        target: Any = root
        for step in str(ref).removeprefix("#/").split("/"):
            target = target[step]
        return fill_schema(target, root)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return fill_schema(options[0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: fill_schema(value, root) for name, value in schema.get("properties", {}).items()}
    if kind == "array":
        return [fill_schema(schema.get("items", {"type": "string"}), root)]
    return schema.get("minimum", _SAMPLES.get(kind)) if kind in {"integer", "number"} else _SAMPLES.get(kind)
