"""The hub's embeddings and rerank: small, and never streamed."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.exchange import Usage

__all__ = ["EmbeddingsReply", "EmbeddingsRequest", "Ranked", "RerankReply", "RerankRequest"]


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """Texts, or token lists (which only OpenAI's own models take), to be made into vectors.

    `purpose` is Cohere's and Google's `input_type`/`taskType` in the client's own word. `encoding` is
    "float" or "base64" (little-endian float32, which official OpenAI clients ask for).
    """

    model: str
    texts: list[str] = []
    tokens: list[list[int]] = []
    dimensions: int | None = None
    encoding: str = "float"
    purpose: str | None = None
    user: str | None = None
    extra: dict[str, Any] = {}
    dropped: list[str] = []

    def drop(self, field: str) -> None:
        """Note that the vendor cannot be told `field`."""
        if field not in self.dropped:
            self.dropped.append(field)


class EmbeddingsReply(msgspec.Struct, kw_only=True):
    """One vector for each input, in the order of the inputs."""

    model: str = ""
    vectors: list[list[float]] = []
    usage: Usage | None = None


class RerankRequest(msgspec.Struct, kw_only=True):
    """Documents to be ordered by what they say to `query`. Documents are texts or objects with a `text`."""

    model: str
    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    return_documents: bool | None = None
    extra: dict[str, Any] = {}
    dropped: list[str] = []

    def drop(self, field: str) -> None:
        """Note that the vendor cannot be told `field`."""
        if field not in self.dropped:
            self.dropped.append(field)


class Ranked(msgspec.Struct, kw_only=True):
    """One document's place: its `index` in the request, and how relevant it is (higher is more)."""

    index: int
    score: float
    document: str | dict[str, Any] | None = None


class RerankReply(msgspec.Struct, kw_only=True):
    """The best documents first. `search_units` are what Cohere bills."""

    id: str = ""
    model: str = ""
    results: list[Ranked] = []
    usage: Usage | None = None
    search_units: int | None = None
