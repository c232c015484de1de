"""Where requests go, with which headers; and the raw paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_gemini.native import COUNT, EMBED, GENERATE, VerbCall, find_native_face
from raven_gemini.provider import GeminiProvider

from raven_proxy import errors, hub
from raven_proxy.config import UpstreamConfig
from raven_proxy.errors import ConfigError, InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.faces import Dialect, Face, read_nothing
from raven_proxy.upstream import Upstream

Make = Callable[..., Exchange]
HI = {"messages": [{"role": "user", "parts": []}]}
SECRET = "AIzaNeverShowThis0123456789"


@pytest.fixture
def hello(make_exchange: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make an exchange whose request says Hi: parts cannot be decoded without tags."""

    def make(**fields: Any) -> Exchange:
        stream = fields.pop("stream", False)
        exchange = make_exchange({**HI, "stream": stream}, **fields)
        assert exchange.candidate is not None
        message = hub.Message(role="user", parts=[hub.Text(text="Hi")])
        exchange.hub_request = hub.ChatRequest(model=exchange.candidate.model or "", messages=[message])
        return exchange

    return make


@pytest.mark.parametrize(
    ("model", "stream", "target"),
    [
        ("gemini-2.5-flash", False, "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("gemini-2.5-flash", True, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        ("models/gemini-2.5-flash", False, "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine", False, "/v1beta/tunedModels/mine:generateContent"),
        ("../../secret", False, "/v1beta/models/secret:generateContent"),
        ("a?b#c d", False, "/v1beta/models/a%3Fb%23c%20d:generateContent"),
    ],
)
def test_ai_studios_paths(hello: Make, provider: Any, model: str, stream: bool, target: str) -> None:
    """Model and mode stand in the path; a model's name cannot lead elsewhere."""
    outgoing = provider.build_request(hello(model=model, stream=stream))
    assert (outgoing.method, outgoing.target) == ("POST", target)
    body = msgspec.json.decode(outgoing.body)
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def test_the_key_goes_into_a_header(hello: Make, provider: Any) -> None:
    """And nothing of the client's credentials, nor other vendors' headers, goes along."""
    sent = {
        "authorization": "Bearer rk_live_secret",
        "x-api-key": "rk_live_secret",
        "x-goog-api-key": "rk_live_secret",
        "anthropic-beta": "b",
        "openai-organization": "o",
        "x-stainless-lang": "python",
        "x-goog-request-params": "kept",
    }
    outgoing = provider.build_request(hello(headers=sent))
    assert outgoing.headers == {
        "content-type": "application/json",
        "x-goog-api-key": SECRET,
        "x-goog-request-params": "kept",
    }
    assert "x-goog-api-key" not in provider.build_request(hello(secret=None)).headers


@pytest.mark.parametrize(
    ("endpoint", "dialect", "stream", "model"),
    [
        ("models/gemini-2.5-flash:generateContent", GENERATE, False, "gemini-2.5-flash"),
        ("models/gemini-2.5-flash:streamGenerateContent", GENERATE, True, "gemini-2.5-flash"),
        ("tunedModels/mine:generateContent", GENERATE, False, "mine"),
        ("models/m:countTokens", COUNT, False, "m"),
        ("models/m:embedContent", EMBED, False, "m"),
        ("models/m:batchEmbedContents", EMBED, False, "m"),
        ("publishers/google/models/m:generateContent", GENERATE, False, "m"),
        ("v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent", GENERATE, True, "m"),
        ("endpoints/123:generateContent", GENERATE, False, "endpoints/123"),
    ],
)
def test_raw_endpoints_are_known(endpoint: str, dialect: Dialect, stream: bool, model: str) -> None:
    """Judged by the path: bodies need no model and no stream."""
    face = find_native_face("POST", endpoint)
    assert face is not None
    assert face.raw
    assert face.dialect is dialect
    call = face.read_call(b'{"contents":[],"generationConfig":{"maxOutputTokens":9}}')
    assert (call.model, call.stream, call.max_output_tokens) == (model, stream, 9)


@pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        ("GET", "models"),
        ("GET", "models/m"),
        ("GET", "models/m:predict"),
        ("POST", "cachedContents"),
        ("POST", ""),
    ],
)
def test_other_endpoints_pass_unknown(method: str, endpoint: str) -> None:
    """They are Google's, and not understood."""
    assert find_native_face(method, endpoint) is None


