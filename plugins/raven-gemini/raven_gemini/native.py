"""Google's own API on the raw paths: which endpoint speaks what, and its errors.

The model and the mode stand in the path (`models/gemini-2.5-flash:streamGenerateContent`), so a face is
made for each: bodies need no `model`, and one that names another does not win. A verb that is not known
here is judged by the path's model alone. Endpoints without a model pass without being understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from raven_proxy import splice
from raven_proxy.errors import GatewayError, InvalidRequest
from raven_proxy.faces import Call, Dialect, Face

from .reading import DIALECT
from .replies import GenerateSide

__all__ = ["COUNT", "EMBED", "GENERATE", "RAW_CLAUDE", "VerbCall", "find_native_face"]

_ENDPOINT = re.compile(
    r"(?:.*/)?(?:(?:models|tunedModels)/|(?=endpoints/))(?P<model>[^/]+|endpoints/[^/]+):(?P<verb>[^:/]*)/?"
)
_BATCH = re.compile(r"(?:async)?batch", re.IGNORECASE)  # a job of as many requests as its file has
_MAX_MODEL = 512
_MOST_CHOICES = 10**6
_USUAL_SAMPLES = 4  # of Imagen, where none are asked for
_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 409: "ABORTED", 413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL",
    501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def render_error(error: GatewayError, request_id: str) -> bytes:
    """Render an error as `google.rpc.Status`, with the gateway's own words beside it."""
    inner: dict[str, Any] = {
        "code": error.status,
        "message": error.message,
        "status": _STATUSES.get(error.status, "UNKNOWN"),
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": (error.code or "error").upper(),
                "domain": "raven-proxy",
            },
            {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id},
        ],
        "type": error.type,
        "param": error.param,
        "request_id": request_id,
    }
    if error.metadata:
        inner["metadata"] = error.metadata
    return msgspec.json.encode({"error": inner})


def _render_stream_error(error: GatewayError, request_id: str) -> bytes:
    return b"data: " + render_error(error, request_id) + b"\r\n\r\n"


GENERATE = Dialect(DIALECT, render_error, _render_stream_error, provider_side=GenerateSide())
EMBED = Dialect("gemini.embeddings", render_error)
COUNT = Dialect("gemini.count_tokens", render_error, is_free=True)
_UNKNOWN = Dialect("gemini.unknown", render_error, _render_stream_error)
RAW_CLAUDE = Dialect("vertex.anthropic", render_error, _render_stream_error)

_VERBS = {
    "generateContent": (GENERATE, "chat:write", False),
    "streamGenerateContent": (GENERATE, "chat:write", True),
    "countTokens": (COUNT, "chat:write", False),
    "embedContent": (EMBED, "embeddings:write", False),
    "batchEmbedContents": (EMBED, "embeddings:write", False),
    "rawPredict": (RAW_CLAUDE, "chat:write", False),
    "streamRawPredict": (RAW_CLAUDE, "chat:write", True),
}


def find_native_face(method: str, endpoint: str) -> Face | None:
    """Name the face of an endpoint; None where it calls no model. One with an unknown verb is opaque."""
    match = _ENDPOINT.fullmatch(unquote(endpoint))
    if match is None or method.upper() != "POST":
        return None
    model, verb = match["model"], match["verb"]
    dialect, scope, streamed = _VERBS.get(verb, (_UNKNOWN, "chat:write", False))
    is_opaque = dialect is _UNKNOWN
    reader: Callable[[bytes], Call] = partial(_read_call, model, streamed)
    if is_opaque:
        reader = partial(_read_unknown, model, _BATCH.match(verb) is not None)
    return Face(
        name=f"{dialect.name}-raw",
        path="",
        dialect=dialect,
        scope=scope,
        endpoint=endpoint,
        read_call=reader,
        raw=True,
        opaque=is_opaque,
        json_body=not is_opaque,
        streams_json=dialect is GENERATE and streamed,  # an array, where `alt=sse` is not asked for
    )


class VerbCall(Call):
    """What an unknown verb is asked for: `choices` is how many things at most, `unbounded` any number."""

    choices: int = 1
    unbounded: bool = False


class _Body(msgspec.Struct, rename="camel"):
    generation_config: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def _read_call(model: str, streamed: bool, body: bytes) -> Call:
    """Judge a body: a JSON object of any kind. Raises InvalidRequest."""
    _check_name(model)
    members = splice.scan(body)
    try:
        config = _decode(body).generation_config
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidRequest("The body cannot be read.", param="body") from None
    limit = config.get("maxOutputTokens") if isinstance(config, dict) else None
    limit = limit if type(limit) is int and 0 <= limit <= 2**53 else None
    return Call(model=model, stream=streamed, max_output_tokens=limit, members=members)


class _Prediction(msgspec.Struct, rename="camel"):
    instances: Any = None
    parameters: Any = None


_decode_prediction = msgspec.json.Decoder(_Prediction).decode


def _read_unknown(model: str, is_batch: bool, body: bytes) -> Call:
    """Judge the body of a verb that is not known here: how much a prediction is asked for."""
    _check_name(model)
    try:
        found = _decode_prediction(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = _Prediction()
    each = found.parameters.get("sampleCount") if isinstance(found.parameters, dict) else None
    if type(each) is not int or each < 1:
        each = _USUAL_SAMPLES if model.startswith("imagen") else 1
    count = len(found.instances) if isinstance(found.instances, list) else 1
    choices = min(max(1, count) * each, _MOST_CHOICES)
    members = splice.scan(body) if body.lstrip()[:1] == b"{" else {}
    return VerbCall(model=model, choices=choices, unbounded=is_batch, members=members)


def _check_name(model: str) -> None:
    if len(model) > _MAX_MODEL or not model.isprintable():
        raise InvalidRequest(
            f"model: give a name of at most {_MAX_MODEL} printable characters.", param="model"
        )
