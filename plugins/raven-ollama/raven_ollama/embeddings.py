"""Embeddings of Ollama's `/api/embed`, read into the hub. Source: Ollama's API documentation."""

from __future__ import annotations

import msgspec

from raven_proxy.dialects import Reader
from raven_proxy.hub import EmbeddingsReply

from .replies import usage_of

__all__ = ["EmbeddingsVendor"]


class _Reply(msgspec.Struct):
    embeddings: list[list[float]] = []
    embedding: list[float] | None = None  # of the older /api/embeddings, which counts nothing
    model: str = ""
    prompt_eval_count: int | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class EmbeddingsVendor:
    """Reads vectors and usage."""

    def read_reply(self, body: bytes) -> EmbeddingsReply:
        """Read a whole reply."""
        reply = _decode(body)
        vectors = reply.embeddings if reply.embedding is None else [reply.embedding]
        return EmbeddingsReply(
            model=reply.model, vectors=vectors, usage=usage_of(reply.prompt_eval_count, None)
        )

    def open_reader(self) -> Reader:
        """There are no streams of embeddings."""
        raise ValueError("embeddings are not streamed")
