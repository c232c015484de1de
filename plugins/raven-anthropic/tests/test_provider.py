"""The provider without sockets: headers, targets, presets, counting."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_anthropic import MESSAGES, PROVIDER_SIDE, Anthropic, requests
from raven_anthropic.counting import answer_count
from raven_anthropic.dialect import FACES, find_raw_face
from raven_anthropic.presets import PRESETS, Preset
from raven_anthropic.provider import VERSION, AnthropicProvider

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Candidate, Exchange, ReplyHead
from raven_proxy.faces import Call, Dialect, Face
from raven_proxy.splice import scan

Make = Callable[..., Exchange]
BODY = b'{ "model": "m",  "max_tokens": 9, "stream": true, "messages": [{"role":"user","content":"Hi"}] }'


class Side:
    """A client of another dialect, who asks for what the test says."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def read_request(self, exchange: Exchange) -> hub.ChatRequest:
        messages = [hub.Message(role="user", parts=[hub.Text(text="Hi")])]
        fields = {"messages": messages, "family": "openai.chat", **self.fields}
        return hub.ChatRequest(model=exchange.candidate.model or "", **fields)  # type: ignore[union-attr]


def other(**fields: Any) -> Face:
    dialect = Dialect("openai.chat", lambda error, _: b"", client_side=Side(**fields))
    return Face(
        name="other", path="/x", dialect=dialect, read_call=lambda body: Call("m", False, None, scan(body))
    )


def test_the_same_dialect_goes_up_byte_for_byte(make_exchange: Make, provider: AnthropicProvider) -> None:
    """Body and query; the client's version and betas; no key of the client's."""
    headers = {"anthropic-version": "2024-01-01", "anthropic-beta": "a,b", "x-api-key": "rk_live_x"}
    exchange = make_exchange(BODY, headers=headers, path="/v1/messages?beta=true")
    sent = provider.build_request(exchange)
    assert (sent.body, sent.target) == (BODY, "/v1/messages?beta=true")
    assert sent.headers["anthropic-version"] == "2024-01-01"
    assert sent.headers["anthropic-beta"] == "a,b"
    assert sent.headers["x-api-key"].startswith("sk-ant-")
    assert "authorization" not in sent.headers
    assert provider.build_request(make_exchange(BODY)).headers["anthropic-version"] == VERSION


def test_an_alias_changes_the_models_name_alone(make_exchange: Make, provider: AnthropicProvider) -> None:
    sent = provider.build_request(make_exchange(BODY, model="claude-x"))
    assert sent.body == BODY.replace(b'"m"', b'"claude-x"')


def test_each_vendor_gets_its_key_as_it_documents(make_exchange: Make, provider: AnthropicProvider) -> None:
    for name, preset in PRESETS.items():
        headers = provider.build_request(make_exchange(BODY, preset=name, secret="key-1")).headers
        found = headers.get("x-api-key"), headers.get("authorization")
        assert found == ((None, "Bearer key-1") if preset.auth == "bearer" else ("key-1", None)), name
        assert provider.base_url(name) == preset.base_url
        assert preset.base_url is None or preset.base_url.endswith("/v1")
        assert provider.needs_key(name) is preset.needs_key
    assert not provider.needs_key("ollama_anthropic")
    assert "authorization" not in provider.build_request(make_exchange(BODY, secret=None)).headers


def test_presets_can_be_added_and_replaced() -> None:
    found: list[Any] = []
    config = Anthropic.Config(presets={"mine": Preset(base_url="https://llm.example/v1")})
    Anthropic(config).register_providers(lambda one, presets: found.append((one, presets)))
    assert "mine" in found[0][1]
    assert "anthropic" not in found[0][1]


@pytest.mark.parametrize(
    ("endpoint", "base", "target"),
    [
        ("messages", "/v1", "/v1/messages"),
        ("v1/messages", "/v1", "/v1/messages"),
        ("v1/messages", "", "/v1/messages"),
        ("models", "/anthropic/v1", "/anthropic/v1/models"),
    ],
)
def test_raw_paths_arrive_where_the_vendor_has_them(
    endpoint: str, base: str, target: str, make_exchange: Make, provider: AnthropicProvider
) -> None:
    face = find_raw_face("POST", "messages")
    exchange = make_exchange(BODY, face=face, base_path=base, path=f"/v1/anthropic/{endpoint}?a=b")
    exchange.params = {"provider": "anthropic", "endpoint": endpoint}
    sent = provider.build_request(exchange)
    assert (sent.target, sent.body) == (f"{target}?a=b", BODY)


