"""JSON schemas in the subset of OpenAPI's that older Gemini models take.

References are put in their place, unions with null become `nullable`, and keywords that Google answers
with 400 are left out. Newer models are given the JSON schema as it is.
"""

from __future__ import annotations

from typing import Any

from raven_proxy.errors import InvalidRequest

__all__ = ["to_openapi"]

_KEPT = (
    "description", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum",
)  # fmt: skip
_FORMATS = frozenset({"date-time", "enum", "float", "double", "int32", "int64"})
_TYPES = {
    "string": "STRING", "number": "NUMBER", "integer": "INTEGER", "boolean": "BOOLEAN", "array": "ARRAY",
    "object": "OBJECT",
}  # fmt: skip
_DEEPEST = 32
_MOST = 10_000  # schemas in one; references can make many of few

Json = dict[str, Any]


def to_openapi(schema: Json, *, param: str) -> Json:
    """Convert a JSON schema. Raises InvalidRequest naming `param` where it is none, too deep or too large."""
    try:
        return _Converter(schema, param).convert(schema, ())
    except (TypeError, ValueError, AttributeError, RecursionError):  # a keyword's value of another type
        raise InvalidRequest(f"{param}: this is not a JSON schema.", param=param) from None


class _Converter:
    def __init__(self, root: Json, param: str) -> None:
        self._root = root
        self._param = param
        self._count = 0

    def convert(self, schema: Any, seen: tuple[str, ...], depth: int = 0) -> Json:
        """Convert one schema; `seen` are the references that led to it."""
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST:
            raise InvalidRequest(
                f"{self._param}: this schema is too deep or too large; make it simpler.", param=self._param
            )
        if not isinstance(schema, dict):
            return {"type": "STRING"}  # `true`, or something that is no schema
        if isinstance(schema.get("$ref"), str):
            return self._follow(schema, seen, depth)
        if isinstance(schema.get("allOf"), list):
            schema = _merge(schema, self._resolved(schema["allOf"]))
        out: Json = {name: schema[name] for name in _KEPT if name in schema}
        self._set_alternatives(schema, out, seen, depth)
        _set_type(schema, out)
        _set_values(schema, out)
        _set_bounds(schema, out)
        if schema.get("format") in _FORMATS:
            out["format"] = schema["format"]
        self._set_inside(schema, out, seen, depth)
        return out

    def _follow(self, schema: Json, seen: tuple[str, ...], depth: int) -> Json:
        reference = schema["$ref"]
        if reference in seen:
            return {"type": "OBJECT"}  # it holds itself; there is no end to put in its place
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        found = self._find(reference)
        merged = {**found, **rest} if isinstance(found, dict) else rest
        return self.convert(merged, (*seen, reference), depth + 1)

    def _find(self, reference: str) -> Any:
        if reference == "#":
            return self._root
        found: Any = self._root
        for name in reference.removeprefix("#/").split("/"):
            name = name.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _resolved(self, schemas: list[Any]) -> list[Any]:
        return [self._find(s["$ref"]) if isinstance(s, dict) and "$ref" in s else s for s in schemas]

    def _set_alternatives(self, schema: Json, out: Json, seen: tuple[str, ...], depth: int) -> None:
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        kinds = schema.get("type")
        if not isinstance(alternatives, list) and isinstance(kinds, list):
            named = [kind for kind in kinds if kind != "null"]
            alternatives = [{**schema, "type": kind, "description": ""} for kind in named]
            alternatives = alternatives if len(named) > 1 else None
            if len(named) < len(kinds):
                out["nullable"] = True
        if not isinstance(alternatives, list):
            return
        left = [one for one in alternatives if not (isinstance(one, dict) and one.get("type") == "null")]
        if len(left) < len(alternatives):
            out["nullable"] = True
        made = [self.convert(one, seen, depth + 1) for one in left]
        for one in made:
            if not one.get("description"):
                one.pop("description", None)
        if len(made) == 1:
            out.update({**made[0], **out})
        elif made:
            out["anyOf"] = made

    def _set_inside(self, schema: Json, out: Json, seen: tuple[str, ...], depth: int) -> None:
        if out.get("type") == "ARRAY" and "items" not in out:
            items = schema.get("items", schema.get("prefixItems"))
            first = items[0] if isinstance(items, list) and items else items
            out["items"] = self.convert(first, seen, depth + 1)
        properties = schema.get("properties")
        if out.get("type") == "OBJECT" and isinstance(properties, dict) and properties:
            out["properties"] = {name: self.convert(one, seen, depth + 1) for name, one in properties.items()}
            required = schema.get("required")
            if isinstance(required, list) and (known := [one for one in required if one in properties]):
                out["required"] = known


def _merge(schema: Json, parts: list[Any]) -> Json:
    merged: Json = {}
    for part in (*parts, {name: value for name, value in schema.items() if name != "allOf"}):
        if isinstance(part, dict):
            properties = {**_table(merged, "properties"), **_table(part, "properties")}
            required = [*(merged.get("required") or ()), *(part.get("required") or ())]
            merged |= part
            merged |= {"properties": properties} if properties else {}
            merged |= {"required": required} if required else {}
    return merged


def _table(schema: Json, name: str) -> Json:
    found = schema.get(name)
    return found if isinstance(found, dict) else {}


def _set_type(schema: Json, out: Json) -> None:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    if "anyOf" in out or "type" in out:
        return
    if not isinstance(kind, str):
        inside = (("properties", "object"), ("items", "array"), ("prefixItems", "array"))
        kind = next((implied for name, implied in inside if name in schema), None)
        kind = kind or _kind_of(schema.get("const", next(iter(schema.get("enum") or ()), "")))
    out["type"] = _TYPES.get(kind.lower(), "STRING")


def _kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    return kinds.get(type(value), "string")


def _set_values(schema: Json, out: Json) -> None:
    """Set `enum`, which Google has for strings only; other values go into the description."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or "anyOf" in out:
        return
    if None in values:
        out["nullable"] = True
    left = [value for value in values if value is not None]
    if left and all(isinstance(value, str) for value in left):
        out["enum"] = left
    elif left:
        words = "One of: " + ", ".join(map(str, left)) + "."
        out["description"] = f"{out['description']} {words}" if out.get("description") else words


def _set_bounds(schema: Json, out: Json) -> None:
    step = 1 if out.get("type") == "INTEGER" else 0
    for name, bound, sign in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        limit = schema.get(name)
        if isinstance(limit, int | float) and not isinstance(limit, bool) and bound not in out:
            out[bound] = limit + sign * step
