"""Embeddings by InvokeModel: Amazon's Titan (one text a call) and Cohere's models (96 texts).

Sources: docs.aws.amazon.com/bedrock (Titan Embeddings; Cohere Embed v3 and v4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Usage

from .models import Model

__all__ = ["EmbeddingsSide", "write_embeddings"]

_MOST_TEXTS = 96
_PURPOSES = {
    "search_document": "search_document",
    "search_query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
    "document": "search_document",
    "query": "search_query",
    "passage": "search_document",
    "retrieval_document": "search_document",
    "retrieval_query": "search_query",
    "semantic_similarity": "clustering",
}


class _Reply(msgspec.Struct, rename="camel"):
    embedding: list[float] | None = None  # Titan
    embeddings: list[list[float]] | dict[str, Any] | None = None  # Cohere
    input_text_token_count: int | None = None


class EmbeddingsSide:
    """What these models answer; Cohere's tokens stand in the reply's `headers`."""

    def __init__(self, model: str, headers: Mapping[str, str]) -> None:
        self._model = model
        self._headers = headers

    def read_reply(self, body: bytes) -> hub.EmbeddingsReply:
        """Read a reply. Raises msgspec's errors and ValueError."""
        reply = msgspec.json.decode(body, type=_Reply)
        if reply.embedding is not None:
            vectors = [reply.embedding]
        elif isinstance(reply.embeddings, dict):
            vectors = msgspec.convert(reply.embeddings.get("float"), list[list[float]])
        elif reply.embeddings is not None:
            vectors = reply.embeddings
        else:
            raise ValueError("there are no embeddings in the reply")
        tokens = reply.input_text_token_count
        if tokens is None and (text := self._headers.get("x-amzn-bedrock-input-token-count", "")).isdecimal():
            tokens = int(text)
        usage = Usage(prompt_tokens=tokens, total_tokens=tokens) if tokens is not None else None
        return hub.EmbeddingsReply(model=self._model, vectors=vectors, usage=usage)

    def open_reader(self) -> Any:
        """Nothing of this is streamed."""
        raise ValueError("embeddings are not streamed")


def write_embeddings(request: hub.EmbeddingsRequest, model: Model) -> bytes:
    """Write the request. Raises InvalidRequest for what the model does not take."""
    if request.tokens:
        raise InvalidRequest("input: Bedrock's models take text, not token ids.", param="input")
    if request.user is not None:
        request.drop("user")
    for name in request.extra:
        request.drop(name)
    if model.family == "cohere":
        return _write_cohere(request, model)
    if "titan-embed" in model.id:
        return _write_titan(request, model)
    raise InvalidRequest(
        f"{model.id} makes no embeddings here; choose a Titan or Cohere model.", param="model"
    )


def _write_cohere(request: hub.EmbeddingsRequest, model: Model) -> bytes:
    if len(request.texts) > _MOST_TEXTS:
        raise InvalidRequest(f"input: send at most {_MOST_TEXTS} texts to this model at once.", param="input")
    purpose = _PURPOSES.get((request.purpose or "search_document").lower())
    if purpose is None:
        raise InvalidRequest(
            f"input_type: {request.purpose!r} is unknown; use search_document, search_query, classification "
            "or clustering.",
            param="input_type",
        )
    body: dict[str, Any] = {"texts": request.texts, "input_type": purpose, "embedding_types": ["float"]}
    if request.dimensions is not None:
        if "embed-v4" in model.id:
            body["output_dimension"] = request.dimensions
        else:
            request.drop("dimensions")
    return msgspec.json.encode(body)


def _write_titan(request: hub.EmbeddingsRequest, model: Model) -> bytes:
    if len(request.texts) != 1:
        raise InvalidRequest(
            f"input: {model.id} takes one text a request; send {len(request.texts)} requests.", param="input"
        )
    if request.purpose is not None:
        request.drop("input_type")
    body: dict[str, Any] = {"inputText": request.texts[0]}
    if request.dimensions is not None:
        if "titan-embed-image" in model.id:
            body["embeddingConfig"] = {"outputEmbeddingLength": request.dimensions}
        elif "v2" in model.id:
            body["dimensions"] = request.dimensions
        else:
            request.drop("dimensions")
    return msgspec.json.encode(body)
