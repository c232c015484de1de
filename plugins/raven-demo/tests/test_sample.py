"""Values made up for JSON schemas."""

import time
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta
from raven_demo.sample import fill

from raven_proxy import InvalidRequest


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["a", "b"]
    size: Annotated[int, Meta(ge=3, le=9)]
    ratio: Annotated[float, Meta(gt=0.5, lt=0.6)]
    even: Annotated[int, Meta(multiple_of=4, gt=4)]


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(min_length=20, max_length=24)]
    leaves: Annotated[list[Leaf], Meta(min_length=2)]
    counts: dict[str, int]
    pair: tuple[int, str]
    child: "Tree | None"
    children: list["Tree"]
    short: Annotated[str, Meta(max_length=2)]
    when: str | None = None


@pytest.mark.parametrize("question", ["", "Ada has 5 ravens and -1 hats, said 'Bob'"])
def test_what_is_made_is_what_the_schema_asks_for(question):
    schema = msgspec.json.schema(Tree)
    msgspec.convert(fill(schema, question), Tree)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 7}, 7),
        ({"enum": ["x", "y"]}, "x"),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "integer", "exclusiveMinimum": 0, "multipleOf": 5}, 5),
        ({"type": "string", "format": "date"}, "2025-01-15"),
        ({"type": "string", "pattern": "^[0-9]{5}$"}, "12345"),
        ({"type": "string", "pattern": "^(a+)+$"}, "example value"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True}, [1, 2, 3]),
        ({"type": "array", "items": {}, "maxItems": 0}, []),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"const": "found"}}}, "found"),
        ({"type": "object", "required": ["a"]}, {"a": "example a"}),
        ({}, "example value"),
        (True, "example value"),
    ],
)
def test_keywords(schema, value):
    assert fill(schema, "") == value


def _bomb() -> dict[str, Any]:
    properties = {f"p{number}": {"$ref": "#"} for number in range(20)}
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "array", "minItems": 100, "items": {"$ref": "#"}},
        _bomb(),
        {"type": "string", "minLength": 10**9},
        {"type": "object", "minProperties": 10**9},
        {"type": "string", "pattern": "^(((a|b)+)+)+$"},
    ],
)
def test_no_schema_takes_long(schema):
    began = time.perf_counter()
    fill(schema, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! " * 100)
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "schema",
    [{"properties": 5}, {"type": "integer", "minimum": "x"}, {"enum": 3}, {"type": "array", "minItems": "x"}],
)
def test_what_is_no_schema_is_the_callers_fault(schema):
    with pytest.raises(InvalidRequest):
        fill(schema, "")
