"""Embeddings: Cohere's `/v2/embed` for clients of any dialect that the hub knows.

Source: Cohere's API reference, v2/embed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.dialects import Reader
from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import EmbeddingsReply, EmbeddingsRequest

from .usage import Spent, usage_of

__all__ = ["Embeddings", "Metered", "write_embeddings"]

_MOST_TEXTS = 96  # in one request
_PURPOSES = ("search_document", "search_query", "classification", "clustering")
# What other vendors call the same: Google's task types, Voyage's and Jina's words.
_ALIASES = {
    "document": "search_document",
    "passage": "search_document",
    "retrieval_document": "search_document",
    "retrieval.passage": "search_document",
    "query": "search_query",
    "retrieval_query": "search_query",
    "retrieval.query": "search_query",
    "question_answering": "search_query",
    "fact_verification": "search_query",
    "code_retrieval_query": "search_query",
    "semantic_similarity": "clustering",
}
_OWN = ("truncate", "priority")  # Cohere's own parameters, which a client may name


class _Vectors(msgspec.Struct):
    floats: list[list[float]] = msgspec.field(name="float")


class _Reply(msgspec.Struct):
    embeddings: _Vectors
    meta: Spent | None = None


class _Meta(msgspec.Struct):
    meta: Spent | None = None


_decode = msgspec.json.Decoder(_Reply).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode


def write_embeddings(request: EmbeddingsRequest) -> bytes:
    """Write Cohere's request. Raises InvalidRequest for tokens, or more than 96 texts."""
    if request.tokens:
        raise InvalidRequest("input: this model takes texts, not tokens; send strings.", param="input")
    if len(request.texts) > _MOST_TEXTS:
        raise InvalidRequest(
            f"input: this model takes at most {_MOST_TEXTS} texts in one request, and there are "
            f"{len(request.texts)}; send them in several.",
            param="input",
        )
    body: dict[str, Any] = {
        "model": request.model,
        "texts": request.texts,
        "input_type": _purpose(request),
        "embedding_types": ["float"],
    }
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    for name, value in request.extra.items():
        if name in _OWN:
            body[name] = value
        elif name != "input_type":
            request.drop(name)
    request.dropped = [name for name in request.dropped if name not in (*_OWN, "input_type")]
    if request.user is not None:
        request.drop("user")
    return msgspec.json.encode(body)


def _purpose(request: EmbeddingsRequest) -> str:
    """Give `input_type`; texts that a client does not speak of are taken for documents."""
    said = request.purpose if request.purpose is not None else request.extra.get("input_type")
    if said is None:
        return "search_document"
    word = said.lower() if isinstance(said, str) else ""
    word = _ALIASES.get(word, word)
    if word not in _PURPOSES:
        raise InvalidRequest(f"input_type: send one of {', '.join(_PURPOSES)}.", param="input_type")
    return word


class Embeddings:
    """Reads vectors and usage."""

    def read_reply(self, body: bytes) -> EmbeddingsReply:
        """Read a whole reply."""
        reply = _decode(body)
        return EmbeddingsReply(vectors=reply.embeddings.floats, usage=usage_of(reply.meta))

    def open_reader(self) -> Reader:
        """There are no streams of embeddings."""
        raise ValueError("embeddings are not streamed")


class Metered:
    """Reads the usage of anything that has `meta`, whatever kind of vectors it holds."""

    def read_reply(self, body: bytes) -> EmbeddingsReply:
        """Read a whole reply."""
        return EmbeddingsReply(usage=usage_of(_decode_meta(body).meta))

    def open_reader(self) -> Reader:
        """There are no streams."""
        raise ValueError("embeddings are not streamed")
