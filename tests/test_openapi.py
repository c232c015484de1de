"""What `/openapi.json` tells is what is served."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Doc, Face, Grant, Query, read_nothing
from raven_proxy.harness import GatewayStarter
from raven_proxy.openapi import describe
from raven_proxy.resources import Resource, Secret
from raven_proxy.resources.routes import make_faces


class Shown(msgspec.Struct, rename="camel"):
    last_used_at: str | None


class Robot(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    name: str
    is_loud: bool = False
    api_key: Secret | None = None


ROBOTS = Resource(
    name="robots", singular="robot", table="robots", prefix="rob_", body=Robot, shown=Shown, summary="Robots"
)


def nothing_behind() -> Any:
    raise AssertionError


@pytest.fixture
def document() -> Any:
    return describe(make_faces(ROBOTS, nothing_behind))


def test_a_resource_has_its_paths(document: Any) -> None:
    """Every operation, with its scope, its role and its parameters."""
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == {
        "/robots": ["get", "post"],
        "/robots/{id}": ["delete", "get", "patch", "put"],
    }
    get = document["paths"]["/robots/{id}"]["get"]
    assert (get["x-raven-scope"], get["x-raven-role"]) == ("admin:read", "viewer")
    assert [one["name"] for one in get["parameters"]] == ["id"]
    listing = document["paths"]["/robots"]["get"]
    assert [one["name"] for one in listing["parameters"]] == ["limit", "after"]
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(ids)) == len(ids)


def test_what_is_read_and_what_is_written_differ(document: Any) -> None:
    """A secret is written only, an id read only; a change requires nothing."""
    schemas = document["components"]["schemas"]
    assert set(schemas["RobotRecord"]["properties"]) == {
        "id", "name", "isLoud", "apiKeyHint", "createdAt", "lastUsedAt",
    }  # fmt: skip
    assert schemas["RobotBody"]["required"] == ["name"]
    assert schemas["RobotBody"]["properties"]["apiKey"]["anyOf"][0]["writeOnly"]
    assert "required" not in schemas["RobotChange"]


def test_two_types_of_one_name_get_two_names() -> None:
    """As two packages may have them."""
    one = type("Same", (msgspec.Struct,), {"__annotations__": {"left": int}, "__module__": "one"})
    two = type("Same", (msgspec.Struct,), {"__annotations__": {"right": int}, "__module__": "two"})
    faces = [
        Face(name=name, path=f"/{name}", methods=("GET",), read_call=read_nothing,
             doc=Doc(summary="x", tag="x", reply=reply, query=(Query(name="q", type=int),)))
        for name, reply in (("a", one), ("b", two))
    ]  # fmt: skip
    document = describe(faces)
    properties = [set(schema.get("properties", ())) for schema in document["components"]["schemas"].values()]
    assert {"left"} in properties
    assert {"right"} in properties


async def test_every_route_of_a_gateway_is_told(raven: GatewayStarter) -> None:
    """Without a key; plugin routes included, and every reference leads somewhere."""
    gateway = await raven(base=("auth-keys", "meter", "demo", "openai"))
    async with gateway.client.get("/openapi.json", headers={"Authorization": ""}) as reply:
        assert (reply.status, reply.content_type) == (200, "application/json")
        text = await reply.text()
    document = msgspec.json.decode(text)
    told = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    served = {
        (method, face.path.replace(":path", ""))
        for face in gateway.gateway.pipeline.faces()
        for method in face.methods
    }
    assert told == served
    for name in set(text.split('"#/components/schemas/')[1:]):
        assert name.partition('"')[0] in document["components"]["schemas"]


async def test_the_document_is_valid(raven: GatewayStarter) -> None:
    """By the validator of the OpenAPI Initiative's schemas."""
    validator = pytest.importorskip("openapi_spec_validator")
    gateway = await raven(base=("auth-keys", "meter", "demo", "openai", "anthropic"))
    validator.validate(msgspec.json.decode(gateway.gateway.pipeline.document()))


def test_a_login_is_another_way_to_be_known() -> None:
    """Beside a key; what changes something takes more of it than what reads; what is public takes nothing."""
    grants = (
        Grant(name="badge", place="cookie", field="a_badge", summary="x"),
        Grant(name="stamp", place="header", field="X-Stamp", summary="y", for_changes=True),
    )
    login = Doc(summary="x", tag="x", grants=grants)
    enter = Face(name="enter", path="/enter", read_call=read_nothing, public=True, doc=login)
    things = Face(name="things", path="/things", methods=("GET", "DELETE"), read_call=read_nothing)
    document = describe([enter, things])
    schemes = document["components"]["securitySchemes"]
    assert {name: (one["type"], one.get("in"), one.get("name")) for name, one in schemes.items()} == {
        "key": ("http", None, None),
        "badge": ("apiKey", "cookie", "a_badge"),
        "stamp": ("apiKey", "header", "X-Stamp"),
    }
    assert document["paths"]["/things"]["get"]["security"] == [{"key": []}, {"badge": []}]
    assert document["paths"]["/things"]["delete"]["security"] == [{"key": []}, {"badge": [], "stamp": []}]
    assert document["paths"]["/enter"]["post"]["security"] == []


