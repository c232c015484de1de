"""The plugin in a running gateway, asked by the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import msgspec
import pytest

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import ScriptedReply

from .official import read_events

QUESTION: Any = {
    "model": "claude-opus-4-8",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Hi"}],
}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    },
}  # fmt: skip
TEXT = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
]
END = [
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 5},
    },
    {"type": "message_stop"},
]
REPLY = {
    **START["message"],  # type: ignore[dict-item]
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 5, "cache_read_input_tokens": 3},
}


def stream(*events: Any, **fields: Any) -> ScriptedReply:
    chunks: Any = [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events]
    return ScriptedReply(chunks=chunks, headers={"Content-Type": "text/event-stream"}, **fields)


@pytest.fixture
def start(raven: Any, upstream: Any, tmp_path: Any) -> Callable[..., Any]:
    """Start a gateway before one upstream of the given provider."""

    async def start(provider: str = "anthropic", **options: Any) -> Any:
        key = tmp_path / "key"
        key.write_text("sk-ant-upstream-test")
        place = {
            "name": "main",
            "provider": provider,
            "base_url": f"{upstream.origin}/v1",
            "key": {"file": str(key)},
        }
        return await raven(["anthropic"], upstreams=[place], **options)

    return start


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., anthropic.AsyncAnthropic]]:
    """Make official clients; they are closed at the end."""
    made: list[anthropic.AsyncAnthropic] = []

    def connect(gateway: Any, **options: Any) -> anthropic.AsyncAnthropic:
        options = {"api_key": ADMIN_KEY, "max_retries": 0, **options}
        made.append(anthropic.AsyncAnthropic(base_url=gateway.url, **options))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect finished exchanges."""
    from raven_proxy.observation import Observation

    seen: list[Any] = []
    add = Observation.add

    def note(self: Any, exchange: Any) -> None:
        seen.append(exchange)
        add(self, exchange)

    monkeypatch.setattr(Observation, "add", note)
    return seen


async def test_a_whole_reply_passes_untouched_and_is_metered(
    start: Any, connect: Any, upstream: Any, watched: list[Any]
) -> None:
    upstream.reply(json=REPLY)
    message = await connect(await start()).messages.create(**QUESTION)
    assert (message.content[0].text, message._request_id.startswith("req_")) == ("Hello", True)
    (seen,) = upstream.seen
    assert (seen.target, seen.headers["x-api-key"]) == ("/v1/messages", "sk-ant-upstream-test")
    usage = watched[0].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (12, 5, 3)


@pytest.mark.parametrize("as_bearer", [True, False])
async def test_streams_pass_byte_for_byte(
    start: Any, connect: Any, upstream: Any, watched: list[Any], as_bearer: bool
) -> None:
    """With either kind of key, neither of which goes upstream; query and betas do."""
    reply = stream(START, *TEXT, {"type": "ping"}, *END)
    upstream.script(reply, reply)
    gateway = await start()
    async with gateway.client.post("/v1/messages", json=QUESTION | {"stream": True}) as raw:
        assert await raw.read() == b"".join(reply.chunks)  # type: ignore[arg-type]
    options: Any = {"api_key": None, "auth_token": ADMIN_KEY} if as_bearer else {}
    client = connect(gateway, **options)
    extra: Any = {"extra_query": {"beta": "true"}, "extra_headers": {"anthropic-beta": "x-2025"}}
    async with client.messages.stream(**QUESTION, **extra) as told:
        message = await told.get_final_message()
    assert (message.content[0].text, message.usage.output_tokens) == ("Hello", 5)
    seen = upstream.seen[-1]
    assert seen.target == "/v1/messages?beta=true"
    assert seen.headers["anthropic-beta"] == "x-2025"
    assert ADMIN_KEY not in str(seen.headers)
    assert [one.usage.prompt_tokens for one in watched] == [9, 9]


async def test_an_alias_keeps_every_other_byte(start: Any, upstream: Any) -> None:
    upstream.reply(json=REPLY)
    gateway = await start(config={"models": [{"name": "fast", "target": "main/claude-haiku-4-5"}]})
    body = b'{ "model" : "fast", "max_tokens":16, "x": 1.0, "messages":[{"role":"user","content":"Hi"}]}'
    headers = {"Content-Type": "application/json"}
    async with gateway.client.post("/v1/messages", data=body, headers=headers) as reply:
        assert reply.status == 200
    assert upstream.seen[0].body == body.replace(b'"fast"', b'"claude-haiku-4-5"')


async def test_openais_clients_are_translated(start: Any, upstream: Any, watched: list[Any]) -> None:
    """The reply says what was adjusted."""
    upstream.reply(json=REPLY)
    gateway = await start()
    question = {"model": "claude-haiku-4-5-20251001", "messages": QUESTION["messages"], "temperature": 1.5}
    async with gateway.client.post("/v1/chat/completions", json=question) as reply:
        body = await reply.json()
        assert (reply.status, reply.headers["X-Raven-Adjusted"]) == (200, "temperature")
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (12, 5)
    sent = msgspec.json.decode(upstream.seen[0].body)
    assert (sent["max_tokens"], sent["temperature"]) == (64_000, 1.0)
    assert watched[0].usage.prompt_tokens == 12


async def test_other_vendors_answer_anthropics_clients(start: Any, connect: Any, upstream: Any) -> None:
    """Whole and streamed, with a call."""
    client = connect(await start("openai"))
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    asked: Any = {
        "model": "main/mock-small",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Use the tool weather"}],
        "tools": [tool],
    }
    whole = await client.messages.create(**asked)
    async with client.messages.stream(**asked) as told:
        streamed = await told.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        assert (message.content[-1].name, list(message.content[-1].input)) == ("weather", ["city"])
        assert message.usage.input_tokens > 0
    with pytest.raises(anthropic.BadRequestError, match="bash_20250124"):
        await client.messages.create(**asked | {"tools": [{"type": "bash_20250124", "name": "bash"}]})


