"""The provider: what is sent where, images by link, raw paths, errors, options."""

from __future__ import annotations

import base64
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_ollama.dialect import find_raw_face, render_error, render_stream_error
from raven_ollama.provider import OllamaProvider

from raven_proxy import hub
from raven_proxy.errors import ConfigError, InvalidRequest
from raven_proxy.exchange import Credential, ReplyHead
from raven_proxy.mock import MockUpstream, ScriptedReply

PROVIDER = OllamaProvider()
Make = Callable[..., Any]
FETCHING = {"fetch_images": True, "fetch_private": True}
PNG = b"\x89PNG\r\n\x1a\n..."


def show(url: str) -> hub.ChatRequest:
    image = hub.Image(media=hub.Media(url=url))
    return hub.ChatRequest(model="x", messages=[hub.Message(role="user", parts=[image])])


def test_a_chat_goes_to_its_endpoint_with_a_key_if_there_is_one(make_exchange: Make) -> None:
    request = hub.ChatRequest(model="x", messages=[])
    exchange = make_exchange(request)
    outgoing = PROVIDER.build_request(exchange)
    assert (outgoing.target, msgspec.json.decode(outgoing.body)["model"]) == ("/api/chat", "llama3.2")
    assert outgoing.headers["authorization"].startswith("Bearer ol-")
    exchange.credential = None
    assert "authorization" not in PROVIDER.build_request(exchange).headers


def test_embeddings_go_to_theirs(make_exchange: Make) -> None:
    exchange = make_exchange(hub.EmbeddingsRequest(model="x", texts=["a"]))
    assert PROVIDER.build_request(exchange).target == "/api/embed"
    stage = PROVIDER.open_translator(exchange, ReplyHead(200, {"content-type": "application/json"}))
    assert stage is not None
    out = stage.feed(b'{"embeddings":[[0.5]],"prompt_eval_count":1}') + stage.close()
    assert msgspec.json.decode(out)["vectors"] == [[0.5]]


async def test_images_by_link_are_fetched_where_it_is_allowed(
    make_exchange: Make, upstream: MockUpstream
) -> None:
    upstream.script(ScriptedReply(headers={"Content-Type": "image/png"}, chunks=[PNG]))
    exchange = make_exchange(show(f"{upstream.origin}/a.png"), options=FETCHING)
    await PROVIDER.prepare(exchange)
    sent = msgspec.json.decode(PROVIDER.build_request(exchange).body)
    assert base64.b64decode(sent["messages"][0]["images"][0]) == PNG


async def test_images_by_link_are_refused_otherwise(make_exchange: Make, upstream: MockUpstream) -> None:
    exchange = make_exchange(show(f"{upstream.origin}/a.png"))
    await PROVIDER.prepare(exchange)
    with pytest.raises(InvalidRequest, match="fetch_images"):
        PROVIDER.build_request(exchange)
    assert upstream.seen == []


async def test_private_addresses_are_not_fetched(make_exchange: Make, upstream: MockUpstream) -> None:
    exchange = make_exchange(show(f"{upstream.origin}/a.png"), options={"fetch_images": True})
    with pytest.raises(Exception, match="no public address"):
        await PROVIDER.prepare(exchange)
    assert upstream.seen == []


async def test_what_is_no_image_is_refused(make_exchange: Make, upstream: MockUpstream) -> None:
    upstream.script(ScriptedReply(headers={"Content-Type": "text/html"}, chunks=[b"<p>"]))
    exchange = make_exchange(show(f"{upstream.origin}/a.png"), options=FETCHING)
    with pytest.raises(InvalidRequest, match="is no image"):
        await PROVIDER.prepare(exchange)
    many = hub.ChatRequest(model="x", messages=show("http://a.test/").messages * 17)
    with pytest.raises(InvalidRequest, match="at most 16"):
        await PROVIDER.prepare(make_exchange(many, options=FETCHING))


def test_options_are_judged_at_the_start() -> None:
    PROVIDER.check_options("ollama_native", FETCHING)
    with pytest.raises(ConfigError, match="fetch_images"):
        PROVIDER.check_options("ollama_native", {"fetch_image": True})


