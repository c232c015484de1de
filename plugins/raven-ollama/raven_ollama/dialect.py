"""Ollama's dialects, and the raw faces of its own endpoints. An error is `{"error": "text"}`."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from raven_proxy import errors
from raven_proxy.faces import Dialect, Face, read_nothing

from .calls import read_chat, read_embed
from .embeddings import EmbeddingsVendor
from .replies import ChatVendor

__all__ = ["CHAT", "EMBED", "GENERATE", "find_raw_face"]


def render_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error: Ollama's clients want text under `error`, so the rest stands beside it."""
    return msgspec.json.encode(
        {
            "error": error.message,
            "type": error.type,
            "code": error.code,
            "param": error.param,
            "status": error.status,
            "request_id": request_id,
        }
    )


def render_stream_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error as the last line of a stream."""
    return render_error(error, request_id) + b"\n"


CHAT = Dialect("ollama.chat", render_error, render_stream_error, provider_side=ChatVendor())
GENERATE = Dialect("ollama.generate", render_error, render_stream_error, provider_side=ChatVendor())
EMBED = Dialect("ollama.embed", render_error, provider_side=EmbeddingsVendor())
_OTHER = Dialect("ollama.other", render_error)

_ADMINISTRATION = re.compile(r"api/(?:delete|pull|push|create|copy|blobs)(?:/.*)?", re.IGNORECASE)


def _raw(endpoint: str, dialect: Dialect) -> Face:
    is_embedding = dialect is EMBED
    return Face(
        name=f"ollama-{endpoint.rpartition('/')[2]}-raw",
        path="",
        dialect=dialect,
        scope="embeddings:write" if is_embedding else "chat:write",
        endpoint=endpoint,
        read_call=read_embed if is_embedding else read_chat,
        raw=True,
    )


_RAW = {
    "api/chat": _raw("api/chat", CHAT),
    "api/generate": _raw("api/generate", GENERATE),
    "api/embed": _raw("api/embed", EMBED),
    "api/embeddings": _raw("api/embeddings", EMBED),
    "api/show": Face(
        name="ollama-show-raw", path="", dialect=_OTHER, scope="models:read", endpoint="api/show",
        read_call=read_embed, raw=True,
    ),
}  # fmt: skip


def _administration(endpoint: str) -> Face:
    return Face(
        name="ollama-administration-raw",
        path="",
        dialect=_OTHER,
        scope="admin:write",
        endpoint=endpoint,
        read_call=read_nothing,
        json_body=False,
        raw=True,
        needs_model=False,
    )


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of one of Ollama's own endpoints; None for those that are not known here."""
    endpoint = unquote(endpoint).strip("/")
    if _ADMINISTRATION.fullmatch(endpoint):  # whatever the method: it changes which models there are
        return _administration(endpoint)
    return _RAW.get(endpoint) if method.upper() == "POST" else None
