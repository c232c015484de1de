"""How much work a JSON Schema may make of one answer, told before it is compiled.

A validator follows references each time it meets one, so a short schema can ask for more steps than there is
time: a row of definitions that each offer the next one twice, or one that offers itself twice. A schema is
followed here as a validator follows it, with every definition that it refers to counted anew, and refused
where that is more than `MOST_PLACES`, or where one part of an answer would be held against it twice at each
level of a recursion. Keywords are those of the drafts from 4 to 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

__all__ = ["MOST_PLACES", "TooMuch", "check_expansion"]

MOST_PLACES = 10_000
"""Schemas within a schema, those that it refers to included."""
_DEEPEST = 150
_HERE = ("allOf", "anyOf", "oneOf")
_ALSO_HERE = ("not", "if", "then", "else")
_DYNAMIC = ("$dynamicRef", "$recursiveRef")


class TooMuch(ValueError):
    """A schema that could take for ever, or whose references cannot be followed."""


def check_expansion(schema: dict[str, Any]) -> None:
    """Follow a schema. Raises TooMuch."""
    is_old = any(draft in str(schema.get("$schema")) for draft in ("draft-03", "draft-04"))
    _ = _Walk(schema, "id" if is_old else "$id").count(schema, 0, {}, is_root=True)


class _Walk:
    """One way through a schema. `count` says how many recursions one part of an answer leads to."""

    def __init__(self, schema: dict[str, Any], base: str) -> None:
        self._schema = schema
        self._base = base
        self._places = 0
        self._anchors: dict[str, Any] = {}
        _collect_anchors(schema, self._anchors)

    def count(self, schema: Any, depth: int, above: dict[int, int], *, is_root: bool = False) -> int:
        """Give how many recursive references may hold for one and the same part of an answer.

        `above` are the schemas that this one stands in, each with how many of them lead deeper.
        """
        self._places += 1
        if self._places > MOST_PLACES:
            raise TooMuch(f"with what it refers to it has more than {MOST_PLACES:,} places")
        if not isinstance(schema, dict):
            return 0
        if len(above) > _DEEPEST:
            raise TooMuch("it is nested too deeply")
        if not is_root and isinstance(schema.get(self._base), str):
            raise TooMuch(f"a {self._base} within it moves what its references mean")
        if any(name in schema for name in _DYNAMIC):
            raise TooMuch("$dynamicRef and $recursiveRef cannot be followed")
        if id(schema) in above:
            if above[id(schema)] == depth:
                raise TooMuch("it refers to itself without an end")
            return 1
        above = above | {id(schema): depth}
        total = self._count_here(schema, depth, above) + self._count_inside(schema, depth + 1, above)
        if total > 1:
            raise TooMuch("it refers to itself more than once for one part of an answer")
        return total

    def _count_here(self, schema: dict[str, Any], depth: int, above: dict[int, int]) -> int:
        """Count what judges the same part of the answer."""
        branches = [schema[name] for name in _ALSO_HERE if name in schema]
        for name in _HERE:
            branches += _list(schema.get(name))
        for name in ("dependentSchemas", "dependencies"):
            branches += _values(schema.get(name))
        if isinstance(reference := schema.get("$ref"), str):
            branches.append(self._resolve(reference))
        total = sum(self.count(one, depth, above) for one in branches)
        # Which members are left over is found out by asking the branches again.
        return total * 2 if {"unevaluatedProperties", "unevaluatedItems"} & schema.keys() else total

    def _count_inside(self, schema: dict[str, Any], depth: int, above: dict[int, int]) -> int:
        """Count what judges parts of it: those of an object, or those of an array."""

        def most(schemas: Iterable[Any]) -> int:
            return max((self.count(one, depth, above) for one in schemas), default=0)

        def all_of(schemas: Iterable[Any]) -> int:
            return sum(self.count(one, depth, above) for one in schemas)

        def named(*names: str) -> list[Any]:
            return [schema[name] for name in names if isinstance(schema.get(name), dict)]

        # A member has one name, which may match several patterns.
        members = most(_values(schema.get("properties"))) + all_of(_values(schema.get("patternProperties")))
        members = max(members, all_of(named("additionalProperties")))
        members += all_of(named("unevaluatedProperties", "propertyNames"))
        items = most([*_list(schema.get("prefixItems")), *_list(schema.get("items"))])
        items = max(items, all_of(named("items", "additionalItems")))
        items += all_of(named("contains", "unevaluatedItems", "contentSchema"))
        return max(members, items)

    def _resolve(self, reference: str) -> Any:
        pointer = unquote(reference.partition("#")[2])
        if pointer and not pointer.startswith("/"):
            return self._anchors.get(pointer, True)
        value: Any = self._schema
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                return True  # the compiler says what is wrong with it
        return value


def _collect_anchors(value: Any, found: dict[str, Any]) -> None:
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            for name in ("$anchor", "$dynamicAnchor"):
                if isinstance(anchor := one.get(name), str) and found.setdefault(anchor, one) is not one:
                    raise TooMuch(f"it has two anchors {anchor[:60]!r}")
            rest += one.values()
        elif isinstance(one, list):
            rest += one


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
