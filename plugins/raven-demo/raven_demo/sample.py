"""Plausible values for JSON schemas: what a made-up model says where the caller prescribes a shape.

Understands what structured output and tool schemas use (draft 2020-12: types, `$ref`, `enum`,
`const`, `anyOf`/`oneOf`/`allOf`, bounds, formats). `pattern` is tried with a few usual texts; `not`
and conditions are not looked at.
"""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import unquote

from raven_proxy import InvalidRequest

__all__ = ["fill"]

_DEEP = 4  # from here on only what is required: schemas may refer to themselves
_BOTTOM = 40
_MAX_LENGTH = 10_000  # of one text, whatever the schema says
_MAX_VALUES = 2_000
_FORMATS = {
    "date": "2025-01-15",
    "date-time": "2025-01-15T10:00:00Z",
    "time": "10:00:00Z",
    "duration": "P1D",
    "email": "raven@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "7d444840-9dc0-41d1-b245-5ffdce74fad2",
}
_USUAL = (
    "text", "Text", "TEXT", "text_1", "text-1", "1", "12", "123", "1234", "12345", "123456", "A1", "ABC-123",
    "AB123", "ABC", "AB", "A", "a", "en", "en-US", "#a1b2c3", "1.0", "1.0.0", "10:00", "+14155550123",
    "555-555-0123", "(555) 555-0123", "@raven", "2025-01-15", "example.com", "192.0.2.1", "P1D",
)  # fmt: skip
_QUOTED = re.compile(r"[“\"']([^“”\"'\n]{1,60})[”\"']")
_NAMED = re.compile(r"(?<=[a-z0-9,:] )[A-Z]\w+(?: [A-Z]\w+)*")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_REPEATS = re.compile(r"[*+?{]")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?")


def fill(schema: dict[str, Any] | bool, question: str) -> Any:
    """Make a value that `schema` accepts, with names and numbers of the question where they fit.

    Raises InvalidRequest for what is no schema.
    """
    try:
        return _Filler(schema, question[:20_000]).make(schema, "value", 0)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError):
        raise InvalidRequest("A JSON schema in this request cannot be read.") from None