async def test_the_session_cookie_is_told(raven: GatewayStarter) -> None:
    gateway = await raven(base=("auth-keys", "accounts"))
    document = msgspec.json.decode(gateway.gateway.pipeline.document())
    session = document["components"]["securitySchemes"]["session"]
    assert (session["type"], session["in"], session["name"]) == ("apiKey", "cookie", "raven_session")
    assert {"session": [], "csrf": []} in document["paths"]["/keys"]["post"]["security"]


HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, tuple[list[Any], list[Any]]] = {
    "/v1/chat/completions": (
        [
            {"model": "m", "messages": HI}, {"model": "m", "messages": HI, "stream": None, "n": 2, "x": {}},
            {"model": "m", "messages": [{"role": "tool", "content": [{"any": "part"}]}], "max_tokens": 0},
        ],
        [
            {"messages": HI}, {"model": "", "messages": HI}, {"model": "m" * 513, "messages": HI},
            {"model": "m"}, {"model": "m", "messages": []}, {"model": "m", "messages": "hi"},
            {"model": "m", "messages": [{"role": "robot", "content": "x"}]},
            {"model": "m", "messages": [{"content": "x"}]}, {"model": "m", "messages": HI, "n": 0},
            {"model": "m", "messages": HI, "stream": "yes"}, {"model": "m", "messages": HI, "max_tokens": -1},
            {"model": "m", "messages": HI, "max_completion_tokens": 1.5},
            {"model": "m", "messages": HI, "stream_options": {"include_usage": 1}}, [],
        ],
    ),
    "/v1/completions": (
        [{"model": "m"}, {"model": "m", "prompt": ["a"], "max_tokens": 5}],
        [{"prompt": "x"}, {"model": "m", "prompt": 1}, {"model": "m", "max_tokens": "5"}],
    ),
    "/v1/embeddings": (
        [{"model": "m", "input": "x"}, {"model": "m", "input": [[1, 2]], "encoding_format": "base64"}],
        [{"model": "m"}, {"model": "m", "input": ""}, {"model": "m", "input": []}, {"input": "x"}],
    ),
    "/v1/responses": (
        [{"model": "m"}, {"model": "m", "input": [{"any": "item"}], "store": False, "tools": [{}]}],
        [
            {"input": "x"}, {"model": "m", "input": ["x"]}, {"model": "m", "max_output_tokens": -1},
            {"model": "m", "previous_response_id": ""}, {"model": "m", "tools": ["x"]},
        ],
    ),
    "/v1/messages": (
        [{"model": "m", "messages": HI, "max_tokens": 1}, {"model": "m", "messages": HI, "max_tokens": 0}],
        [
            {"model": "m", "messages": HI}, {"model": "m", "messages": [], "max_tokens": 1},
            {"model": "m", "messages": [{"role": "tool", "content": "x"}], "max_tokens": 1},
            {"model": "m", "messages": [{"role": "user"}], "max_tokens": 1},
            {"model": "m", "messages": HI, "max_tokens": 1, "stream": 1},
        ],
    ),
    "/v1/messages/count_tokens": (
        [{"model": "m", "messages": HI}], [{"model": "m"}, {"messages": HI}, {"model": "m", "messages": [1]}]
    ),
}  # fmt: skip


async def test_a_body_that_is_judged_is_told_as_it_is_judged(raven: GatewayStarter) -> None:
    """What the gateway takes of chat, responses, embeddings and messages, the schema takes; and no more."""
    jsonschema = pytest.importorskip("jsonschema")
    gateway = await raven(base=("openai", "anthropic"))
    document = msgspec.json.decode(gateway.gateway.pipeline.document())
    for path, (good, bad) in BODIES.items():
        face, _ = gateway.gateway.pipeline.routes.find("POST", path)
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        validator = jsonschema.Draft202012Validator(schema)
        for body in (*good, *bad):
            assert validator.is_valid(body) is (body in good), (path, body)
            if body in good:
                face.read_call(msgspec.json.encode(body))
            else:
                with pytest.raises(InvalidRequest):
                    face.read_call(msgspec.json.encode(body))


async def test_what_can_be_streamed_says_so(raven: GatewayStarter) -> None:
    gateway = await raven(base=("openai", "anthropic"))
    paths = msgspec.json.decode(gateway.gateway.pipeline.document())["paths"]
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"):
        content = paths[path]["post"]["responses"]["200"]["content"]
        assert ("text/event-stream" in content) is (path != "/v1/embeddings")
        assert "application/json" in content