@pytest.mark.parametrize(
    ("endpoint", "body", "choices", "unbounded"),
    [
        ("models/m:predict", b"{}", 1, False),
        ("models/imagen-4.0%3Apredict", b'{"instances":[{},{}]}', 8, False),
        ("models/m:predict", b'{"instances":[{}],"parameters":{"sampleCount":3}}', 3, False),
        ("models/m:predict", b'{"instances":1,"parameters":{"sampleCount":-3}}', 1, False),
        ("models/m:predict", b"no JSON", 1, False),
        ("publishers/google/models/m:batchGenerateContent", b"{}", 1, True),
        ("models/m:asyncBatchEmbedContent", b"{}", 1, True),
    ],
)
def test_a_verb_that_is_not_known_is_judged_by_the_paths_model(
    endpoint: str, body: bytes, choices: int, unbounded: bool
) -> None:
    """Whatever the body says; how much is asked for is read where it stands."""
    face = find_native_face("POST", endpoint)
    assert face is not None
    assert face.opaque
    call = face.read_call(body)
    assert isinstance(call, VerbCall)
    assert call.model in {"m", "imagen-4.0"}
    assert (call.choices, call.unbounded) == (choices, unbounded)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"generationConfig":', b"\xff"]
)
def test_bad_raw_bodies_are_refused(body: bytes) -> None:
    """As on any other face."""
    face = find_native_face("POST", "models/m:generateContent")
    assert face is not None
    with pytest.raises(InvalidRequest):
        face.read_call(body)


@pytest.mark.parametrize(
    "config", [b"5", b"[]", b'{"maxOutputTokens":"x"}', b'{"maxOutputTokens":-1}', b"null"]
)
def test_odd_settings_are_googles_to_judge(config: bytes) -> None:
    """The gateway reads a bound where there is one."""
    face = find_native_face("POST", "models/m:generateContent")
    assert face is not None
    assert face.read_call(b'{"generationConfig":' + config + b"}").max_output_tokens is None


def test_a_raw_request_goes_up_byte_for_byte(make_exchange: Make, provider: Any) -> None:
    """Body and query as they are; but no credential in the query."""
    endpoint = "models/gemini-2.5-flash:streamGenerateContent"
    face = provider.find_face("POST", endpoint)
    body = b'{ "contents" : [] , "odd": 1.50 }'
    exchange = make_exchange(body, face=face, endpoint=endpoint, path=f"/v1/gemini/{endpoint}?alt=sse&x=%20")
    outgoing = provider.build_request(exchange)
    assert outgoing.target == f"/v1beta/{endpoint}?alt=sse&x=%20"
    assert outgoing.body is exchange.body
    exchange = make_exchange(
        body, face=face, endpoint=endpoint, path=f"/v1/gemini/{endpoint}?key=abc&alt=sse"
    )
    assert provider.build_request(exchange).target == f"/v1beta/{endpoint}?alt=sse"
    exchange = make_exchange(body, face=face, endpoint=endpoint, path=f"/v1/gemini/{endpoint}?key=abc")
    assert provider.build_request(exchange).target == f"/v1beta/{endpoint}"


