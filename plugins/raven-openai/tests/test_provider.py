"""Requests are built, revised and answered as the vendor's row says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.dialect import FACES
from raven_openai.taps import StreamTap, WholeTap

from raven_proxy.errors import ConfigError, InvalidRequest, RateLimited
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.faces import ENVELOPE, Dialect, Face, read_nothing

Make = Callable[..., Exchange]
STREAM = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
WHOLE = STREAM.replace(b"true", b"false")
EVENTS = ReplyHead(200, {"content-type": "text/event-stream; charset=utf-8"})
JSON = ReplyHead(200, {"content-type": "application/json"})
REFUSED = b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"no"}]}'


def test_the_vendor_gets_its_key_and_the_clients_headers(make_exchange: Make, provider: Any) -> None:
    sent = {
        "authorization": "Bearer rk_live_secret",
        "x-provider-key": "sk-byok",
        "openai-organization": "org-1",
        "x-stainless-lang": "python",
        "cookie": "a=b",
        "x-raven-strict": "false",
    }
    outgoing = provider.build_request(make_exchange(WHOLE, headers=sent, secret="sk-vendor"))
    assert (outgoing.method, outgoing.target) == ("POST", "/v1/chat/completions")
    assert outgoing.headers == {
        "content-type": "application/json",
        "openai-organization": "org-1",
        "x-stainless-lang": "python",
        "authorization": "Bearer sk-vendor",
    }


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_key_there_is_no_authorization(
    make_exchange: Make, provider: Any, secret: str | None
) -> None:
    exchange = make_exchange(
        WHOLE, preset="ollama", secret=secret, headers={"authorization": "Bearer rk_live_x"}
    )
    assert "authorization" not in provider.build_request(exchange).headers


def test_a_row_may_name_another_path(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(b'{"model":"m","input":"x"}', face=FACES[2], preset="perplexity")
    assert provider.build_request(exchange).target == "/v1/v1/embeddings"


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
def test_a_raw_path_is_sent_as_the_client_wrote_it(make_exchange: Make, provider: Any, endpoint: str) -> None:
    face = provider.find_face("POST", endpoint)
    body = b' {"model":"alias","messages":[{"role":"user"}],"input":"x","stream":true} '
    exchange = make_exchange(body, face=face, path=f"/v1/groq/{endpoint}?a=%20b&c", preset="groq")
    exchange.params["endpoint"] = endpoint
    outgoing = provider.build_request(exchange)
    assert outgoing.body is body
    assert outgoing.target == f"/v1/{endpoint}?a=%20b&c"
    assert provider.open_translator(exchange, EVENTS) is None
    assert isinstance(provider.open_usage_tap(exchange, EVENTS), StreamTap)


def test_an_unknown_endpoint_is_opaque_but_reachable(make_exchange: Make, provider: Any) -> None:
    assert provider.find_face("GET", "fine_tuning/jobs") is None
    assert provider.find_face("POST", "chat/unknown") is None
    face = Face(name="raw", path="", methods=("GET",), read_call=read_nothing, raw=True)
    exchange = make_exchange(b"", face=face, method="GET", path="/v1/openai/fine_tuning/jobs/f-1")
    exchange.params["endpoint"] = "fine_tuning/jobs/f-1"
    outgoing = provider.build_request(exchange)
    assert (outgoing.method, outgoing.target, outgoing.body) == ("GET", "/v1/fine_tuning/jobs/f-1", b"")
    assert provider.open_translator(exchange, JSON) is None
    assert provider.open_usage_tap(exchange, JSON) is None


def test_t60_a_raw_alias_is_judged_by_the_same_rules(provider: Any) -> None:
    for endpoint in ("chat/completions", "/chat/completions/"):
        face = provider.find_face("post", endpoint)
        assert (face.scope, face.dialect, face.raw) == ("chat:write", FACES[0].dialect, True)
        with pytest.raises(InvalidRequest):
            face.read_call(b'{"model":"a","model":"b","messages":[{"role":"user"}]}')


def test_another_vendors_dialect_is_refused(make_exchange: Make, provider: Any) -> None:
    dialect = Dialect("anthropic.messages", ENVELOPE.render_error)
    face = Face(name="x", path="/v1/messages", dialect=dialect, read_call=read_nothing)
    with pytest.raises(InvalidRequest, match="does not serve /v1/messages"):
        provider.build_request(make_exchange(WHOLE, face=face, model="m"))


def test_an_upstream_may_be_spoken_to_in_responses(make_exchange: Make, provider: Any) -> None:
    """With `options.api` a chat goes to Responses and comes back as a chat; embeddings go where they did."""
    exchange = make_exchange(WHOLE)
    assert exchange.candidate is not None
    exchange.candidate.upstream.options = {"api": "responses"}
    outgoing = provider.build_request(exchange)
    assert outgoing.target == "/v1/responses"
    assert "messages" not in msgspec.json.decode(outgoing.body)
    stage = provider.open_translator(exchange, JSON)
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]}
    reply = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}
    out = stage.feed(msgspec.json.encode(reply)) + stage.close()
    assert msgspec.json.decode(out)["choices"][0]["message"]["content"] == "Ho"
    exchange = make_exchange(b'{"model":"m","input":"x"}', face=FACES[2])
    assert exchange.candidate is not None
    exchange.candidate.upstream.options = {"api": "responses"}
    assert provider.build_request(exchange).target == "/v1/embeddings"


def test_options_are_judged_with_the_nearest_key(provider: Any) -> None:
    provider.check_options("openai", {"api": "responses"})
    provider.check_options("groq", {})
    with pytest.raises(ConfigError, match="did you mean 'api'"):
        provider.check_options("openai", {"apu": "responses"})
    with pytest.raises(ConfigError, match="api"):
        provider.check_options("openai", {"api": "telepathy"})


def test_strict_clients_learn_all_that_a_translation_would_drop(make_exchange: Make, provider: Any) -> None:
    body = b'{"model":"m","prompt":"x","best_of":2,"user":"u","min_p":1}'
    exchange = make_exchange(body, face=FACES[1], preset="mistral", headers={"x-raven-strict": "true"})
    with pytest.raises(InvalidRequest) as caught:
        provider.build_request(exchange)
    assert caught.value.metadata == {"unsupported_parameters": ["best_of", "min_p", "user"]}


ASKED = STREAM.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')


@pytest.mark.parametrize(
    ("body", "preset", "is_asked"),
    [
        (STREAM, "openai", True),
        (STREAM, "vllm", True),
        (STREAM, "mistral", False),
        (STREAM, "openrouter", False),
        (STREAM, "perplexity", False),
        (WHOLE, "openai", False),
        (ASKED, "openai", False),
    ],
)
def test_t29_usage_is_asked_for_and_hidden_only_where_it_must(
    make_exchange: Make, provider: Any, body: bytes, preset: str, is_asked: bool
) -> None:
    exchange = make_exchange(body, preset=preset)
    outgoing = provider.build_request(exchange)
    assert (outgoing.body == body) is not is_asked
    stage = provider.open_translator(exchange, EVENTS)
    usage_chunk = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
    passed = usage_chunk if stage is None else stage.feed(usage_chunk) + stage.close()
    assert passed == (b"" if is_asked else usage_chunk)


def test_t29_a_vendor_that_refuses_to_be_asked_is_asked_without_once(
    make_exchange: Make, provider: Any
) -> None:
    exchange = make_exchange(STREAM, model="other")
    exchange.outgoing = provider.build_request(exchange)
    exchange.outgoing.headers["x-team"] = "stamped by a plugin"
    revised = provider.revise_request(exchange, ReplyHead(422, {}), REFUSED)
    assert revised is not None
    assert revised.body == STREAM.replace(b'"m"', b'"other"')
    assert revised.headers == exchange.outgoing.headers
    assert provider.open_translator(exchange, EVENTS) is None
    assert provider.revise_request(exchange, ReplyHead(422, {}), REFUSED) is None


def test_t29_a_translated_stream_is_asked_without_it_once(make_exchange: Make, provider: Any) -> None:
    """A vendor that refuses `stream_options` gets the same request without it."""
    body = b'{"model":"m","prompt":"x","stream":true}'
    exchange = make_exchange(body, face=FACES[1], preset="groq")
    exchange.outgoing = provider.build_request(exchange)
    assert b"stream_options" in exchange.outgoing.body
    revised = provider.revise_request(exchange, ReplyHead(422, {}), REFUSED)
    assert msgspec.json.decode(revised.body).keys() == {"model", "messages", "stream"}
    exchange.outgoing = revised
    assert provider.revise_request(exchange, ReplyHead(422, {}), REFUSED) is None


@pytest.mark.parametrize(
    ("body", "status", "reply"),
    [
        (STREAM, 400, b'{"error":{"message":"bad temperature"}}'),
        (STREAM, 500, REFUSED),
        (ASKED, 422, REFUSED),
        (WHOLE, 422, REFUSED),
    ],
)
def test_other_refusals_are_final(
    make_exchange: Make, provider: Any, body: bytes, status: int, reply: bytes
) -> None:
    exchange = make_exchange(body)
    exchange.outgoing = provider.build_request(exchange)
    assert provider.revise_request(exchange, ReplyHead(status, {}), reply) is None


def test_a_fallback_forgets_what_was_asked_of_the_first_vendor(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(STREAM)
    provider.build_request(exchange)
    assert exchange.candidate is not None
    exchange.candidate.upstream.preset = "openrouter"
    assert provider.build_request(exchange).body is STREAM
    assert provider.open_translator(exchange, EVENTS) is None


def test_the_reply_decides_how_it_is_read(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(STREAM)
    assert isinstance(provider.open_usage_tap(exchange, EVENTS), StreamTap)
    assert isinstance(provider.open_usage_tap(exchange, ReplyHead(200, {})), StreamTap)
    assert isinstance(provider.open_usage_tap(exchange, JSON), WholeTap)
    assert isinstance(provider.open_usage_tap(make_exchange(WHOLE), JSON), WholeTap)
    assert isinstance(provider.open_usage_tap(make_exchange(WHOLE), ReplyHead(200, {})), WholeTap)


def test_no_stage_stands_in_the_way_of_a_whole_reply(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(WHOLE)
    provider.build_request(exchange)
    assert provider.open_translator(exchange, JSON) is None
    exchange = make_exchange(b'{"model":"m","input":"x"}', face=FACES[2], preset="vllm")
    assert provider.open_translator(exchange, JSON) is None


def test_a_refusal_names_the_upstream_and_not_its_key(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(WHOLE, secret="plainkey-without-a-prefix")
    body = b'{"error":{"message":"Incorrect API key plainkey-without-a-prefix."}}'
    error = provider.read_refusal(exchange, ReplyHead(401, {}), body)
    assert error.status == 502
    assert error.metadata["provider"] == "main"
    assert "plainkey" not in f"{error.message} {error.metadata}"


@pytest.mark.parametrize("face", FACES)
def test_errors_are_rendered_as_openai_clients_read_them(face: Face) -> None:
    error = RateLimited("Slow down.", retry_after_s=2)
    body = face.dialect.render_error(error, "req_1")
    inner = msgspec.json.decode(body)["error"]
    assert {"message", "type", "param", "code"} <= inner.keys()
    if face.dialect.render_stream_error is None:
        assert face.endpoint == "embeddings"
        return
    assert face.dialect.render_stream_error(error, "req_1") == b"data: " + body + b"\n\n"
