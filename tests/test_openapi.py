"""What `/openapi.json` tells is what is served."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy.faces import Doc, Face, Query, read_nothing
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