class _Filler:
    """One walk through a schema; bounded, since a schema may refer to itself."""

    def __init__(self, root: dict[str, Any] | bool, question: str) -> None:
        self._root = root
        self._words = question.lower()
        self._names = _QUOTED.findall(question) or _NAMED.findall(question)
        self._numbers = [float(text) for text in _NUMBER.findall(question)]
        self._left = _MAX_VALUES

    def make(self, schema: Any, name: str, depth: int, variant: int = 0) -> Any:
        """Make one value; `name` is its property's, `variant` tells apart the items of a unique array."""
        if self._left < -_MAX_VALUES:
            return None
        schema = self._flatten(schema, depth)
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            said = [c for c in choices if isinstance(c, str) and c and c.lower() in self._words]
            return said[0] if said and not variant else choices[variant % len(choices)]
        match _kind(schema):
            case "object":
                return self._make_object(schema, depth)
            case "array":
                return self._make_array(schema, name, depth)
            case "integer" | "number" as kind:
                return self._make_number(schema, kind == "integer", variant)
            case "boolean":
                return variant == 0
            case "null":
                return None
        return self._make_text(schema, name, variant)

    def _flatten(self, schema: Any, depth: int) -> dict[str, Any]:
        """Follow references and take one way through `anyOf`, until plain keywords are left."""
        self._left -= 1
        if depth > _BOTTOM or self._left < -_MAX_VALUES:
            return {"type": "null"}
        for _ in range(_BOTTOM):
            if not isinstance(schema, dict):
                return {}
            rest = {k: v for k, v in schema.items() if k not in {"$ref", "anyOf", "oneOf", "allOf"}}
            if "$ref" in schema:
                schema = _merge(rest, self._resolve(str(schema["$ref"])))
            elif schema.get("allOf"):
                for part in schema["allOf"]:
                    rest = _merge(rest, self._flatten(part, depth + 1))
                schema = rest | {k: schema[k] for k in ("anyOf", "oneOf") if k in schema}
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                schema = _merge(rest, self._pick(options, depth))
            else:
                return schema
        return {}

    def _pick(self, options: list[Any], depth: int) -> Any:
        is_null = [isinstance(option, dict) and option.get("type") == "null" for option in options]
        if self._is_deep(depth) and True in is_null:
            return options[is_null.index(True)]
        return options[is_null.index(False) if False in is_null else 0]

    def _resolve(self, ref: str) -> Any:
        target: Any = self._root
        for step in ref.removeprefix("#").split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            target = target.get(key) if isinstance(target, dict) else None
        return target

    def _make_object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        names = [*properties, *(name for name in required if name not in properties)]
        if self._is_deep(depth):
            names = [name for name in names if name in required]
        others = schema.get("additionalProperties")
        least = schema.get("minProperties", 1 if isinstance(others, dict) and not self._is_deep(depth) else 0)
        names += [f"key_{number + 1}" for number in range(max(0, min(least, 100) - len(names)))]
        return {name: self.make(properties.get(name, others), name, depth + 1) for name in names}

    def _make_array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        firsts = schema.get("prefixItems") or []
        least = schema.get("minItems", 0 if self._is_deep(depth) else max(1, len(firsts)))
        size = min(least, schema.get("maxItems", least), 100)
        items = schema.get("items", {})
        is_unique = schema.get("uniqueItems") is True
        return [
            self.make(firsts[i] if i < len(firsts) else items, name, depth + 1, i if is_unique else 0)
            for i in range(size)
        ]

    def _make_number(self, schema: dict[str, Any], is_whole: bool, variant: int) -> float:
        step = schema.get("multipleOf") or (1 if is_whole else 0)
        low, high = _bounds(schema, step or 1e-6)
        for number in self._numbers:
            if low <= number <= high and not variant and (not step or number % step == 0):
                return int(number) if is_whole else number
        value = 1.0 if low <= 1 <= high else (low if math.isfinite(low) else high)
        if not step and math.isfinite(low) and math.isfinite(high) and not low <= 1 <= high:
            value = (low + high) / 2
        if step:
            value = math.ceil(value / step) * step
            value = value if value <= high else math.floor(high / step) * step
        value += variant * (step or 1)
        return int(value) if is_whole else value

    def _make_text(self, schema: dict[str, Any], name: str, variant: int) -> str:
        least = int(min(schema.get("minLength", 0), _MAX_LENGTH))
        most = int(min(schema.get("maxLength", _MAX_LENGTH), _MAX_LENGTH))
        usual = _FORMATS.get(schema.get("format", ""))
        texts = [usual] if usual is not None else [*self._names[:1], f"example {name}".replace("_", " ")]
        if pattern := schema.get("pattern"):
            texts = [text for text in _USUAL if _matches(pattern, text)] or texts
        text: str = next((text for text in texts if least <= len(text) <= most), texts[0])
        if variant:
            text += f" {variant + 1}"
        return (text + "." * (least - len(text)))[:most]

    def _is_deep(self, depth: int) -> bool:
        return depth >= _DEEP or self._left <= 0


def _kind(schema: dict[str, Any]) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((word for word in kind if word != "null"), "null")
    if kind is not None:
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _merge(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """Join two schemas that both hold."""
    if not isinstance(other, dict):
        return one
    merged = other | one
    for key in ("properties", "$defs"):
        if key in one and key in other:
            merged[key] = other[key] | one[key]
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _bounds(schema: dict[str, Any], step: float) -> tuple[float, float]:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, int | float) and not isinstance(above, bool):
        low = max(low, above + step)
    if isinstance(below, int | float) and not isinstance(below, bool):
        high = min(high, below - step)
    return low, high


def _matches(pattern: str, text: str) -> bool:
    # The pattern is a stranger's and the engine backtracks: only what cannot take long is tried.
    if _REPEATED_GROUP.search(pattern) or len(_REPEATS.findall(pattern)) > 8:
        return False
    try:
        return re.search(pattern, text) is not None
    except (re.error, RecursionError, OverflowError):
        return False