@pytest.mark.parametrize(
    ("status", "seen", "kind", "raised"),
    [
        (400, 400, "invalid_request_error", anthropic.BadRequestError),
        (401, 502, "api_error", anthropic.InternalServerError),
        (403, 502, "api_error", anthropic.InternalServerError),
        (404, 404, "not_found_error", anthropic.NotFoundError),
        (413, 413, "request_too_large", anthropic.APIStatusError),
        (429, 429, "rate_limit_error", anthropic.RateLimitError),
        (500, 500, "api_error", anthropic.InternalServerError),
        (503, 503, "overloaded_error", anthropic.APIStatusError),
        (529, 529, "overloaded_error", anthropic.APIStatusError),
    ],
)
async def test_a_vendors_error_is_the_clients_own_exception(
    status: int, seen: int, kind: str, raised: Any, start: Any, connect: Any, upstream: Any
) -> None:
    """529 stays 529; a key that was refused is not the caller's fault; nothing secret is told."""
    error = {
        "type": "error",
        "error": {"type": "x_error", "message": "No, sk-ant-upstream-test"},
        "request_id": None,
    }
    upstream.reply(json=error, status=status, headers={"request-id": "req_vendor"})
    with pytest.raises(raised) as caught:
        await connect(await start()).messages.create(**QUESTION)
    assert caught.value.status_code == seen
    body = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == caught.value.response.headers["request-id"]
    assert body["request_id"].startswith("req_")
    assert body["error"]["metadata"]["request_id"] == "req_vendor"
    assert "sk-ant" not in str(body)


async def test_our_own_refusals_have_its_shape_too(start: Any, connect: Any, upstream: Any) -> None:
    gateway = await start()
    with pytest.raises(anthropic.AuthenticationError):
        await connect(gateway, api_key="rk_live_wrong").messages.create(**QUESTION)
    with pytest.raises(anthropic.BadRequestError) as caught:
        await connect(gateway).messages.create(**QUESTION, extra_body={"max_tokens": None})
    assert caught.value.body["error"]["param"] == "max_tokens"  # type: ignore[index]
    assert upstream.seen == []


async def test_an_error_inside_a_stream_reaches_the_client(start: Any, connect: Any, upstream: Any) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
    upstream.script(stream(START, *TEXT, error))
    with pytest.raises(anthropic.APIStatusError, match="Busy"):
        async with connect(await start()).messages.stream(**QUESTION) as told:
            await told.get_final_message()


async def test_a_stream_that_breaks_off_ends_in_an_error_event(start: Any, upstream: Any) -> None:
    """And in no `message_stop`."""
    upstream.script(stream(START, *TEXT, end="cut"))
    gateway = await start()
    data = b""
    async with gateway.client.post("/v1/messages", json=QUESTION | {"stream": True}) as reply:
        try:
            async for piece in reply.content.iter_any():
                data += piece
        except Exception:  # the connection is cut, as it should be
            pass
    events = read_events(data)
    assert (events[-1][0], events[-1][1]["error"]["type"]) == ("error", "api_error")
    assert "message_stop" not in [name for name, _ in events]


async def test_tokens_are_counted_by_whoever_can(start: Any, connect: Any, upstream: Any) -> None:
    upstream.reply(json={"input_tokens": 42})
    client = connect(await start())
    count = await client.messages.count_tokens(model=QUESTION["model"], messages=QUESTION["messages"])
    assert (count.input_tokens, upstream.seen[0].target) == (42, "/v1/messages/count_tokens")


async def test_tokens_are_estimated_for_those_who_cannot(
    start: Any, connect: Any, upstream: Any, watched: list[Any]
) -> None:
    for provider in ("ollama_anthropic", "openai"):
        client = connect(await start(provider))
        asked = client.messages.with_raw_response.count_tokens
        raw = await asked(model="main/m", messages=QUESTION["messages"])
        assert raw.headers["x-raven-estimated"] == "true"
        assert (await raw.parse()).input_tokens > 0
    assert upstream.seen == []
    assert not any(one.usage for one in watched)


async def test_raw_paths_speak_the_vendors_own(start: Any, upstream: Any, watched: list[Any]) -> None:
    """With and without `v1`; known endpoints are judged and metered, others pass."""
    gateway = await start()
    for path in ("messages?beta=true", "v1/messages"):
        upstream.reply(json=REPLY)
        async with gateway.client.post(f"/v1/anthropic/{path}", json=QUESTION) as reply:
            assert (reply.status, (await reply.json())["id"]) == (200, "msg_1")
    upstream.reply(json={"data": []})
    async with gateway.client.get("/v1/anthropic/models?limit=5") as reply:
        assert await reply.json() == {"data": []}
    async with gateway.client.post("/v1/anthropic/messages", json={"model": "m"}) as reply:
        assert (reply.status, (await reply.json())["type"]) == (400, "error")
    assert [one.target for one in upstream.seen] == [
        "/v1/messages?beta=true",
        "/v1/messages",
        "/v1/models?limit=5",
    ]
    assert [one.usage.prompt_tokens if one.usage else None for one in watched] == [12, 12, None, None]


async def test_a_head_request_at_the_root_is_answered_at_once(start: Any) -> None:
    """Agents ask for it first; any status will do."""
    gateway = await start()
    async with asyncio.timeout(2), gateway.client.head("/") as reply:
        assert reply.status < 500
