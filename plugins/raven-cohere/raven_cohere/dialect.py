"""Cohere's dialects, the face `/v1/rerank`, and the raw faces of Cohere's own endpoints.

An error is Cohere's `{"id", "message"}` with the gateway's envelope beside it; in a stream it is a
`message-end` with `error`.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from raven_proxy import errors, hub
from raven_proxy.dialects import Reader, SSEReader
from raven_proxy.faces import Dialect, Face

from .calls import read_call, read_chat, read_rerank
from .embeddings import Metered
from .older import OlderChat
from .replies import read_reply
from .rerank import RerankClient, RerankVendor
from .streams import StreamState

__all__ = ["CHAT", "EMBED", "FACES", "OLDER_CHAT", "RERANK", "ChatVendor", "find_raw_face"]


class ChatVendor:
    """Reads Cohere's v2 chat."""

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply."""
        return read_reply(body)

    def open_reader(self) -> Reader:
        """Begin a stream."""
        state = StreamState()
        return SSEReader(state.read, state.end)


class _Error(msgspec.Struct):
    id: str
    message: str
    error: msgspec.Raw


class _Envelope(msgspec.Struct):
    error: msgspec.Raw


def render_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error: Cohere's clients read `message`, those of the gateway `error`."""
    envelope = msgspec.json.decode(errors.envelope(error, request_id), type=_Envelope)
    return msgspec.json.encode(_Error(request_id, error.message, envelope.error))


def render_stream_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error as the last event of a stream; no `[DONE]` follows it."""
    delta = {"error": error.message, "finish_reason": "ERROR"}
    data = msgspec.json.encode({"type": "message-end", "id": request_id, "delta": delta})
    return b"event: message-end\ndata: " + data + b"\n\n"


CHAT = Dialect("cohere.chat", render_error, render_stream_error, provider_side=ChatVendor())
OLDER_CHAT = Dialect("cohere.chat.v1", render_error, provider_side=OlderChat())
EMBED = Dialect("cohere.embed", render_error, provider_side=Metered())
RERANK = Dialect(
    "cohere.rerank", render_error, client_side=RerankClient(), provider_side=RerankVendor()
)  # fmt: skip

FACES = (
    Face(
        name="rerank",
        path="/v1/rerank",
        dialect=RERANK,
        scope="embeddings:write",
        endpoint="rerank",
        read_call=read_rerank,
    ),
)


def _raw(endpoint: str, dialect: Dialect) -> Face:
    kind = endpoint.partition("/")[2]
    read = {"chat": read_chat, "rerank": read_rerank}.get(kind, read_call)
    return Face(
        name=f"cohere-{endpoint.replace('/', '-')}-raw",
        path="",
        dialect=dialect,
        scope="chat:write" if kind == "chat" else "embeddings:write",
        endpoint=endpoint,
        read_call=read,
        raw=True,
    )


_RAW = {
    "v2/chat": _raw("v2/chat", CHAT),
    "v1/chat": _raw("v1/chat", OLDER_CHAT),
    "v2/embed": _raw("v2/embed", EMBED),
    "v1/embed": _raw("v1/embed", EMBED),
    "v2/rerank": _raw("v2/rerank", RERANK),
    "v1/rerank": msgspec.structs.replace(_raw("v1/rerank", RERANK), read_call=read_call),
}


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of one of Cohere's own endpoints; None for those that are not known here."""
    return _RAW.get(unquote(endpoint).strip("/")) if method.upper() == "POST" else None
