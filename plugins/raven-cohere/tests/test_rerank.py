"""Rankings: what clients of `/v1/rerank` send and get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_cohere.calls import read_rerank
from raven_cohere.dialect import FACES, RERANK

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Usage

ASK = {"model": "rerank-v3.5", "query": "q", "documents": ["a", {"text": "b", "n": 1}, "c"]}


def encode(**fields: Any) -> bytes:
    return msgspec.json.encode(ASK | fields)


def test_recorded_requests_are_accepted_and_replies_read(recordings: list[Any]) -> None:
    found = [r for r in recordings if r.surface == "rerank"]
    assert len(found) >= 4
    for recording in found:
        body = recording.request["body"]
        assert read_rerank(msgspec.json.encode(body)).model == body["model"]
        if recording.provider == "cohere":
            document = msgspec.json.decode(recording.body())
            reply = RERANK.provider_side.read_reply(recording.body())
            assert [(r.index, r.score) for r in reply.results] == [
                (r["index"], r["relevance_score"]) for r in document["results"]
            ]
            assert (reply.id, reply.search_units, reply.usage) == (document["id"], 1, None)


def test_a_request_is_read_into_the_hub(make_exchange: Callable[..., Any]) -> None:
    body = encode(top_n=2, return_documents=True, max_tokens_per_doc=9, priority=None)
    exchange = make_exchange(body=body, face=FACES[0], model="theirs")
    assert RERANK.client_side.read_request(exchange) == hub.RerankRequest(
        model="theirs", query="q", documents=ASK["documents"], top_n=2, return_documents=True,
        extra={"max_tokens_per_doc": 9},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 1}, "model"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
        ({"model": "a\n"}, "model"),
    ],
)
def test_bad_requests_are_400s_that_say_where(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_rerank(encode(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m","query":"q"}', b'{"a":' * 5000])
def test_no_body_is_a_500(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_rerank(body)


def test_a_reply_has_the_shape_that_cohere_and_jina_share(make_exchange: Callable[..., Any]) -> None:
    from cohere.v2.types import V2RerankResponse

    exchange = make_exchange(body=encode(top_n=2, return_documents=True), face=FACES[0])
    exchange.hub_request = RERANK.client_side.read_request(exchange)
    reply = hub.RerankReply(
        model="m",
        results=[
            hub.Ranked(index=2, score=0.9, document="c"),
            hub.Ranked(index=1, score=0.5),
            hub.Ranked(index=0, score=0.1),
        ],
        usage=Usage(prompt_tokens=7, total_tokens=7),
        search_units=1,
    )
    body = RERANK.client_side.write_reply(reply, exchange)
    document = msgspec.json.decode(body)
    assert document == {
        "id": "req_test",
        "model": "m",
        "results": [
            {"index": 2, "relevance_score": 0.9, "document": {"text": "c"}},
            {"index": 1, "relevance_score": 0.5, "document": {"text": "b", "n": 1}},
        ],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    parsed = V2RerankResponse.model_validate(document)
    assert [r.index for r in parsed.results] == [2, 1]


def test_documents_that_nobody_asked_for_stay_away(make_exchange: Callable[..., Any]) -> None:
    exchange = make_exchange(body=encode(), face=FACES[0])
    reply = hub.RerankReply(results=[hub.Ranked(index=0, score=0.9)])
    document = msgspec.json.decode(RERANK.client_side.write_reply(reply, exchange))
    assert document["results"] == [{"index": 0, "relevance_score": 0.9}]
