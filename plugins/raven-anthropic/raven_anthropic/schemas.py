"""JSON schemas as Anthropic takes them.

Tools take any schema whose top is an object. Structured outputs and strict tools take a subset:
every object is closed, and bounds are refused; they go into the description, where the model still
reads them (https://platform.claude.com/docs/en/build-with-claude/structured-outputs).
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest

__all__ = ["close_schema", "tool_schema"]

_BOUNDS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties",
)  # fmt: skip
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_DEEPEST = 100


def tool_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a tool's schema the `type` without which it is refused."""
    if schema.get("type") == "object":
        return schema
    return {**schema, "type": "object", "properties": schema.get("properties") or {}}


def close_schema(schema: dict[str, Any], *, param: str, depth: int = 0) -> dict[str, Any]:
    """Fit a schema to the subset; the one that was given is not changed.

    Raises InvalidRequest naming `param` for one that is nested too deeply.
    """
    if depth > _DEEPEST:
        raise InvalidRequest(f"{param}: the schema is nested too deeply.", param=param)
    closed = {key: value for key, value in schema.items() if key not in _BOUNDS}
    notes = [f"{key}: {msgspec.json.encode(schema[key]).decode()}" for key in _BOUNDS if key in schema]
    if isinstance(closed.get("minItems"), int) and closed["minItems"] > 1:
        notes.append(f"minItems: {closed.pop('minItems')}")
    if notes:
        said = closed.get("description")
        closed["description"] = (f"{said} " if isinstance(said, str) else "") + f"({', '.join(notes)})"
    for name in _MAPS:
        if isinstance(table := closed.get(name), dict):
            closed[name] = {key: _close(value, param, depth) for key, value in table.items()}
    for name in _LISTS:
        if isinstance(several := closed.get(name), list):
            closed[name] = [_close(value, param, depth) for value in several]
    if isinstance(closed.get("items"), dict):
        closed["items"] = _close(closed["items"], param, depth)
    if closed.get("type") == "object" or "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _close(value: Any, param: str, depth: int) -> Any:
    return close_schema(value, param=param, depth=depth + 1) if isinstance(value, dict) else value
