"""Embeddings: OpenAI's face towards `:batchEmbedContents` of AI Studio and `:predict` of Vertex AI.

Google reports no usage for AI Studio's: it is estimated from the request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Usage
from raven_proxy.hub import EmbeddingsReply, EmbeddingsRequest
from raven_proxy.providers import estimate_prompt

__all__ = ["EmbeddingsSide", "write_batch", "write_prediction"]

_MOST = 100
_PURPOSES = {
    "search_document": "RETRIEVAL_DOCUMENT",
    "document": "RETRIEVAL_DOCUMENT",
    "search_query": "RETRIEVAL_QUERY",
    "query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_TASKS = frozenset(
    "RETRIEVAL_QUERY RETRIEVAL_DOCUMENT SEMANTIC_SIMILARITY CLASSIFICATION CLUSTERING QUESTION_ANSWERING "
    "FACT_VERIFICATION CODE_RETRIEVAL_QUERY".split()
)

Json = dict[str, Any]


class _Values(msgspec.Struct, gc=False):
    values: list[float] = []


class _Statistics(msgspec.Struct, gc=False):
    token_count: float = 0


class _Embeddings(msgspec.Struct, gc=False):
    values: list[float] = []
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Embeddings


class _Counted(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0


class _Reply(msgspec.Struct, rename={"usage_metadata": "usageMetadata"}):
    embeddings: list[_Values] | None = None  # :batchEmbedContents
    embedding: _Values | None = None  # :embedContent
    predictions: list[_Prediction] | None = None  # Vertex AI
    usage_metadata: _Counted | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class EmbeddingsSide:
    """The provider's half of embeddings; `body` is the client's request, for the estimate."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read_reply(self, body: bytes) -> EmbeddingsReply:
        """Read a reply in any of Google's three shapes. Raises ValueError."""
        reply = _decode(body)
        tokens = reply.usage_metadata.prompt_token_count if reply.usage_metadata is not None else 0
        if reply.predictions is not None:
            vectors = [one.embeddings.values for one in reply.predictions]
            counted = [one.embeddings.statistics for one in reply.predictions]
            tokens = tokens or sum(int(one.token_count) for one in counted if one is not None)
        elif reply.embeddings is not None:
            vectors = [one.values for one in reply.embeddings]
        elif reply.embedding is not None:
            vectors = [reply.embedding.values]
        else:
            raise ValueError("no embeddings")
        is_estimated = tokens <= 0
        tokens = estimate_prompt(self._body) if is_estimated else tokens
        usage = Usage(prompt_tokens=tokens, total_tokens=tokens, estimated=is_estimated)
        return EmbeddingsReply(vectors=vectors, usage=usage)

    def open_reader(self) -> Any:
        """Embeddings are not streamed."""
        raise ValueError("embeddings are not streamed")


def write_batch(request: EmbeddingsRequest, model: str) -> Json:
    """Write the body of `:batchEmbedContents`; `model` is the full name ("models/…")."""
    texts, task = _judge(request)
    settings: Json = {"taskType": task, "outputDimensionality": request.dimensions}
    settings = {name: value for name, value in settings.items() if value is not None}
    return {
        "requests": [{"model": model, "content": {"parts": [{"text": text}]}, **settings} for text in texts]
    }


def write_prediction(request: EmbeddingsRequest) -> Json:
    """Write the body of Vertex AI's `:predict`."""
    texts, task = _judge(request)
    body: Json = {"instances": [{"content": text, **({"task_type": task} if task else {})} for text in texts]}
    if request.dimensions is not None:
        body["parameters"] = {"outputDimensionality": request.dimensions}
    return body


def _judge(request: EmbeddingsRequest) -> tuple[list[str], str | None]:
    if request.tokens:
        raise InvalidRequest("input: Gemini takes texts, not tokens; send strings.", param="input")
    if len(request.texts) > _MOST:
        raise InvalidRequest(f"input: Gemini takes at most {_MOST} texts at once; send fewer.", param="input")
    task = None
    if request.purpose is not None:
        word = request.purpose
        task = word.upper() if word.upper() in _TASKS else _PURPOSES.get(word.lower())
        if task is None:
            request.drop("input_type")
    if request.user is not None:
        request.drop("user")
    for name in request.extra:
        request.drop(name)
    return request.texts, task