@pytest.mark.parametrize("endpoint", ["api/chat", "api/generate", "api/embed", "api/embeddings"])
def test_raw_paths_pass_untouched(endpoint: str, make_exchange: Make) -> None:
    face = find_raw_face("POST", endpoint)
    assert face is not None
    assert face.scope == ("embeddings:write" if "embed" in endpoint else "chat:write")
    body = b' {"model":"m", "options":{"num_predict":-1}}\n'
    exchange = make_exchange(
        body=body, face=face, endpoint=endpoint, path=f"/v1/ollama_native/{endpoint}?a=b"
    )
    assert exchange.stream is ("embed" not in endpoint)  # Ollama streams unless it is told not to
    outgoing = PROVIDER.build_request(exchange)
    assert (outgoing.target, outgoing.body) == (f"/{endpoint}?a=b", body)
    head = ReplyHead(200, {"content-type": "application/json"})
    assert PROVIDER.open_translator(exchange, head) is None
    assert PROVIDER.open_usage_tap(exchange, head) is not None


def test_other_endpoints_are_not_judged() -> None:
    assert find_raw_face("GET", "api/tags") is None
    assert find_raw_face("POST", "api/new") is None


@pytest.mark.parametrize("endpoint", ["api/pull", "API/Delete", "api/blobs/sha256:1"])
def test_what_changes_the_machines_models_is_an_administrators(endpoint: str) -> None:
    """Whatever the method and the spelling."""
    faces = [find_raw_face(method, endpoint) for method in ("GET", "POST", "DELETE")]
    assert {face.scope for face in faces if face is not None} == {"admin:write"}
    assert None not in faces


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"model":1}', b'{"model":"m","stream":1}', b'{"model":"m","options":[]}']
)
def test_bad_raw_chats_are_400s(body: bytes) -> None:
    face = find_raw_face("POST", "api/chat")
    assert face is not None
    with pytest.raises(InvalidRequest):
        face.read_call(body)


def test_raw_replies_are_metered_as_recorded(recordings: list[Any], make_exchange: Make) -> None:
    for recording in recordings:
        if recording.response["status"] >= 400:
            continue
        face = find_raw_face("POST", "/".join(recording.request["url"].split("/")[3:]))
        exchange = make_exchange(body=msgspec.json.encode(recording.request["body"]), face=face)
        assert exchange.stream is recording.streaming, recording.id
        kind = recording.response["headers"].get("content-type", "application/json")
        tap = PROVIDER.open_usage_tap(exchange, ReplyHead(200, {"content-type": kind}))
        assert tap is not None
        tap.feed(recording.body())
        tally = tap.close()
        last = msgspec.json.decode(recording.body().splitlines()[-1])
        assert tally.complete
        assert tally.usage is not None
        assert (tally.usage.completion_tokens, tally.usage.estimated) == (last["eval_count"], False)
        assert tally.finish_reason == last["done_reason"]


def test_a_model_that_was_not_pulled_is_a_404_that_says_so(
    recordings: list[Any], make_exchange: Make
) -> None:
    (recording,) = [r for r in recordings if r.response["status"] == 404]
    error = PROVIDER.read_refusal(make_exchange(), ReplyHead(404, {}), recording.body())
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message == "model 'nonexistent-model:latest' not found"


def test_the_gateways_errors_have_ollamas_shape() -> None:
    error = InvalidRequest("No.", param="model")
    whole = msgspec.json.decode(render_error(error, "req_1"))
    assert (whole["error"], whole["code"], whole["param"]) == ("No.", "bad_request", "model")
    assert render_stream_error(error, "req_1").endswith(b"}\n")


def test_what_was_pulled_is_listed() -> None:
    upstream: Any = SimpleNamespace(base_path="", credential=Credential("k"), preset="ollama_native")
    outgoing = PROVIDER.build_listing(upstream, None)
    assert outgoing is not None
    assert (outgoing.target, outgoing.headers) == ("/api/tags", {"authorization": "Bearer k"})
    found, page = PROVIDER.read_listing(upstream, b'{"models":[{"name":"llama3.2:latest","size":1}]}')
    assert ([model.id for model in found], page) == (["llama3.2:latest"], None)
