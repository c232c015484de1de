"""Embeddings by Titan and Cohere: what is asked and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_bedrock.embeddings import EmbeddingsSide, write_embeddings
from raven_bedrock.models import read_model

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.metering import UNREADABLE

from .conftest import Recording, make_face

TITAN = "amazon.titan-embed-text-v2:0"
COHERE = "us.cohere.embed-v4:0"


def write(model: str, *texts: str, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    request = hub.EmbeddingsRequest(model=model, texts=list(texts), **fields)
    return msgspec.json.decode(write_embeddings(request, read_model(model))), request.dropped


@pytest.mark.parametrize(
    ("model", "fields", "body", "dropped"),
    [
        (TITAN, {"dimensions": 256}, {"inputText": "a", "dimensions": 256}, []),
        (TITAN, {"purpose": "query", "user": "u"}, {"inputText": "a"}, ["user", "input_type"]),
        ("amazon.titan-embed-text-v1", {"dimensions": 256}, {"inputText": "a"}, ["dimensions"]),
        ("amazon.titan-embed-image-v1", {"dimensions": 256},
         {"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 256}}, []),
        (COHERE, {"dimensions": 256, "purpose": "RETRIEVAL_QUERY"},
         {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"],
          "output_dimension": 256}, []),
        ("cohere.embed-english-v3", {"dimensions": 256, "extra": {"x": 1}},
         {"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]},
         ["x", "dimensions"]),
    ],
)  # fmt: skip
def test_each_model_is_asked_in_its_own_words(
    model: str, fields: dict[str, Any], body: dict[str, Any], dropped: list[str]
) -> None:
    assert write(model, "a", **fields) == (body, dropped)


@pytest.mark.parametrize(
    ("model", "texts", "fields", "words"),
    [
        (TITAN, ["a", "b"], {}, "send 2 requests"),
        (TITAN, [], {"tokens": [[1]]}, "not token ids"),
        (COHERE, ["a"] * 97, {}, "at most 96"),
        (COHERE, ["a"], {"purpose": "dance"}, "search_query"),
        ("anthropic.claude-v2", ["a"], {}, "Titan or Cohere"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_remedy(
    model: str, texts: list[str], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        write(model, *texts, **fields)


def test_vectors_and_tokens_come_back() -> None:
    titan = EmbeddingsSide(TITAN, {}).read_reply(b'{"embedding":[1,2.5],"inputTextTokenCount":4}')
    assert (titan.vectors, titan.model) == ([[1.0, 2.5]], TITAN)
    assert titan.usage is not None
    assert (titan.usage.prompt_tokens, titan.usage.total_tokens) == (4, 4)
    for body in (b'{"embeddings":[[1],[2]]}', b'{"embeddings":{"float":[[1],[2]]}}'):
        assert EmbeddingsSide(COHERE, {}).read_reply(body).vectors == [[1.0], [2.0]]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b'{"embeddings":{"int8":[[1]]}}', b'{"embedding":"x"}'])
def test_what_is_no_embedding_is_an_error(body: bytes) -> None:
    with pytest.raises(UNREADABLE):
        EmbeddingsSide(TITAN, {}).read_reply(body)


def test_the_recorded_reply(recordings: list[Recording]) -> None:
    (recording,) = [one for one in recordings if "embed" in one.id]
    assert recording.model is not None
    reply = EmbeddingsSide(recording.model, recording.response["headers"]).read_reply(recording.body())
    assert reply.vectors == msgspec.json.decode(recording.body())["embeddings"]["float"]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 7
    body, _ = write(recording.model, *recording.request["body"]["texts"])
    assert {**recording.request["body"], "embedding_types": ["float"]} == body


def test_the_face_of_embeddings_goes_to_invoke(make_exchange: Callable[..., Exchange], provider: Any) -> None:
    request = hub.EmbeddingsRequest(model=TITAN, texts=["a"])
    exchange = make_exchange(
        model=TITAN, face=make_face(request, name="openai.embeddings", endpoint="embeddings")
    )
    outgoing = provider.build_request(exchange)
    assert (outgoing.target, outgoing.body) == (
        f"/model/{TITAN.replace(':', '%3A')}/invoke",
        b'{"inputText":"a"}',
    )
    stage = provider.open_translator(exchange, ReplyHead(200, {"content-type": "application/json"}))
    out = stage.feed(b'{"embedding":[1],"inputTextTokenCount":4}') + stage.close()
    assert msgspec.json.decode(out)["vectors"] == [[1.0]]
    assert stage.tap.close().usage.prompt_tokens == 4
