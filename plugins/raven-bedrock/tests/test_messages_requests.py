"""Messages for Claude go up as the client wrote them, in Amazon's envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_bedrock import links
from raven_bedrock.counting import bare_id

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead

from .conftest import HAIKU, NOVA, make_face
from .conftest import MESSAGES_BODY as BODY

Make = Callable[..., Exchange]
FRAMES = ReplyHead(200, {"content-type": "application/vnd.amazon.eventstream"})
SSE = ReplyHead(200, {"content-type": "text/event-stream"})
JSON = ReplyHead(200, {"content-type": "application/json"})

# -- requests ------------------------------------------------------------------------


def test_the_body_is_the_clients_but_for_the_envelope(make_messages: Make, provider: Any) -> None:
    outgoing = provider.build_request(make_messages())
    assert outgoing.body == (
        b'{ "max_tokens": 9,  "messages":[{"role":"user","content":"Hi"}]'
        b',"anthropic_version":"bedrock-2023-05-31"}'
    )
    model = "us.anthropic.claude-haiku-4-5-20251001-v1%3A0"
    assert outgoing.target == f"/model/{model}/invoke-with-response-stream"
    whole = make_messages(BODY.replace(b"true", b"false"))
    assert provider.build_request(whole).target == f"/model/{model}/invoke"


@pytest.mark.parametrize("place", range(4))
def test_any_order_of_members_gives_valid_json(make_messages: Make, provider: Any, place: int) -> None:
    members = [b'"max_tokens":9', b'"messages":[]']
    for name in (b'"stream":true', b'"model":"x"', b'"speed":"fast"'):
        members.insert(min(place, len(members)), name)
    exchange = make_messages(b"{" + b",".join(members) + b"}")
    assert msgspec.json.decode(provider.build_request(exchange).body) == {
        "max_tokens": 9,
        "messages": [],
        "anthropic_version": "bedrock-2023-05-31",
    }


def test_flags_go_into_the_body_if_bedrock_knows_them(make_messages: Make, provider: Any) -> None:
    headers = {"anthropic-beta": "claude-code-20250219, interleaved-thinking-2025-05-14,my-flag"}
    body = BODY.replace(b'"max_tokens"', b'"anthropic_beta":["context-1m-2025-08-07"],"max_tokens"')
    exchange = make_messages(body, headers=headers, options={"betas": ["my-flag"]})
    outgoing = provider.build_request(exchange)
    assert msgspec.json.decode(outgoing.body)["anthropic_beta"] == [
        "interleaved-thinking-2025-05-14",
        "my-flag",
        "context-1m-2025-08-07",
    ]
    assert "anthropic-beta" not in outgoing.headers
    strict = make_messages(body, headers=headers | {"x-raven-strict": "true"})
    with pytest.raises(InvalidRequest, match="anthropic-beta: claude-code-20250219"):
        provider.build_request(strict)


def test_flags_of_which_none_is_known_leave_nothing_behind(make_messages: Make, provider: Any) -> None:
    for value in (b'["claude-code-20250219"]', b'"text"', b"null", b"[1]"):
        body = BODY.replace(b'"max_tokens"', b'"anthropic_beta":' + value + b',"max_tokens"')
        sent = msgspec.json.decode(provider.build_request(make_messages(body)).body)
        assert "anthropic_beta" not in sent


def test_members_that_bedrock_refuses_are_dropped(make_messages: Make, provider: Any) -> None:
    body = BODY.replace(b'"max_tokens"', b'"context_management":{},"service_tier":"auto","max_tokens"')
    sent = msgspec.json.decode(provider.build_request(make_messages(body)).body)
    assert sent.keys() == {"max_tokens", "messages", "anthropic_version"}
    flag = {"anthropic-beta": "context-management-2025-06-27"}
    kept = provider.build_request(make_messages(body, headers=flag)).body
    assert "context_management" in msgspec.json.decode(kept)
    with pytest.raises(InvalidRequest) as caught:
        provider.build_request(make_messages(body, headers={"x-raven-strict": "true"}))
    assert caught.value.metadata == {"unsupported_parameters": ["context_management", "service_tier"]}


def test_a_member_that_is_not_permitted_is_taken_out_once(make_messages: Make, provider: Any) -> None:
    exchange = make_messages(BODY.replace(b'"max_tokens"', b'"novelty":1,"max_tokens"'))
    exchange.outgoing = provider.build_request(exchange)
    assert exchange.outgoing is not None
    head = ReplyHead(400, {})
    refusal = b'{"message":"novelty: Extra inputs are not permitted"}'
    revised = provider.revise_request(exchange, head, refusal)
    assert "novelty" not in msgspec.json.decode(revised.body)
    assert revised.target == exchange.outgoing.target
    for other in (b'{"message":"tools.0.novelty: Extra inputs are not permitted"}', b'{"message":"no"}', b""):
        assert provider.revise_request(exchange, head, other) is None
    assert provider.revise_request(exchange, ReplyHead(500, {}), refusal) is None
    exchange.headers["x-raven-strict"] = "true"
    assert provider.revise_request(exchange, head, refusal) is None


def test_other_models_get_messages_translated(make_exchange: Make, provider: Any) -> None:
    request = hub.ChatRequest(model=NOVA, messages=[hub.Message(role="user", parts=[hub.Text(text="Hi")])])
    face = make_face(request, name="anthropic.messages", endpoint="messages")
    assert provider.build_request(make_exchange(face=face, model=NOVA)).target.endswith("/converse")


def test_a_models_family_can_be_said_where_its_id_does_not(make_messages: Make, provider: Any) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    exchange = make_messages(model=arn, options={"family": "anthropic"})
    assert provider.build_request(exchange).target == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc"
        "/invoke-with-response-stream"
    )


def test_tokens_are_counted_by_bedrock(make_exchange: Make, provider: Any) -> None:
    face = make_face(name="anthropic.count_tokens", endpoint="messages/count_tokens")
    exchange = make_exchange(b'{"model":"m","messages":[]}', face=face)
    outgoing = provider.build_request(exchange)
    assert outgoing.target == "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"
    inner = msgspec.json.decode(outgoing.body, type=dict[str, dict[str, dict[str, bytes]]])
    assert msgspec.json.decode(inner["input"]["invokeModel"]["body"]) == {
        "messages": [],
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
    }
    stage = provider.open_translator(exchange, JSON)
    assert stage.feed(b'{"inputTokens": 12}') + stage.close() == b'{"input_tokens":12}'
    assert stage.content_type == "application/json"


@pytest.mark.parametrize(
    ("model", "bare"),
    [
        (HAIKU, "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("global.anthropic.claude-sonnet-5", "anthropic.claude-sonnet-5"),
        ("anthropic.claude-v2", "anthropic.claude-v2"),
        ("arn:aws:bedrock:us-east-1:1:x/y", "arn:aws:bedrock:us-east-1:1:x/y"),
    ],
)
def test_regions_prefixes_are_cut_off_for_counting(model: str, bare: str) -> None:
    assert bare_id(model) == bare


# -- links ---------------------------------------------------------------------------

LINKED = msgspec.json.encode(
    {
        "model": "m",
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
                    {
                        "type": "tool_result",
                        "content": [
                            {"type": "image", "source": {"type": "url", "url": "http://c.example/d"}}
                        ],
                    },
                ],
            },
        ],
    }
)
PNG = b"\x89PNG\r\n\x1a\n0000"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    seen: list[tuple[str, bool]] = []

    async def fetch(url: str, *, max_bytes: int, timeout_s: float, allow_private: bool = False) -> Any:
        seen.append((url, allow_private))
        return "application/octet-stream", PNG

    monkeypatch.setattr(links, "fetch", fetch)
    return seen


async def test_links_are_refused_by_their_place_unless_they_may_be_fetched(
    make_messages: Make, provider: Any, fetched: list[Any]
) -> None:
    exchange = make_messages(LINKED)
    await provider.prepare(exchange)
    with pytest.raises(InvalidRequest, match="fetch_images") as caught:
        provider.build_request(exchange)
    assert caught.value.param == "messages[1].content[1]"
    assert fetched == []


def test_absurd_nesting_is_no_links(make_messages: Make, provider: Any) -> None:
    content: Any = "url"
    for _ in range(300):
        content = [{"type": "tool_result", "content": content}]
    body = msgspec.json.encode({"model": "m", "url": 1, "messages": [{"role": "user", "content": content}]})
    assert provider.build_request(make_messages(body)).body


async def test_links_become_bytes(make_messages: Make, provider: Any, fetched: list[Any]) -> None:
    exchange = make_messages(LINKED, options={"fetch_images": True})
    await provider.prepare(exchange)
    sent = msgspec.json.decode(provider.build_request(exchange).body)
    assert sorted(fetched) == [("http://c.example/d", False), ("https://a.example/b", False)]
    source = sent["messages"][1]["content"][1]["source"]
    assert source == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgowMDAw"}
    assert sent["messages"][1]["content"][2]["content"][0]["source"] == source
    plain = make_messages(options={"fetch_images": True})
    await provider.prepare(plain)
    assert b'"max_tokens": 9,  ' in provider.build_request(plain).body


async def test_links_in_other_dialects_become_bytes_too(
    make_exchange: Make, provider: Any, fetched: list[Any]
) -> None:
    media = hub.Media(url="https://a.example/b")
    parts: list[hub.Part] = [hub.Image(media=media), hub.Image(media=hub.Media(url="s3://bucket/a.png"))]
    request = hub.ChatRequest(model=HAIKU, messages=[hub.Message(role="user", parts=parts)])
    exchange = make_exchange(face=make_face(request), options={"fetch_images": True, "fetch_private": True})
    await provider.prepare(exchange)
    assert b'{"format":"png","source":{"bytes":"iVBORw0KGgowMDAw"}}' in provider.build_request(exchange).body
    assert fetched == [("https://a.example/b", True)]


async def test_too_many_links_are_refused(make_exchange: Make, provider: Any, fetched: list[Any]) -> None:
    parts: list[hub.Part] = [hub.Image(media=hub.Media(url="https://a.example/b")) for _ in range(21)]
    request = hub.ChatRequest(model=HAIKU, messages=[hub.Message(role="user", parts=parts)])
    exchange = make_exchange(face=make_face(request), options={"fetch_images": True})
    with pytest.raises(InvalidRequest, match="at most 20"):
        await provider.prepare(exchange)
    assert fetched == []
