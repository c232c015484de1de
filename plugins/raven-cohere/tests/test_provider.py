"""The provider: what is sent where, what passes untouched, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_cohere.dialect import FACES, find_raw_face, render_error, render_stream_error
from raven_cohere.provider import CohereProvider

from raven_proxy import hub
from raven_proxy.errors import ConfigError, InvalidRequest, RateLimited
from raven_proxy.exchange import ReplyHead

SECRET = "co-NeverShowThis0123456789"
PROVIDER = CohereProvider()
Make = Callable[..., Any]


def ask(**fields: Any) -> hub.ChatRequest:
    return hub.ChatRequest(
        model="x", messages=[hub.Message(role="user", parts=[hub.Text(text="Hi")])], **fields
    )


def test_a_chat_goes_to_v2_with_the_key(make_exchange: Make) -> None:
    outgoing = PROVIDER.build_request(make_exchange(ask(), headers={"authorization": "Bearer rk_test_x"}))
    assert (outgoing.method, outgoing.target) == ("POST", "/v2/chat")
    assert outgoing.headers["authorization"] == f"Bearer {SECRET}"
    assert msgspec.json.decode(outgoing.body)["model"] == "command-a-03-2025"


def test_embeddings_go_to_v2(make_exchange: Make) -> None:
    request = hub.EmbeddingsRequest(model="x", texts=["a"])
    exchange = make_exchange(request, model="embed-v4.0")
    assert PROVIDER.build_request(exchange).target == "/v2/embed"
    body = b'{"embeddings":{"float":[[0.5]]},"meta":{"billed_units":{"input_tokens":3}}}'
    stage = PROVIDER.open_translator(exchange, ReplyHead(200, {"content-type": "application/json"}))
    assert stage is not None
    assert msgspec.json.decode(stage.feed(body) + stage.close())["vectors"] == [[0.5]]


def test_strict_clients_learn_what_would_be_dropped(make_exchange: Make) -> None:
    exchange = make_exchange(ask(logit_bias={"1": 2}), headers={"x-raven-strict": "true"})
    with pytest.raises(InvalidRequest, match="logit_bias"):
        PROVIDER.build_request(exchange)


def test_a_ranking_is_sent_byte_for_byte_but_for_an_alias(make_exchange: Make) -> None:
    body = b'{ "model":"mine", "query":"q","documents":["a"],  "new_field":[1.0] }'
    same = PROVIDER.build_request(make_exchange(body=body, face=FACES[0], model="mine"))
    assert (same.target, same.body) == ("/v2/rerank", body)
    other = PROVIDER.build_request(make_exchange(body=body, face=FACES[0], model="rerank-v3.5"))
    assert other.body == body.replace(b'"mine"', b'"rerank-v3.5"')
    assert PROVIDER.open_translator(make_exchange(body=body, face=FACES[0]), ReplyHead(200, {})) is None


@pytest.mark.parametrize("endpoint", ["v2/chat", "v1/chat", "v2/embed", "v1/embed", "v2/rerank", "v1/rerank"])
def test_raw_paths_pass_untouched(endpoint: str, make_exchange: Make) -> None:
    face = find_raw_face("POST", endpoint)
    assert face is not None
    assert face.scope == ("chat:write" if endpoint.endswith("chat") else "embeddings:write")
    body = b' {"model":"m","query":"q", "documents":["a"],"messages":[],"texts":["a"]}\n'
    exchange = make_exchange(body=body, face=face, endpoint=endpoint, path=f"/v1/cohere/{endpoint}?a=b")
    outgoing = PROVIDER.build_request(exchange)
    assert (outgoing.target, outgoing.body) == (f"/{endpoint}?a=b", body)
    head = ReplyHead(200, {"content-type": "application/json"})
    assert PROVIDER.open_translator(exchange, head) is None
    assert PROVIDER.open_usage_tap(exchange, head) is not None


def test_other_endpoints_are_not_judged() -> None:
    assert find_raw_face("POST", "v1/tokenize") is None
    assert find_raw_face("GET", "v2/chat") is None


@pytest.mark.parametrize(
    "body", [b"[]", b'{"model":1}', b'{"model":"m","stream":"yes"}', b'{"model":"m","max_tokens":-1}']
)
def test_bad_raw_chats_are_400s(body: bytes) -> None:
    face = find_raw_face("POST", "v2/chat")
    assert face is not None
    with pytest.raises(InvalidRequest):
        face.read_call(body)


def test_raw_replies_are_metered_as_recorded(recordings: list[Any], make_exchange: Make) -> None:
    metered = 0
    for recording in recordings:
        if recording.provider != "cohere" or recording.response["status"] >= 400:
            continue
        endpoint = (
            recording.request["url"].partition(".com/")[2] or recording.request["url"].partition(".ai/")[2]
        )
        face = find_raw_face("POST", endpoint)
        exchange = make_exchange(body=msgspec.json.encode(recording.request["body"]), face=face)
        kind = recording.response["headers"].get("content-type", "application/json")
        tap = PROVIDER.open_usage_tap(exchange, ReplyHead(200, {"content-type": kind}))
        assert tap is not None
        body = recording.body()
        for start in range(0, len(body), 1000):
            tap.feed(body[start : start + 1000])
        tally = tap.close()
        assert tally.complete, recording.id
        assert tally.error is None
        if recording.surface == "cohere.chat":
            assert tally.finish_reason in {"stop", "tool_calls"}, recording.id
        if not recording.is_older and recording.surface != "rerank":
            assert tally.usage is not None
            assert not tally.usage.estimated, recording.id
            metered += 1
    assert metered >= 7


def test_a_model_that_was_removed_is_a_404_that_says_so(recordings: list[Any], make_exchange: Make) -> None:
    (recording,) = [r for r in recordings if r.response["status"] == 404]
    error = PROVIDER.read_refusal(make_exchange(), ReplyHead(404, {}), recording.body())
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "was removed" in error.message


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        (400, 400, False),
        (401, 502, True),
        (422, 422, False),
        (429, 429, True),
        (498, 400, False),
        (503, 503, True),
    ],
)
def test_errors_keep_their_status(status: int, expected: int, retryable: bool, make_exchange: Make) -> None:
    body = msgspec.json.encode({"id": "x", "message": f"invalid api token: {SECRET}"})
    error = PROVIDER.read_refusal(make_exchange(), ReplyHead(status, {}), body)
    assert (error.status, error.retryable) == (expected, retryable)
    assert SECRET not in error.message
    assert (error.headers.get("Retry-After") is not None) is (status == 429)


def test_the_gateways_errors_have_coheres_shape_and_its_own() -> None:
    error = RateLimited("Slow down.", retry_after_s=1)
    whole = msgspec.json.decode(render_error(error, "req_1"))
    assert (whole["id"], whole["message"], whole["error"]["status"]) == ("req_1", "Slow down.", 429)
    frame = render_stream_error(error, "req_1")
    assert frame.startswith(b"event: message-end\ndata: ")
    assert b"[DONE]" not in frame


def test_models_are_listed_page_by_page() -> None:
    upstream: Any = SimpleNamespace(base_path="", credential=None, preset="cohere")
    first = PROVIDER.build_listing(upstream, None)
    assert first is not None
    assert first.target == "/v1/models?page_size=1000"
    body = b'{"models":[{"name":"command-a","context_length":256000}],"next_page_token":"a b"}'
    (model,), page = PROVIDER.read_listing(upstream, body)
    assert (model.id, model.context_window, page) == ("command-a", 256000, "a b")
    following = PROVIDER.build_listing(upstream, page)
    assert following is not None
    assert following.target.endswith("&page_token=a%20b")


def test_a_model_that_cannot_think_is_asked_once_more_without(make_exchange: Make) -> None:
    head, body = ReplyHead(400, {}), b'{"message":"thinking is not supported by this model"}'
    for headers, expected in (({}, True), ({"x-raven-strict": "true"}, False)):
        exchange = make_exchange(ask(thinking=hub.Thinking(enabled=True)), headers=headers)
        assert PROVIDER.revise_request(exchange, head, body) is None
        exchange.outgoing = PROVIDER.build_request(exchange)
        revised = PROVIDER.revise_request(exchange, head, body)
        assert (revised is not None) is expected
        assert revised is None or "thinking" not in msgspec.json.decode(revised.body)
        assert PROVIDER.revise_request(exchange, head, b"no such model") is None


def test_there_are_no_options() -> None:
    PROVIDER.check_options("cohere", {})
    with pytest.raises(ConfigError):
        PROVIDER.check_options("cohere", {"fetch_images": True})