def test_raw_errors_have_googles_shape() -> None:
    """A client of Google's reads code, status and message; the gateway's words stand beside them."""
    error = errors.RateLimited("Slow down.", retry_after_s=3)
    found = msgspec.json.decode(GENERATE.render_error(error, "req_1"))["error"]
    assert (found["code"], found["status"], found["message"]) == (429, "RESOURCE_EXHAUSTED", "Slow down.")
    assert (found["type"], found["request_id"]) == ("rate_limit_error", "req_1")
    assert found["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"
    assert GENERATE.render_stream_error is not None
    frame = GENERATE.render_stream_error(error, "req_1")
    assert frame.startswith(b"data: {")
    assert frame.endswith(b"\r\n\r\n")


def test_strict_clients_are_told_what_would_be_dropped(hello: Make, provider: Any) -> None:
    """Under X-Raven-Strict, by name; others get an answer without it."""
    exchange = hello(headers={"x-raven-strict": "true"})
    exchange.hub_request.logit_bias = {"1": 1}
    with pytest.raises(InvalidRequest) as error:
        provider.build_request(exchange)
    assert error.value.param == "logit_bias"
    exchange = hello()
    exchange.hub_request.logit_bias = {"1": 1}
    assert provider.build_request(exchange)


def test_other_dialects_are_refused(make_exchange: Make, provider: Any) -> None:
    """A face that cannot become a chat or embeddings says so."""
    face = Face(name="odd", path="/v1/odd", dialect=Dialect("odd", errors.envelope), read_call=read_nothing)
    with pytest.raises(InvalidRequest) as error:
        provider.build_request(make_exchange(b"{}", face=face))
    assert error.value.param == "model"


async def test_signatures_are_remembered_for_clients_that_cannot_carry_them(
    hello: Make, provider: Any
) -> None:
    """By organisation and call id, from one answer to the next request; within a bound."""
    exchange = hello(model="gemini-3-flash-preview")
    exchange.head = head = ReplyHead(200, {"content-type": "application/json"})
    stage = provider.open_translator(exchange, head)
    part = {"functionCall": {"name": "f", "id": "c1"}, "thoughtSignature": "U0lH"}
    candidate = {"content": {"parts": [part]}, "finishReason": "STOP"}
    stage.feed(msgspec.json.encode({"candidates": [candidate]}))
    assert b'"c1"' in stage.close()

    def ask() -> Any:
        again = hello(model="gemini-3-flash-preview")
        call = hub.ToolCall(id="c1", name="f", arguments="{}")
        result = hub.ToolResult(call_id="c1", content=[])
        again.hub_request.messages += [
            hub.Message(role="assistant", parts=[call]),
            hub.Message(role="tool", parts=[result]),
        ]
        return again

    sent = msgspec.json.decode(provider.build_request(ask()).body)
    assert sent["contents"][1]["parts"][0]["thoughtSignature"] == "U0lH"
    stranger = ask()
    stranger.principal = msgspec.structs.replace(stranger.principal, organization_id="org_other")
    sent = msgspec.json.decode(provider.build_request(stranger).body)
    assert sent["contents"][1]["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"


def test_the_memory_of_signatures_is_bounded() -> None:
    """The oldest are forgotten; one that is used stays; a huge one is not kept."""
    from raven_gemini.signatures import SignatureMemory

    memory = SignatureMemory(max_bytes=4000)
    memory.remember("org", "first", "s" * 100)
    for number in range(20):
        assert memory.recall("org", "first") is not None
        memory.remember("org", f"c{number}", "s" * 100)
        memory.remember("org", f"c{number}", "t" * 100)
    assert memory.recall("org", "c0") is None
    assert memory.recall("org", "c19") == "t" * 100
    assert memory.recall("other", "c19") is None
    memory.remember("org", "huge", "s" * 2000)
    assert memory.recall("org", "huge") is None


def test_models_are_listed_at_ai_studio(provider: Any) -> None:
    """Page by page, with the key in a header; Vertex AI has no such list."""
    config = UpstreamConfig(name="main", provider="gemini")
    upstream = Upstream(config, provider, allow_private=False)
    assert provider.build_listing(upstream, None).target == "/v1beta/models?pageSize=1000"
    assert provider.build_listing(upstream, "a b").target == "/v1beta/models?pageSize=1000&pageToken=a+b"
    page = {
        "models": [
            {
                "name": "models/gemini-2.5-pro",
                "displayName": "Pro",
                "inputTokenLimit": 9,
                "outputTokenLimit": 3,
            }
        ],
        "nextPageToken": "n",
    }
    models, more = provider.read_listing(upstream, msgspec.json.encode(page))
    assert [(m.id, m.display_name, m.context_window, m.max_tokens) for m in models] == [
        ("gemini-2.5-pro", "Pro", 9, 3)
    ]
    assert more == "n"
    vertex = Upstream(UpstreamConfig(name="v", provider="vertex"), provider, allow_private=False)
    assert provider.build_listing(vertex, None) is None


@pytest.mark.parametrize(
    ("preset", "options", "said"),
    [
        ("gemini", {"project": "p"}, "project"),
        ("vertex", {"locaton": "us"}, "location"),
        ("vertex", {"location": "evil.example/"}, "region"),
        ("vertex", {"project": "../x"}, "project id"),
        ("vertex", {"token_uri": "file:///etc/passwd"}, "http"),
        ("gemini", {"fetch_images": "yes"}, "fetch_images"),
    ],
)
def test_options_are_judged_at_start(preset: str, options: dict[str, Any], said: str) -> None:
    """With the place of the mistake."""
    with pytest.raises(ConfigError, match=said):
        GeminiProvider().check_options(preset, options)


def test_a_schema_that_is_too_deep_is_refused(hello: Make, provider: Any) -> None:
    """Whatever could still be read: never an error of the gateway's."""
    schema: dict[str, Any] = {}
    for _ in range(2000):
        schema = {"type": "object", "properties": {"a": schema}}
    exchange = hello()
    exchange.hub_request.tools = [hub.Tool(name="f", schema=schema)]
    with pytest.raises(InvalidRequest, match="deep"):
        provider.build_request(exchange)
