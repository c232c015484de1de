"""What the gateway judges of a request in Cohere's dialects; all other fields pass unjudged.

Shapes: Cohere's API reference, v2 (chat, embed, rerank) and v1, where no model need be named.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.faces import Call
from raven_proxy.judging import Limit, ModelName, check_model, judge

__all__ = ["REMEDIES", "Rerank", "decode_rerank", "read_call", "read_chat", "read_rerank"]

REMEDIES = {
    "model": 'Name a model, for example "rerank-v3.5", as a string of 1 to 512 characters.',
    "query": "Send the question as a string.",
    "documents": "Send an array of 1 to 10000 texts, or of objects with a text.",
    "documents[]": "Send a text, or an object with a text.",
    "top_n": "Send a whole number, one or more.",
    "top_k": "Send a whole number, one or more.",
    "return_documents": "Send true or false.",
    "stream": "Send true or false.",
    "max_tokens": "Send a whole number, zero or more.",
    "messages": "Send an array of message objects.",
}
_Count = Annotated[int, Meta(ge=1, le=2**53)]


class _Named(msgspec.Struct, gc=False):
    model: ModelName | None = None


class _Chat(msgspec.Struct, gc=False):
    model: ModelName | None = None
    stream: bool | None = None
    max_tokens: Limit | None = None


class Rerank(msgspec.Struct):
    """A rerank request of Cohere or Jina, which differ in nothing but the less common fields.

    `top_k` is what Voyage's clients write for `top_n`.
    """

    model: ModelName
    query: str
    documents: Annotated[list[str | dict[str, Any]], Meta(min_length=1, max_length=10_000)]
    top_n: _Count | None = None
    top_k: _Count | None = None
    return_documents: bool | None = None


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_chat = msgspec.json.Decoder(_Chat).decode
decode_rerank = msgspec.json.Decoder(Rerank).decode


def read_call(body: bytes) -> Call:
    """Judge the model alone. Raises InvalidRequest."""
    members = splice.scan(body)
    model = judge(_decode_named, body, REMEDIES).model
    return Call(check_model(model) if model else None, members=members)


def read_chat(body: bytes) -> Call:
    """Judge a chat, v1 or v2. Raises InvalidRequest."""
    members = splice.scan(body)
    chat = judge(_decode_chat, body, REMEDIES)
    model = check_model(chat.model) if chat.model else None
    return Call(model, chat.stream is True, chat.max_tokens, members)


def read_rerank(body: bytes) -> Call:
    """Judge a rerank request. Raises InvalidRequest."""
    members = splice.scan(body)
    return Call(check_model(judge(decode_rerank, body, REMEDIES).model), members=members)
