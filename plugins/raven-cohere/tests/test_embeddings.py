"""Embeddings: Cohere's request of the hub's, and its vectors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raven_cohere.embeddings import Embeddings, Metered, write_embeddings

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import EmbeddingsRequest


def ask(**fields: Any) -> EmbeddingsRequest:
    return EmbeddingsRequest(**{"model": "embed-v4.0", "texts": ["a", "b"]} | fields)


def write(request: EmbeddingsRequest) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(write_embeddings(request))
    return found


def test_the_least_request() -> None:
    assert write(ask()) == {
        "model": "embed-v4.0", "texts": ["a", "b"], "input_type": "search_document",
        "embedding_types": ["float"],
    }  # fmt: skip


def test_every_field_is_one_of_coheres() -> None:
    import inspect

    from cohere.v2.client import V2Client

    request = ask(
        dimensions=256, extra={"truncate": "END", "input_type": "search_query", "x": 1}, user="u",
        dropped=["input_type", "truncate", "x"],
    )  # fmt: skip
    body = write(request)
    assert set(body) <= set(inspect.signature(V2Client.embed).parameters)
    assert (body["output_dimension"], body["truncate"], body["input_type"]) == (256, "END", "search_query")
    assert request.dropped == ["x", "user"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("search_query", "search_query"),
        ("classification", "classification"),
        ("RETRIEVAL_QUERY", "search_query"),
        ("document", "search_document"),
        ("retrieval.passage", "search_document"),
    ],
)
def test_a_purpose_in_anybodys_words(said: str, expected: str) -> None:
    assert write(ask(purpose=said))["input_type"] == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"texts": ["a"] * 97}, "input"),
        ({"texts": [], "tokens": [[1]]}, "input"),
        ({"purpose": "fun"}, "input_type"),
        ({"extra": {"input_type": 1}}, "input_type"),
    ],
)
def test_what_cohere_cannot_take_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write_embeddings(ask(**fields))
    assert caught.value.param == param


def test_ninety_six_texts_are_not_too_many() -> None:
    assert len(write(ask(texts=["a"] * 96))["texts"]) == 96


def test_recorded_vectors_are_read(recordings: list[Any]) -> None:
    found = [r for r in recordings if r.surface == "cohere.embeddings"]
    assert found
    for recording in found:
        document = msgspec.json.decode(recording.body())
        reply = Embeddings().read_reply(recording.body())
        assert reply.vectors == document["embeddings"]["float"]
        assert reply.usage is not None
        tokens = document["meta"]["billed_units"]["input_tokens"]
        assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (tokens, tokens)
        assert Metered().read_reply(recording.body()).usage == reply.usage


def test_other_kinds_of_vectors_are_metered_too() -> None:
    body = b'{"embeddings":{"int8":[[1]]},"meta":{"billed_units":{"input_tokens":3}}}'
    usage = Metered().read_reply(body).usage
    assert usage is not None
    assert usage.prompt_tokens == 3
    with pytest.raises(msgspec.ValidationError):
        Embeddings().read_reply(body)
