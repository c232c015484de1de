"""Schemas that could take for ever are refused before they are compiled; those that people write are not."""

from __future__ import annotations

from typing import Any

import pytest
from raven_guardrails.rules import InvalidRule
from raven_guardrails.schemas import Schema


def twice(depth: int) -> dict[str, Any]:
    """A row of definitions, each of which offers the next one twice."""
    rows = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(depth)}
    return {"$defs": rows | {f"a{depth}": {"type": "null"}}, "$ref": "#/$defs/a0"}


def node(**members: Any) -> dict[str, Any]:
    return {"$defs": {"node": members}, "$ref": "#/$defs/node"}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


SELF = {"$ref": "#/$defs/node"}
DEEPER = {"properties": {"a": SELF}}
EVIL: dict[str, dict[str, Any]] = {
    "doubling": twice(27),
    "doubling for ever": twice(50),
    "anyOf": node(anyOf=[DEEPER, DEEPER]),
    "oneOf": node(oneOf=[DEEPER, {"items": SELF}]),
    "allOf": node(allOf=[DEEPER, {"allOf": [DEEPER]}]),
    "if": node(**{"if": DEEPER, "then": DEEPER}),
    "a property and a pattern": node(properties={"a": SELF}, patternProperties={"a": SELF}),
    "two patterns": node(patternProperties={"a": SELF, "^a": SELF}),
    "items and contains": node(items=SELF, contains=SELF),
    "in two steps": {
        "$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/b"}}},
                  "b": {"anyOf": [{"items": {"$ref": "#/$defs/a"}}, {"items": {"$ref": "#/$defs/a"}}]}},
        "$ref": "#/$defs/a",
    },
    "itself at once": node(anyOf=[SELF, {"type": "string"}]),
    "itself by a name": {"$anchor": "top", "anyOf": [{"items": {"$ref": "#top"}}] * 2},
    "what is left over": node(allOf=[DEEPER], unevaluatedProperties=False),
    "encoded": {"$defs": {"a b": {"anyOf": [{"items": {"$ref": "#/$defs/a%20b"}}] * 2}},
                "$ref": "#/$defs/a%20b"},
    "another base": {"properties": {"a": {"$id": "http://x.example/", "$ref": "#/$defs/node"}}},
    "another base, of old": {"$schema": "http://json-schema.org/draft-04/schema#",
                             "properties": {"a": {"id": "http://x.example/"}}},
    "found at run time": {"$dynamicRef": "#node"},
    "deep": nested(400),
    "wide": {"anyOf": [{"const": n} for n in range(10_001)]},
    "a large pattern": {"pattern": "(?:a{0,900}){0,900}"},
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_a_schema_that_could_take_for_ever_is_refused(name: str) -> None:
    """With the field that is to blame, before anything is compiled."""
    with pytest.raises(InvalidRule) as caught:
        Schema(EVIL[name])
    assert caught.value.param == "config.schema"


def test_what_people_write_is_taken() -> None:
    """Trees, lists of lists, definitions that are used often."""
    tree = {"type": "object", "properties": {"left": SELF, "right": SELF, "more": {"items": SELF}}}
    assert Schema(node(**tree)).accepts('{"left": {"right": {"more": [{}]}}}')
    assert not Schema(node(**tree)).accepts('{"left": {"right": {"more": [1]}}}')
    either = node(anyOf=[{"type": "string"}, {"type": "array", "items": SELF}])
    assert Schema(either).accepts('[["a"], "b"]')
    assert not Schema(either).accepts('[["a"], 1]')
    name = {"$defs": {"name": {"type": "string"}},
            "properties": {f"p{n}": {"$ref": "#/$defs/name"} for n in range(500)}}  # fmt: skip
    assert not Schema(name).accepts('{"p7": 7}')
    assert Schema({"$id": "http://x.example/s", "properties": {"$id": {"type": "string"}}}).accepts("{}")
    every = node(properties={"a": SELF}, additionalProperties=SELF, items=SELF)
    assert Schema(every).accepts('{"a": {"b": [{}]}}')
