"""Rankings of vendors that are not Cohere, for clients that speak Cohere's dialect."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai.presets import Preset
from raven_openai.rerank import OPERATIONS, Rankings, find_raw_face

from raven_proxy import errors
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Candidate, Exchange, ReplyHead
from raven_proxy.faces import Call, Dialect, Face
from raven_proxy.hub import RerankReply, RerankRequest
from raven_proxy.refusals import refuse
from raven_proxy.splice import scan

(OPERATION,) = OPERATIONS
PRESET = Preset()
HEAD = ReplyHead(200, {"content-type": "application/json"})
Make = Callable[..., Exchange]


class Client:
    """A client's half in the hub's own shape: the operation needs no other."""

    def read_request(self, exchange: Exchange) -> RerankRequest:
        return RerankRequest(model="m", query="q", documents=["a"])

    def write_reply(self, reply: RerankReply, exchange: Exchange) -> bytes:
        return msgspec.json.encode(reply)

    def open_writer(self, exchange: Exchange) -> Any:
        raise AssertionError


def read_call(body: bytes) -> Call:
    members = scan(body)
    start, end = members["model"]
    return Call(msgspec.json.decode(body[start:end], type=str), members=members)


FACE = Face(
    name="rerank",
    path="/v1/rerank",
    dialect=Dialect("cohere.rerank", errors.envelope, client_side=Client()),
    endpoint="rerank",
    read_call=read_call,
)


@pytest.fixture
def make_exchange() -> Make:
    def make(
        body: bytes, *, preset: str, model: str | None = None, headers: dict[str, str] | None = None
    ) -> Exchange:
        request: Any = SimpleNamespace(method="POST", raw_path="/v1/rerank")
        pipeline: Any = None
        exchange = Exchange(request, pipeline, "req_test")
        exchange.face, exchange.headers, exchange.body = FACE, headers or {}, body
        exchange.call = FACE.read_call(body)
        upstream: Any = SimpleNamespace(preset=preset, base_path="/v1", name="main", options={})
        exchange.candidate = Candidate(upstream, model or exchange.call.model)
        return exchange

    return make


def build(make: Make, body: bytes, preset: str, **fields: Any) -> Any:
    exchange = make(body, preset=preset, **fields)
    return OPERATION.build(exchange, PRESET, {})


def recorded(provider: str) -> Any:
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default)) / provider
    found = [msgspec.json.decode(path.read_bytes()) for path in folder.glob("rerank-*.json")]
    if not found and not os.environ.get("CI"):
        pytest.skip("no recordings; set RAVEN_RECORDED")
    return found[0]


def test_voyage_gets_its_own_names_and_every_other_byte(make_exchange: Make) -> None:
    body = b'{"model":"mine","query":"q", "documents":["a"],"top_n":2,"truncation":true,"priority":null}'
    sent = build(make_exchange, body, "voyage", model="rerank-2-lite")
    assert sent.target == "/v1/rerank"
    assert (
        sent.body == b'{"model":"rerank-2-lite","query":"q", "documents":["a"],"truncation":true,"top_k":2}'
    )


def test_usual_vendors_get_the_clients_bytes(make_exchange: Make) -> None:
    body = b'{"model":"m", "query":"q","documents":["a"],"top_n":2,"x":[1.0]}'
    for preset in ("openrouter", "together", "vllm", "llamacpp", "openai_compatible"):
        assert build(make_exchange, body, preset).body == body


def test_documents_become_texts_where_only_texts_are_taken(make_exchange: Make) -> None:
    body = b'{"model":"m","query":"q","documents":["a",{"text":"b","n":1}]}'
    assert msgspec.json.decode(build(make_exchange, body, "llamacpp").body)["documents"] == ["a", "b"]
    with pytest.raises(InvalidRequest) as caught:
        build(make_exchange, b'{"model":"m","query":"q","documents":[{"title":"b"}]}', "voyage")
    assert caught.value.param == "documents"


def test_what_a_vendor_lacks_is_dropped_or_refused(make_exchange: Make) -> None:
    body = b'{"model":"m","query":"q","documents":["a"],"max_tokens_per_doc":9}'
    assert b"max_tokens" not in build(make_exchange, body, "voyage").body
    with pytest.raises(InvalidRequest) as caught:
        build(make_exchange, body, "voyage", headers={"x-raven-strict": "true"})
    assert caught.value.param == "max_tokens_per_doc"


def test_vendors_that_do_not_rerank_say_so(make_exchange: Make) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(make_exchange, b'{"model":"m","query":"q","documents":["a"]}', "openai")
    assert caught.value.param == "model"


def test_voyages_recorded_reply_becomes_the_clients(make_exchange: Make) -> None:
    recording = recorded("voyage")
    document = msgspec.json.decode(recording["response"]["body"])
    body = msgspec.json.encode(recording["request"]["body"])
    exchange = make_exchange(body, preset="voyage")
    stage = OPERATION.open_stage(exchange, HEAD, PRESET)
    assert stage is not None
    out = stage.feed(recording["response"]["body"].encode()) + stage.close()
    reply = msgspec.json.decode(out, type=RerankReply)
    assert [(r.index, r.score) for r in reply.results] == [
        (r["index"], r["relevance_score"]) for r in document["data"]
    ]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (43, 43)


def test_openrouters_recorded_reply_passes_and_is_metered(make_exchange: Make) -> None:
    recording = recorded("openrouter")
    exchange = make_exchange(msgspec.json.encode(recording["request"]["body"]), preset="openrouter")
    assert OPERATION.open_stage(exchange, HEAD, PRESET) is None
    tap = OPERATION.open_tap(exchange, HEAD, PRESET)
    assert tap is not None
    tap.feed(recording["response"]["body"].encode())
    tally = tap.close()
    assert tally.complete
    assert tally.usage is not None
    assert (tally.usage.total_tokens, tally.usage.estimated) == (17, False)


def test_llamacpps_recorded_refusal_keeps_its_words() -> None:
    error = refuse("main", ReplyHead(501, {}), recorded("llamacpp")["response"]["body"].encode())
    assert error.status == 501
    assert "does not support reranking" in error.message


@pytest.mark.parametrize(
    "body",
    [
        b'[{"index":0,"score":0.1},{"index":1,"score":0.9,"text":"b"}]',
        b'{"results":[{"index":1,"relevance_score":0.9,"document":"b"},{"index":0,"relevance_score":0.1}]}',
        b'{"data":[{"index":0,"relevance_score":0.1},{"index":1,"relevance_score":0.9,"document":"b"}]}',
    ],
)
def test_every_shape_is_read_and_the_best_is_first(body: bytes) -> None:
    reply = Rankings().read_reply(body)
    assert [(r.index, r.score, r.document) for r in reply.results] == [(1, 0.9, "b"), (0, 0.1, None)]


@pytest.mark.parametrize("body", [b"{}", b'{"results":[{"index":0}]}', b"no", b'{"error":"x"}'])
def test_what_is_no_ranking_is_an_error(body: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        Rankings().read_reply(body)


def test_raw_rankings_are_known() -> None:
    face = find_raw_face("POST", "rerank")
    assert face is not None
    assert (face.raw, face.scope, face.dialect.name) == (True, "embeddings:write", "cohere.rerank")
    assert face.read_call(b'{"query":"q"}').model is None
    with pytest.raises(InvalidRequest):
        face.read_call(b'{"model":7}')
    assert find_raw_face("POST", "chat/completions") is None
