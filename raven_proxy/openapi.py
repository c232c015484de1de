"""`/openapi.json`: what is served, told in OpenAPI 3.1, from the faces and their types alone.

Nothing here is written by hand per route: a face's `Doc` names its types, a `Resource` its own.
Sans-IO: from faces to a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import msgspec

from .faces import Doc, Face, Grant, Query
from .resources import Resource
from .resources.rows import columns_of

__all__ = ["describe"]

_VERSION = "3.1.0"
_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_JSON = "application/json"
_CREATED = 201
_OBJECT: Mapping[str, Any] = {"type": "object"}
_ERRORS = {
    "Error": {
        "title": "Error",
        "description": "The one envelope of every error (the Anthropic faces answer with Anthropic's).",
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {
                    "type": {"type": "string"},
                    "code": {"type": ["string", "null"]},
                    "message": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "status": {"type": "integer"},
                    "request_id": {"type": "string"},
                    "metadata": {"type": "object"},
                },
            }
        },
    }
}
_KEY: Mapping[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A virtual key: rk_live_… or rk_test_…",
    }
}
_SEGMENT = {"type": "string", "pattern": "^[A-Za-z0-9._~-]+$", "maxLength": 200}
_PASSED_OVER = {"description": "Passed over: it can be read and not written."}


def describe(faces: Iterable[Face]) -> dict[str, Any]:
    """Make the document of these faces; paths and tags come in their order."""
    faces = [face for face in faces if face.path and not face.raw]
    shapes = _Shapes(face.doc for face in faces if face.doc is not None)
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, None] = {}
    logins = [face.doc.grants for face in faces if face.doc is not None and face.doc.grants]
    for face in faces:
        path = _PARAMETER.sub(r"{\1}", face.path)
        doc = face.doc or Doc(summary=face.name.replace("-", " "), tag=_tag(face))
        tags.setdefault(doc.tag)
        for method in face.methods:
            operation = paths.setdefault(path, {})[method.lower()] = _operation(face, doc, method, shapes)
            operation["security"] = [] if face.public else _security(logins, method)
    return {
        "openapi": _VERSION,
        "info": {
            "title": "Raven Proxy",
            "version": metadata.version("raven-proxy"),
            "description": "The proxy API under `/v1` (also `/api/v1`), and the management API beside it.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "securitySchemes": {**_KEY} | {grant.name: _scheme(grant) for login in logins for grant in login},
            "schemas": {**_ERRORS, **shapes.components},
        },
        "security": _security(logins, "GET"),
    }


def _scheme(grant: Grant) -> dict[str, str]:
    return {"type": "apiKey", "in": grant.place, "name": grant.field, "description": grant.summary}


def _security(logins: Iterable[tuple[Grant, ...]], method: str) -> list[dict[str, list[str]]]:
    """List the ways to be known: by a key, or by all that a login gives and this method takes."""
    is_change = method not in _SAFE_METHODS
    ways: list[dict[str, list[str]]] = [{"key": []}]
    ways += [{grant.name: [] for grant in login if is_change or not grant.for_changes} for login in logins]
    return ways


class _Shapes:
    """Schemas, each named once and referred to."""

    def __init__(self, docs: Iterable[Doc]) -> None:
        types = list(dict.fromkeys(one for doc in docs for one in _types_of(doc)))
        # All at once: two packages may each have a type of one name, and get two names for them here.
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._of_type = dict(zip(types, schemas, strict=True))

    def of_type(self, one: Any) -> Mapping[str, Any]:
        """Refer to what msgspec makes of a type."""
        schema: Mapping[str, Any] = self._of_type[one]
        return schema

    def of_reply(self, reply: Any) -> Mapping[str, Any]:
        """Refer to an answer: a type, or what reading a resource gives."""
        if not isinstance(reply, Resource):
            return self.of_type(reply) if reply is not None else {}
        name = f"{_name_of(reply)}Record"
        if name not in self.components:
            self.components[name] = {}  # it may refer to itself
            self.components[name] = self._record(reply, name)
        return {"$ref": _REF.format(name=name)}

    def of_request(self, doc: Doc, resource: Resource[Any] | None, method: str) -> Mapping[str, Any]:
        """Refer to a body; for a PATCH nothing in it is required, and what reading adds is passed over."""
        schema = self.of_type(doc.request)
        if resource is None:
            return schema
        partial = doc.partial and method == "PATCH"
        name = f"{_name_of(resource)}{'Change' if partial else 'Body'}"
        body = dict(self.components[schema["$ref"].rpartition("/")[2]])
        if partial:
            body.pop("required", None)
        shown = self._record(resource, name)["properties"]
        body["properties"] = dict.fromkeys(shown, _PASSED_OVER) | body["properties"]
        self.components[name] = body | {"title": name}
        return {"$ref": _REF.format(name=name)}

    def _record(self, resource: Resource[Any], name: str) -> dict[str, Any]:
        body = self._properties(resource.body)
        columns = columns_of(resource.body)  # type: ignore[arg-type]
        secrets = [column.name for column in columns.secrets]
        hidden = {*secrets, *(column.name for column in columns.unkept)}
        shown = self._properties(resource.shown) if resource.shown is not None else {}
        properties = {
            "id": {"type": "string", "pattern": f"^{resource.prefix}"},
            **{field: schema for field, schema in body.items() if field not in hidden},
            **{f"{field}Hint": {"type": ["string", "null"]} for field in secrets},
            "createdAt": {"type": "string", "format": "date-time"},
            **shown,
        }
        return {"title": name, "type": "object", "properties": properties, "required": list(properties)}

    def _properties(self, one: Any) -> dict[str, Any]:
        name = self.of_type(one)["$ref"].rpartition("/")[2]
        properties: dict[str, Any] = self.components[name].get("properties", {})
        return {
            field: {k: v for k, v in schema.items() if k != "default"} for field, schema in properties.items()
        }


def _types_of(doc: Doc) -> Iterator[Any]:
    yield from (query.type for query in doc.query)
    types = [doc.request, doc.reply]
    if isinstance(doc.reply, Resource):
        types[1:] = [doc.reply.body, doc.reply.shown, doc.reply.created]
    yield from (one for one in types if one is not None)


def _operation(face: Face, doc: Doc, method: str, shapes: _Shapes) -> dict[str, Any]:
    resource = doc.reply if isinstance(doc.reply, Resource) else None
    reply = shapes.of_reply(doc.reply)
    reply = {"type": "array", "items": reply} if doc.is_list else reply
    if resource is not None and resource.created is not None and doc.status == _CREATED:
        reply = {"allOf": [reply, shapes.of_type(resource.created)]}
    operation: dict[str, Any] = {
        "operationId": face.name if len(face.methods) == 1 else f"{face.name}-{method.lower()}",
        "summary": doc.summary,
        "tags": [doc.tag],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _SEGMENT}
            for name in _PARAMETER.findall(face.path)
        ]
        + [_parameter(query, shapes) for query in doc.query],
        "responses": {
            str(doc.status): {
                "description": "OK",
                "content": {doc.media: {"schema": reply} if reply else {}}
                | ({"text/event-stream": {}} if doc.streams else {}),
            },
            "default": {
                "description": "What went wrong",
                "content": {_JSON: {"schema": {"$ref": _REF.format(name="Error")}}},
            },
        },
    }
    if doc.description:
        operation["description"] = doc.description
    if not operation["parameters"]:
        del operation["parameters"]
    if method in _BODY_METHODS and (face.json_body or doc.request is not None):
        operation["requestBody"] = _body(doc, resource, method, shapes)
    if not face.public:
        operation["x-raven-scope"] = face.scope
        if face.role is not None:
            operation["x-raven-role"] = face.role
    return operation


def _body(doc: Doc, resource: Resource[Any] | None, method: str, shapes: _Shapes) -> dict[str, Any]:
    schema = shapes.of_request(doc, resource, method) if doc.request is not None else _OBJECT
    content: dict[str, Any] = {"schema": schema}
    if resource is not None and resource.example and doc.status == _CREATED:
        content["example"] = resource.example
    return {"required": True, "content": {_JSON: content}}


def _parameter(query: Query, shapes: _Shapes) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": "query",
        "required": query.required,
        "description": query.summary,
        "schema": shapes.of_type(query.type),
    }


def _name_of(resource: Resource[Any]) -> str:
    return "".join(word.capitalize() for word in resource.singular.split())


def _tag(face: Face) -> str:
    return "proxy" if face.path.startswith("/v1/") else "gateway"
