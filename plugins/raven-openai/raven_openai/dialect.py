"""OpenAI's dialects, and the faces that let clients speak them.

The gateway's envelope is a superset of OpenAI's error object, so it is rendered as it is; in a stream it is
one `data:` frame, which the official clients raise as an API error.
"""

from __future__ import annotations

from raven_proxy import errors
from raven_proxy.faces import Dialect, Doc, Face

from . import completions, vectors
from .calls import (
    ChatBody,
    CompletionBody,
    EmbeddingsBody,
    read_chat,
    read_completion,
    read_embeddings,
)
from .chat.client import CLIENT_SIDE

__all__ = ["CHAT", "COMPLETIONS", "EMBEDDINGS", "FACES", "render_stream_error"]


def render_stream_error(error: errors.GatewayError, request_id: str) -> bytes:
    """Render an error as the last frame of a stream; no `[DONE]` follows it."""
    return b"data: " + errors.envelope(error, request_id) + b"\n\n"


CHAT = Dialect("openai.chat", errors.envelope, render_stream_error, client_side=CLIENT_SIDE)
COMPLETIONS = Dialect(
    "openai.completions", errors.envelope, render_stream_error, client_side=completions.CLIENT_SIDE
)
EMBEDDINGS = Dialect(
    "openai.embeddings",
    errors.envelope,
    client_side=vectors.CLIENT_SIDE,
    provider_side=vectors.PROVIDER_SIDE,
)

FACES = (
    Face(
        name="openai-chat",
        path="/v1/chat/completions",
        dialect=CHAT,
        scope="chat:write",
        endpoint="chat/completions",
        read_call=read_chat,
        doc=Doc(summary="OpenAI chat, whole or streamed", tag="proxy", request=ChatBody, streams=True),
    ),
    Face(
        name="openai-completions",
        path="/v1/completions",
        dialect=COMPLETIONS,
        scope="chat:write",
        endpoint="completions",
        read_call=read_completion,
        doc=Doc(summary="OpenAI text completions", tag="proxy", request=CompletionBody, streams=True),
    ),
    Face(
        name="openai-embeddings",
        path="/v1/embeddings",
        dialect=EMBEDDINGS,
        scope="embeddings:write",
        endpoint="embeddings",
        read_call=read_embeddings,
        doc=Doc(summary="OpenAI embeddings", tag="proxy", request=EmbeddingsBody),
    ),
)
