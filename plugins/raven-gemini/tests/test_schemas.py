"""JSON schemas in the subset that older models take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_gemini.schemas import to_openapi

from raven_proxy.errors import InvalidRequest

Json = dict[str, Any]


def convert(schema: Json) -> Json:
    types = pytest.importorskip("google.genai.types")
    made = to_openapi(schema, param="tools[0]")
    types.Schema.model_validate(made)
    return made


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"type": "string", "format": "email", "minLength": 2}, {"type": "STRING", "minLength": 2}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        ({"type": ["integer", "null"]}, {"type": "INTEGER", "nullable": True}),
        ({"const": "a"}, {"type": "STRING", "enum": ["a"]}),
        ({"enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "INTEGER", "description": "One of: 1, 2."}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "INTEGER", "minimum": 1}),
        ({"type": "number", "exclusiveMaximum": 5}, {"type": "NUMBER", "maximum": 5}),
        ({"type": "array"}, {"type": "ARRAY", "items": {"type": "STRING"}}),
        ({"items": {"type": "number"}}, {"type": "ARRAY", "items": {"type": "NUMBER"}}),
        ({"prefixItems": [{"type": "boolean"}]}, {"type": "ARRAY", "items": {"type": "BOOLEAN"}}),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
            {"type": "STRING", "nullable": True, "description": "d"},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
        ),
        (
            {"type": ["string", "integer"], "description": "d"},
            {"description": "d", "anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": True}},
                ]
            },
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}},
                "required": ["a"],
            },
        ),
        (
            {
                "$schema": "x",
                "type": "object",
                "additionalProperties": False,
                "propertyNames": {},
                "properties": {"a": {"type": "string", "title": "A", "default": "x"}},
                "required": ["a", "gone"],
            },
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]},
        ),
    ],
)
def test_keywords(schema: Json, made: Json) -> None:
    """What Google answers with 400 is left out or said otherwise."""
    assert convert(schema) == made


def test_references_are_put_in_their_place() -> None:
    """Also through definitions of definitions; what holds itself is cut."""
    schema = {
        "type": "object",
        "properties": {
            "node": {"$ref": "#/$defs/Node", "description": "here"},
            "gone": {"$ref": "#/$defs/No"},
        },
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"name": {"$ref": "#/$defs/Name"}, "next": {"$ref": "#/$defs/Node"}},
            },
            "Name": {"type": "string"},
        },
    }
    node = convert(schema)["properties"]["node"]
    assert node["description"] == "here"
    assert node["properties"] == {"name": {"type": "STRING"}, "next": {"type": "OBJECT"}}


def test_schemas_that_grow_without_end_are_refused() -> None:
    """References can make a million of thirty; nesting can be deep."""
    names = [f"d{i}" for i in range(25)]
    defs: Json = {
        name: {"type": "object", "properties": {k: {"$ref": f"#/$defs/d{i + 1}"} for k in "ab"}}
        for i, name in enumerate(names)
    }
    deep: Json = {"type": "string"}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    for schema in ({"$ref": "#/$defs/d0", "$defs": defs}, deep):
        with pytest.raises(InvalidRequest) as error:
            to_openapi(schema, param="tools[3]")
        assert error.value.param == "tools[3]"


KEYWORDS = st.sampled_from(
    "type properties items anyOf oneOf allOf enum const $ref required format minimum exclusiveMinimum "
    "description prefixItems additionalProperties".split()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from(["string", "object", "null", "#", "#/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYWORDS, VALUES, max_size=5))
def test_no_schema_breaks_the_gateway(schema: Json) -> None:
    """Whatever a client calls a schema is converted, or refused with 400."""
    try:
        made = to_openapi(schema, param="tools[0]")
    except InvalidRequest:
        return
    assert isinstance(made, dict)