def test_another_dialect_is_translated(make_exchange: Make, provider: AnthropicProvider) -> None:
    """Without the client's query; what was adjusted is said; betas are joined."""
    media = hub.Media(file_id="file_1")
    messages = [hub.Message(role="user", parts=[hub.File(media=media)])]
    face = other(messages=messages, temperature=1.5, names={"temperature": "temp"})
    exchange = make_exchange(
        b"{}", face=face, model="claude-opus-4-1-20250805", headers={"anthropic-beta": "x"}, path="/x?y=1"
    )
    sent = provider.build_request(exchange)
    body = msgspec.json.decode(sent.body)
    assert (sent.target, body["model"], body["max_tokens"]) == (
        "/v1/messages",
        "claude-opus-4-1-20250805",
        32_000,
    )
    assert "stream" not in body
    assert exchange.response_headers == {"X-Raven-Adjusted": "temp"}
    assert sent.headers["anthropic-beta"] == "x,files-api-2025-04-14"


def test_the_bound_is_the_listed_one_or_the_models_or_4096(
    make_exchange: Make, provider: AnthropicProvider
) -> None:
    known = {"listed-model": 777, "claude-opus-5": 128_000, "claude-3-5-haiku-latest": 8192, "qwen3": 4096}
    for model, most in known.items():
        sent = provider.build_request(make_exchange(b"{}", face=other(), model=model))
        assert msgspec.json.decode(sent.body)["max_tokens"] == most


def test_strict_clients_learn_what_would_be_dropped(make_exchange: Make, provider: AnthropicProvider) -> None:
    exchange = make_exchange(b"{}", face=other(seed=1), model="claude-x", headers={"x-raven-strict": "true"})
    with pytest.raises(InvalidRequest) as caught:
        provider.build_request(exchange)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "seed")


def test_thinking_of_vendors_that_do_not_sign_goes_back_unsigned(
    make_exchange: Make, provider: AnthropicProvider
) -> None:
    turns = [
        hub.Message(role="user", parts=[hub.Text(text="Q")]),
        hub.Message(role="assistant", parts=[hub.Reasoning(text="hm"), hub.Text(text="A")]),
        hub.Message(role="user", parts=[hub.Text(text="R")]),
    ]
    kinds = {}
    for preset in ("anthropic", "deepseek_anthropic"):
        exchange = make_exchange(b"{}", face=other(messages=turns), model="deepseek-chat", preset=preset)
        body = msgspec.json.decode(provider.build_request(exchange).body)
        kinds[preset] = [block["type"] for block in body["messages"][1]["content"]]
    assert kinds == {"anthropic": ["text"], "deepseek_anthropic": ["thinking", "text"]}


def test_hosts_that_name_the_model_elsewhere_get_the_rest(make_exchange: Make) -> None:
    assert requests.cut_model(make_exchange(BODY)) == (
        b'{  "max_tokens": 9, "messages": [{"role":"user","content":"Hi"}] }'
    )


def test_refusals_keep_their_status_and_words(
    make_exchange: Make, provider: AnthropicProvider, recordings: list[Any]
) -> None:
    """A key that was refused is the gateway's fault."""
    bad = [one for one in recordings if one.response["status"] >= 400]
    assert len(bad) >= 3
    for recording in bad:
        status, document = recording.response["status"], msgspec.json.decode(recording.body())
        headers = {name.lower(): value for name, value in recording.response["headers"].items()}
        error = provider.read_refusal(make_exchange(BODY), ReplyHead(status, headers), recording.body())
        assert error.status == (502 if status in {401, 403} else status), recording.id
        assert document["error"]["message"] in error.message
        assert error.metadata is not None
        assert (error.metadata["status"], error.metadata["type"]) == (status, document["error"]["type"])
        assert error.metadata.get("request_id") == headers.get("request-id")


def test_known_models_are_anthropics_own(provider: AnthropicProvider) -> None:
    assert {"claude-opus-5", "claude-haiku-4-5-20251001"} <= {
        one.id for one in provider.known_models("anthropic")
    }
    assert provider.known_models("ollama_anthropic") == ()


