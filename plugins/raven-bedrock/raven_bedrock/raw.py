"""Faces for Bedrock's own API on raw paths: `/v1/bedrock/model/{id}/converse` and its like.

The model and the mode stand in the path, so each face is made for its request. Bodies are judged by the
little that the gateway relies on; bytes pass untouched both ways. An operation that is not known here is
judged by the path's model alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from raven_proxy import splice
from raven_proxy.errors import GatewayError, InvalidRequest
from raven_proxy.faces import Call, Dialect, Face

from .streams import ConverseSide

__all__ = ["CONVERSE", "INVOKE", "find_raw_face"]

_ENDPOINT = re.compile(r"model/([^/]+)/([^/]+)/?")
_OPERATIONS = frozenset({"converse", "converse-stream", "invoke", "invoke-with-response-stream"})
_NAMES = {400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException",
          429: "ThrottlingException", 503: "ServiceUnavailableException"}  # fmt: skip


def render_error(error: GatewayError, request_id: str) -> bytes:
    """Write an error as AWS's clients read it from a body."""
    default = "ValidationException" if error.status < 500 else "InternalServerException"
    document = {
        "message": error.message,
        "__type": _NAMES.get(error.status, default),
        "code": error.code,
        "status": error.status,
        "request_id": request_id,
    }
    return msgspec.json.encode(document)


CONVERSE = Dialect("bedrock.converse", render_error, provider_side=ConverseSide())
INVOKE = Dialect("bedrock.invoke", render_error)
_COUNT = Dialect("bedrock.count_tokens", render_error, is_free=True)
_UNKNOWN = Dialect("bedrock.unknown", render_error)


_OTHERS = {"invoke": INVOKE, "invoke-with-response-stream": INVOKE, "count-tokens": _COUNT}


class _Config(msgspec.Struct, rename="camel"):
    max_tokens: int | None = None


class _Converse(msgspec.Struct, rename="camel"):
    inference_config: _Config | None = None


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of an endpoint; None for what calls no model by its path (guardrails, async calls)."""
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or method.upper() != "POST":
        return None
    model, operation = unquote(match[1]), match[2]
    if not model.isprintable() or len(model) > 2048:
        raise InvalidRequest("The model's id has unprintable characters or is too long.", param="model")
    is_opaque = operation not in _OPERATIONS and operation != "count-tokens"
    is_converse = operation in _OPERATIONS and operation.startswith("converse")
    is_embedding = not is_converse and "embed" in model
    return Face(
        name=f"bedrock-{operation}-raw",
        path="",
        dialect=CONVERSE if is_converse else _OTHERS.get(operation, _UNKNOWN),
        scope="embeddings:write" if is_embedding else "chat:write",
        endpoint=endpoint,
        read_call=_reader(model, stream=operation.endswith("stream"), is_converse=is_converse),
        json_body=is_converse,
        raw=True,
        opaque=is_opaque,
    )


def _reader(model: str, *, stream: bool, is_converse: bool) -> Callable[[bytes], Call]:
    def read(body: bytes) -> Call:
        if not is_converse:
            members = splice.scan(body) if body.lstrip()[:1] == b"{" else {}
            return Call(model=model, stream=stream, members=members)
        members = splice.scan(body)
        try:
            found = msgspec.json.decode(body, type=_Converse).inference_config
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}.", param="inferenceConfig") from None
        bound = found.max_tokens if found is not None else None
        return Call(model=model, stream=stream, max_output_tokens=bound, members=members)

    return read
