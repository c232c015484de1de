"""Vectors come in the encoding that was asked for, whichever the vendor sends; other bytes stay."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse
from raven_openai.dialect import FACES
from raven_openai.presets import PRESETS
from raven_openai.vectors import CLIENT_SIDE, PROVIDER_SIDE, VENDOR

from raven_proxy import hub, testing
from raven_proxy.errors import InvalidRequest, UpstreamError
from raven_proxy.exchange import Exchange, ReplyHead, Usage

Make = Callable[..., Exchange]
JSON = ReplyHead(200, {"content-type": "application/json"})
PACKED = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
FLOATS = (
    b'{ "data": [{"object":"embedding","embedding": [0.5, -1.0],"index":0}],\n "usage":{"prompt_tokens":1} }'
)
BASE64 = FLOATS.replace(b"[0.5, -1.0]", b'"' + PACKED.encode() + b'"')
INT8 = FLOATS.replace(b"[0.5, -1.0]", b'"' + base64.b64encode(struct.pack("2b", 5, -128)) + b'"')


@pytest.mark.parametrize(
    ("preset", "asked", "theirs", "ours"),
    [
        ("ollama", "base64", FLOATS, BASE64),
        ("ollama", "base64", BASE64, BASE64),
        ("ollama", "float", FLOATS, FLOATS),
        ("ollama", None, FLOATS, FLOATS),
        ("openai", "base64", BASE64, BASE64),
        ("perplexity", "float", INT8, FLOATS.replace(b"[0.5, -1.0]", b"[5.0,-128.0]")),
        ("perplexity", "base64", INT8,
         BASE64.replace(PACKED.encode(), base64.b64encode(struct.pack("<2f", 5, -128)))),
        ("ollama", "base64", b"no JSON", b"no JSON"),
        ("ollama", "base64", b'{"embedding":["x"]}', b'{"embedding":["x"]}'),
        ("perplexity", "float", b'{"embedding":"A"}', b'{"embedding":"A"}'),
    ],
)  # fmt: skip
def test_the_client_gets_the_encoding_it_asked_for(
    make_exchange: Make, provider: Any, preset: str, asked: str | None, theirs: bytes, ours: bytes
) -> None:
    """Node's client takes whatever comes for base64, so floats are packed; int8 is put right."""
    body = msgspec.json.encode({"model": "m", "input": "x"} | ({"encoding_format": asked} if asked else {}))
    exchange = make_exchange(body, face=FACES[2], preset=preset)
    provider.build_request(exchange)
    if provider.open_translator(exchange, JSON) is None:
        assert theirs is ours
        return
    assert testing.run_stage(lambda: provider.open_translator(exchange, JSON), theirs) == ours


def test_a_vendor_that_refuses_the_format_is_not_told_it(make_exchange: Make, provider: Any) -> None:
    body = b'{"model":"m","input":"x","encoding_format":"base64","dimensions":2}'
    sent = provider.build_request(make_exchange(body, face=FACES[2], preset="perplexity")).body
    assert sent == b'{"model":"m","input":"x","dimensions":2}'
    assert provider.build_request(make_exchange(body, face=FACES[2], preset="openai")).body is body
    sent = provider.build_request(make_exchange(body, face=FACES[2], preset="mistral")).body
    assert msgspec.json.decode(sent)["output_dimension"] == 2


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [("a", ["a"], []), (["a", "b"], ["a", "b"], []), ([1, 2], [], [[1, 2]]), ([[1], [2]], [], [[1], [2]])],
)
def test_a_request_is_read(make_exchange: Make, given: Any, texts: Any, tokens: Any) -> None:
    body = {"model": "m", "input": given, "dimensions": 3, "encoding_format": "base64", "x": 1}
    request = CLIENT_SIDE.read_request(make_exchange(msgspec.json.encode(body), face=FACES[2], model="n"))
    assert (request.model, request.texts, request.tokens) == ("n", texts, tokens)
    assert (request.dimensions, request.encoding, request.dropped) == (3, "base64", ["x"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [[1.5]]}, "input[0]"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_bad_request_says_where(make_exchange: Make, fields: Any, param: str) -> None:
    exchange = make_exchange(msgspec.json.encode({"model": "m", **fields}), face=FACES[2])
    with pytest.raises(InvalidRequest) as caught:
        CLIENT_SIDE.read_request(exchange)
    assert caught.value.param == param


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_reply_is_written_as_it_was_asked_for(make_exchange: Make, encoding: str) -> None:
    """The official type takes it; vectors of another vendor become what OpenAI would have sent."""
    body = {"model": "m", "input": ["a", "b"], "encoding_format": encoding}
    exchange = make_exchange(msgspec.json.encode(body), face=FACES[2])
    exchange.hub_request = CLIENT_SIDE.read_request(exchange)
    reply = hub.EmbeddingsReply(vectors=[[0.5, -1.0], [1, 2]], usage=Usage(prompt_tokens=3))
    document = msgspec.json.decode(CLIENT_SIDE.write_reply(reply, exchange))
    assert [item["index"] for item in document["data"]] == [0, 1]
    assert document["data"][0]["embedding"] == (PACKED if encoding == "base64" else [0.5, -1.0])
    assert document["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    if encoding == "float":
        CreateEmbeddingResponse.model_validate(document)


def test_another_dialects_request_is_written(make_exchange: Make) -> None:
    """A vendor gets what it knows, under its own names."""
    request = hub.EmbeddingsRequest(model="m", texts=["a"], dimensions=4, purpose="query", user="u")
    exchange = make_exchange(b'{"model":"m","input":"x"}', face=FACES[2])
    body = msgspec.json.decode(VENDOR.write_request(request, exchange, PRESETS["openai"]))
    assert body == {"model": "m", "input": ["a"], "dimensions": 4, "encoding_format": "float", "user": "u"}
    assert request.dropped == ["input_type"]
    body = msgspec.json.decode(VENDOR.write_request(request, exchange, PRESETS["voyage"]))
    assert (body["input_type"], body["output_dimension"]) == ("query", 4)


def test_every_recorded_reply_is_read(recordings: list[Any]) -> None:
    """Vectors and usage, packed or not, in the order of the inputs."""
    found = 0
    for recording in recordings:
        if recording.surface != "openai.embeddings" or recording.response["status"] >= 400:
            continue
        reply = PROVIDER_SIDE.read_reply(recording.body())
        document = msgspec.json.decode(recording.body())
        assert len(reply.vectors) == len(document["data"]), recording.id
        first = document["data"][0]["embedding"]
        if isinstance(first, list):
            assert reply.vectors[0] == first
        elif recording.provider != "perplexity":
            assert abs(sum(x * x for x in reply.vectors[0]) - 1) < 0.01, recording.id
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == document["usage"]["prompt_tokens"], recording.id
        found += 1
    assert found >= 5


def test_an_error_under_a_200_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="gone"):
        PROVIDER_SIDE.read_reply(b'{"error":{"message":"gone"}}')