def test_the_vendors_own_list_is_read_page_by_page(make_exchange: Make, provider: AnthropicProvider) -> None:
    """In Anthropic's shape, or OpenAI's where the vendor has that."""
    exchange = make_exchange(BODY)
    upstream: Any = exchange.candidate.upstream  # type: ignore[union-attr]
    asked = provider.build_listing(upstream, None)
    assert asked is not None
    assert (asked.method, asked.target) == ("GET", "/v1/models?limit=1000")
    assert asked.headers == {"anthropic-version": VERSION, "x-api-key": "sk-ant-NeverShowThis0123456789"}
    again = provider.build_listing(upstream, "a b")
    assert again is not None
    assert again.target == "/v1/models?limit=1000&after_id=a+b"
    model = {
        "type": "model", "id": "claude-x", "display_name": "Claude X", "created_at": "2026-07-24T00:00:00Z",
        "max_input_tokens": 1_000_000, "max_tokens": 128_000, "capabilities": {},
    }  # fmt: skip
    page = {"data": [model], "has_more": True, "first_id": "claude-x", "last_id": "claude-x"}
    (found,), more = provider.read_listing(upstream, msgspec.json.encode(page))
    assert (found.id, found.display_name, found.created) == ("claude-x", "Claude X", 1_784_851_200)
    assert (found.context_window, found.max_tokens, more) == (1_000_000, 128_000, "claude-x")
    (found,), more = provider.read_listing(upstream, b'{"object":"list","data":[{"id":"q","created":7}]}')
    assert (found.id, found.created, found.owned_by, more) == ("q", 7, "anthropic", None)
    for body in (b"", b"{}", b"[]", b'{"data":[{}]}'):
        with pytest.raises(ValueError):
            provider.read_listing(upstream, body)
    silent: Any = make_exchange(BODY, preset="deepseek_anthropic").candidate.upstream  # type: ignore[union-attr]
    assert provider.build_listing(silent, None) is None


def test_the_recorded_list_is_the_known_one(recorded_list: bytes, provider: AnthropicProvider) -> None:
    upstream: Any = SimpleNamespace(preset="anthropic")
    models, _ = provider.read_listing(upstream, recorded_list)
    listed = {one.id: (one.created, one.context_window, one.max_tokens) for one in models}
    for one in provider.known_models("anthropic"):
        assert listed[one.id] == (one.created, one.context_window, one.max_tokens)


def test_unknown_endpoints_and_counts_are_not_metered(
    make_exchange: Make, provider: AnthropicProvider
) -> None:
    exchange = make_exchange(BODY, face=FACES[1])
    assert provider.open_usage_tap(exchange, ReplyHead(200, {})) is None
    assert provider.build_request(exchange).target == "/v1/messages/count_tokens"


# -- counting --------------------------------------------------------------------------


def place(able: Any, preset: str = "x") -> Candidate:
    provider = SimpleNamespace() if able is None else SimpleNamespace(counts_tokens=able)
    upstream: Any = SimpleNamespace(provider=provider, preset=preset, name="u")
    return Candidate(upstream, "m")


def test_a_count_is_estimated_only_where_nobody_can_count(make_exchange: Make) -> None:
    """True, or a function of the preset; places that cannot are left out where another one can."""
    exchange = make_exchange(BODY, face=FACES[1])
    exchange.candidates = (place(None), place(False), place(lambda preset: preset == "y"))
    reply = answer_count(exchange)
    assert reply is not None
    assert msgspec.json.decode(reply.body)["input_tokens"] == -(-len(BODY) // 4)  # type: ignore[arg-type]
    assert reply.headers["X-Raven-Estimated"] == "true"
    able = place(lambda preset: preset == "y", "y")
    for candidate in (able, place(True)):
        exchange.candidates = (place(None), candidate)
        assert answer_count(exchange) is None
        assert exchange.candidates == (candidate,)


def test_other_requests_are_not_answered(make_exchange: Make) -> None:
    raw = find_raw_face("POST", "messages/count_tokens")
    for face in (FACES[0], raw):
        exchange = make_exchange(BODY, face=face)
        exchange.candidates = (place(None),)
        assert answer_count(exchange) is None


def test_a_count_of_another_vendors_can_be_told(make_exchange: Make) -> None:
    side = FACES[1].dialect.client_side
    exchange = make_exchange(BODY, face=FACES[1])
    assert side.read_request(exchange).messages[0].text() == "Hi"
    reply = PROVIDER_SIDE.read_reply(b'{"content":[],"usage":{"input_tokens":7,"output_tokens":0}}')
    assert side.write_reply(reply, exchange) == b'{"input_tokens":7}'
    assert MESSAGES is FACES[0].dialect
