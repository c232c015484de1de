"""Embeddings towards both of Google's doors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_gemini.embeddings import EmbeddingsSide

from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead

Make = Callable[..., Exchange]
OPTIONS = {"project": "p1", "location": "europe-west4"}


def test_ai_studio_takes_a_batch(make_exchange: Make, provider: Any, plain_embeddings: Any) -> None:
    """One request for each text, in order."""
    body = {"texts": ["a", "b"], "dimensions": 8, "purpose": "search_query", "user": "u"}
    exchange = make_exchange(body, face=plain_embeddings, model="gemini-embedding-001")
    outgoing = provider.build_request(exchange)
    assert outgoing.target == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    one = {"model": "models/gemini-embedding-001", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
    assert msgspec.json.decode(outgoing.body) == {
        "requests": [{**one, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    }
    assert exchange.hub_request.dropped == ["user"]


def test_vertex_takes_a_prediction(make_exchange: Make, provider: Any, plain_embeddings: Any) -> None:
    """Instances and parameters."""
    body = {"texts": ["a"], "dimensions": 8, "purpose": "CLUSTERING"}
    exchange = make_exchange(
        body,
        face=plain_embeddings,
        model="text-embedding-005",
        preset="vertex",
        options=OPTIONS,
        secret="ya29.x",
    )
    outgoing = provider.build_request(exchange)
    assert outgoing.target.endswith("/publishers/google/models/text-embedding-005:predict")
    assert msgspec.json.decode(outgoing.body) == {
        "instances": [{"content": "a", "task_type": "CLUSTERING"}],
        "parameters": {"outputDimensionality": 8},
    }


@pytest.mark.parametrize("body", [{"tokens": [[1, 2]]}, {"texts": ["x"] * 101}])
def test_what_google_does_not_take_is_refused(
    make_exchange: Make, provider: Any, plain_embeddings: Any, body: Any
) -> None:
    """Tokens, and more texts than fit."""
    with pytest.raises(InvalidRequest) as error:
        provider.build_request(make_exchange(body, face=plain_embeddings))
    assert error.value.param == "input"


def test_unknown_purposes_are_noted(make_exchange: Make, provider: Any, plain_embeddings: Any) -> None:
    """And left out."""
    exchange = make_exchange({"texts": ["x"], "purpose": "fun"}, face=plain_embeddings)
    assert b"taskType" not in provider.build_request(exchange).body
    assert exchange.hub_request.dropped == ["input_type"]


@pytest.mark.parametrize(
    ("reply", "vectors", "tokens", "estimated"),
    [
        ({"embeddings": [{"values": [1, 0.5]}, {"values": [2]}]}, [[1, 0.5], [2]], 4, True),
        ({"embedding": {"values": [1]}}, [[1]], 4, True),
        ({"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 7}}, [[1]], 7, False),
        (
            {
                "predictions": [
                    {"embeddings": {"values": [1], "statistics": {"token_count": 6, "truncated": False}}}
                ]
            },
            [[1]],
            6,
            False,
        ),
    ],
)
def test_replies_of_three_shapes(reply: Any, vectors: Any, tokens: int, estimated: bool) -> None:
    """One vector for each input; usage as reported, else estimated and marked."""
    found = EmbeddingsSide(b'{"input":"ab"}').read_reply(msgspec.json.encode(reply))
    assert found.vectors == vectors
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.estimated) == (tokens, estimated)


def test_what_is_no_reply_is_an_error() -> None:
    """Never an empty list of vectors."""
    with pytest.raises(ValueError, match="no embeddings"):
        EmbeddingsSide(b"").read_reply(b"{}")


def test_a_translated_reply_reaches_the_client(
    make_exchange: Make, provider: Any, plain_embeddings: Any
) -> None:
    """Through the core's stage, with its usage metered."""
    exchange = make_exchange({"texts": ["x"]}, face=plain_embeddings)
    provider.build_request(exchange)
    stage = provider.open_translator(exchange, ReplyHead(200, {"content-type": "application/json"}))
    stage.feed(b'{"embeddings":[{"values":[1.5]}]}')
    assert msgspec.json.decode(stage.close())["vectors"] == [[1.5]]
    assert stage.tap.close().usage.estimated
