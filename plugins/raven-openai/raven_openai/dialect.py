"""OpenAI's dialects, and the faces that let clients speak them.

The envelope of contract section 3 is a superset of OpenAI's error object, so it is rendered as it
is; in a stream it is one `data:` frame, which the official clients raise as an API error.
"""

from __future__ import annotations

import msgspec

from raven_proxy import errors
from raven_proxy.faces import Dialect, Face

from .calls import read_chat, read_completion, read_embeddings

__all__ = ["CHAT", "COMPLETIONS", "EMBEDDINGS", "FACES", "find_raw_face"]


def render_stream_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error as the last frame of a stream; no `[DONE]` follows it."""
    return b"data: " + errors.envelope(error, request_id) + b"\n\n"


CHAT = Dialect("openai.chat", errors.envelope, render_stream_error)
COMPLETIONS = Dialect("openai.completions", errors.envelope, render_stream_error)
EMBEDDINGS = Dialect("openai.embeddings", errors.envelope)

FACES = (
    Face(
        name="openai-chat",
        path="/v1/chat/completions",
        dialect=CHAT,
        scope="chat:write",
        endpoint="chat/completions",
        read_call=read_chat,
    ),
    Face(
        name="openai-completions",
        path="/v1/completions",
        dialect=COMPLETIONS,
        scope="chat:write",
        endpoint="completions",
        read_call=read_completion,
    ),
    Face(
        name="openai-embeddings",
        path="/v1/embeddings",
        dialect=EMBEDDINGS,
        scope="embeddings:write",
        endpoint="embeddings",
        read_call=read_embeddings,
    ),
)

_RAW = {
    (method, face.endpoint): msgspec.structs.replace(face, name=f"{face.name}-raw", path="", raw=True)
    for face in FACES
    for method in face.methods
}


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own endpoint: judged by the same rules, sent byte for byte.

    None for endpoints whose dialect is not known here.
    """
    return _RAW.get((method.upper(), endpoint.strip("/")))
