"""Through a real gateway: other dialects, Anthropic's Messages, and Bedrock's own API on raw paths."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError
from raven_bedrock import Bedrock
from yarl import URL

from raven_proxy.hookspecs import hookimpl
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import HAIKU, KEYS, NOVA, Recording, chunk, frame, make_face, messages_face
from .test_messages_replies import EVENTS

EVENT_STREAM = {"content-type": "application/vnd.amazon.eventstream"}
FRAMES = [
    frame("messageStart", {"role": "assistant", "p": "ab"}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}),
    frame("contentBlockStop", {"contentBlockIndex": 0}),
    frame("messageStop", {"stopReason": "end_turn"}),
    frame("metadata", {"usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}}),
]
WHOLE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
}


class Faces:
    """Clients that speak the tests' own dialects."""

    @hookimpl
    def register_faces(self, register: Callable[[Any], None]) -> None:
        """Offer `/v1/tiny`, and Messages at `/v1/anthropic-like` (the vendor's own face may be there)."""
        register(make_face())
        face = msgspec.structs.replace(messages_face(), path="/v1/anthropic-like")
        register(face)


class Watch:
    """Keeps what exchanges came to."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    async def finish_exchange(self, exchange: Any) -> None:
        """Keep it."""
        self.seen.append(exchange)


@pytest.fixture
async def start(raven: Any, upstream: MockUpstream, tmp_path: Any) -> Any:
    async def begin(*plugins: Any, key: str = KEYS) -> Any:
        (tmp_path / "aws-key").write_text(key)
        place = {
            "name": "aws",
            "provider": "bedrock",
            "base_url": upstream.origin,
            "key": {"file": str(tmp_path / "aws-key")},
            "models": ["*"],
        }
        return await raven([Bedrock, Faces(), *plugins], upstreams=[place], base=("openai",))

    return begin


async def settled(watch: Watch, count: int = 1) -> Any:
    for _ in range(200):
        if len(watch.seen) >= count:
            break
        await asyncio.sleep(0.01)
    return watch.seen[-1]


async def test_a_whole_chat(start: Any, upstream: MockUpstream) -> None:
    watch = Watch()
    gateway = await start(watch)
    upstream.reply(json=WHOLE)
    async with gateway.client.post("/v1/tiny", json={"model": HAIKU, "say": "Hi"}) as reply:
        assert reply.status == 200
        assert (await reply.json())["choices"][0]["parts"][0]["text"] == "Hello"
    (seen,) = upstream.seen
    assert seen.target == "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
    assert seen.json == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    exchange = await settled(watch)
    assert (exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (5, 2)
    assert (exchange.finish_reason, exchange.outcome) == ("stop", "completed")


async def test_a_chat_that_streams(start: Any, upstream: MockUpstream) -> None:
    watch = Watch()
    gateway = await start(watch, key="bedrock-api-key")
    data = b"".join(FRAMES)
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[data[:50], 0.01, data[50:200], data[200:]]))
    async with gateway.client.post("/v1/tiny", json={"model": HAIKU, "stream": True}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = await reply.text()
    assert text.index("text='Hel'") < text.index("text='lo'") < text.index("Ended()")
    assert upstream.seen[0].headers["authorization"] == "Bearer bedrock-api-key"
    exchange = await settled(watch)
    assert exchange.usage.total_tokens == 7


async def test_a_fault_in_the_stream_is_an_error_event_and_no_end(start: Any, upstream: MockUpstream) -> None:
    gateway = await start()
    data = b"".join(FRAMES[:3]) + frame("modelStreamErrorException", {"message": "Broke."}, "exception")
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[data]))
    async with gateway.client.post("/v1/tiny", json={"model": HAIKU, "stream": True}) as reply:
        text = await reply.text()
    assert "error: " in text
    assert "Broke." in text
    assert "Ended()" not in text


async def test_a_fault_at_once_is_an_error_reply(
    start: Any, upstream: MockUpstream, recordings: list[Recording]
) -> None:
    gateway = await start()
    (recording,) = [one for one in recordings if "vision-stream-amazon-nova-lite" in one.id]
    upstream.script(ScriptedReply(headers=EVENT_STREAM, body=recording.body()))
    async with gateway.client.post("/v1/tiny", json={"model": NOVA, "stream": True}) as reply:
        text = await reply.text()
    assert "The detected file MIME type" in text


async def test_a_corrupt_or_broken_stream_never_looks_complete(start: Any, upstream: MockUpstream) -> None:
    gateway = await start()
    data = bytearray(b"".join(FRAMES))
    data[len(FRAMES[0]) + len(FRAMES[1]) + 20] ^= 1
    for body in (bytes(data), b"".join(FRAMES)[:-30], b"".join(FRAMES[:3])):
        upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[body]))
        async with gateway.client.post("/v1/tiny", json={"model": HAIKU, "stream": True}) as reply:
            text = ""
            with contextlib.suppress(ClientPayloadError):  # it is cut, as every broken stream
                async for piece in reply.content.iter_any():
                    text += piece.decode()
        assert "Hel" in text
        assert "error: " in text
        assert "Ended()" not in text


@pytest.mark.parametrize(
    ("status", "kind", "client"),
    [
        (429, "ThrottlingException", 429),
        (403, "ExpiredTokenException", 502),
        (400, "ValidationException", 400),
    ],
)
async def test_errors(start: Any, upstream: MockUpstream, status: int, kind: str, client: int) -> None:
    gateway = await start()
    upstream.reply(
        json={"message": "So it is."}, status=status, headers={"x-amzn-errortype": f"{kind}:http://x"}
    )
    async with gateway.client.post("/v1/tiny", json={"model": HAIKU}) as reply:
        document = await reply.json()
    assert (reply.status, document["error"]["metadata"]["type"]) == (client, kind)
    assert "So it is." in document["error"]["message"]


async def test_messages_to_claude(start: Any, upstream: MockUpstream) -> None:
    watch = Watch()
    gateway = await start(watch)
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[chunk(event) for event in EVENTS]))
    body = {"model": HAIKU, "max_tokens": 5, "messages": [], "stream": True}
    async with gateway.client.post("/v1/anthropic-like", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = await reply.text()
    assert [line for line in text.splitlines() if line.startswith("event:")] == [
        f"event: {event['type']}" for event in EVENTS
    ]
    assert upstream.seen[0].json == {
        "max_tokens": 5,
        "messages": [],
        "anthropic_version": "bedrock-2023-05-31",
    }
    exchange = await settled(watch)
    assert (exchange.usage.completion_tokens, exchange.outcome) == (7, "completed")


async def test_a_member_that_is_refused_is_left_out_and_signed_anew(
    start: Any, upstream: MockUpstream
) -> None:
    gateway = await start()
    refusal = {"message": "novelty: Extra inputs are not permitted"}
    upstream.reply(json=refusal, status=400, headers={"x-amzn-errortype": "ValidationException"})
    upstream.reply(json={"type": "message", "usage": {"output_tokens": 1}})
    async with gateway.client.post("/v1/anthropic-like", json={"model": HAIKU, "novelty": 1}) as reply:
        assert reply.status == 200
    first, second = upstream.seen
    assert "novelty" in first.json
    assert "novelty" not in second.json
    assert first.headers["authorization"] != second.headers["authorization"]


# -- raw paths -------------------------------------------------------------------------


async def test_raw_converse_passes_untouched_signed_and_metered(start: Any, upstream: MockUpstream) -> None:
    watch = Watch()
    gateway = await start(watch)
    data = b"".join(FRAMES)
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[data]))
    sent = b' {"messages":[{"role":"user","content":[{"text":"Hi"}]}], "inferenceConfig":{"maxTokens":3}} '
    path = "/v1/bedrock/model/us.amazon.nova-lite-v1%3A0/converse-stream"
    url = URL(gateway.url + path, encoded=True)
    async with gateway.client.post(url, data=sent, headers={"content-type": "application/json"}) as reply:
        assert (reply.status, await reply.read()) == (200, data)
        assert reply.headers["content-type"] == EVENT_STREAM["content-type"]
    (seen,) = upstream.seen
    assert (seen.target, seen.body) == ("/model/us.amazon.nova-lite-v1%3A0/converse-stream", sent)
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256")
    exchange = await settled(watch)
    assert (exchange.model, exchange.stream, exchange.call.max_output_tokens) == (NOVA, True, 3)
    assert (exchange.usage.prompt_tokens, exchange.finish_reason) == (5, "stop")


async def test_raw_invoke_is_metered_by_what_bedrock_says(start: Any, upstream: MockUpstream) -> None:
    watch = Watch()
    gateway = await start(watch)
    headers = {"content-type": "application/json", "x-amzn-bedrock-input-token-count": "4",
               "x-amzn-bedrock-output-token-count": "50",
               "x-amzn-bedrock-cache-read-input-token-count": "18131"}  # fmt: skip
    upstream.script(ScriptedReply(headers=headers, body=b'{"generation":"Hi"}'))
    path = "/v1/bedrock/model/meta.llama3-8b-instruct-v1:0/invoke"
    async with gateway.client.post(path, json={"prompt": "Hi"}) as reply:
        assert await reply.read() == b'{"generation":"Hi"}'
    usage = (await settled(watch)).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (18135, 50, 18131)
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[chunk(event) for event in EVENTS]))
    path = f"/v1/bedrock/model/{HAIKU}/invoke-with-response-stream"
    async with gateway.client.post(path, json={"messages": []}) as reply:
        assert await reply.read() == b"".join([chunk(event) for event in EVENTS])
    exchange = await settled(watch, 2)
    assert (exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (3, 7)
    assert (exchange.finish_reason, exchange.outcome) == ("stop", "completed")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"inferenceConfig":{"maxTokens":"x"}}', 400), (b"{", 400), (b'{"a":1,"a":2}', 400)],
)
async def test_raw_bodies_are_judged(start: Any, upstream: MockUpstream, body: bytes, status: int) -> None:
    gateway = await start()
    headers = {"content-type": "application/json"}
    async with gateway.client.post(f"/v1/bedrock/model/{NOVA}/converse", data=body, headers=headers) as reply:
        document = await reply.json()
    assert (reply.status, document["__type"]) == (status, "ValidationException")
    assert upstream.seen == []


async def test_other_operations_pass_signed(start: Any, upstream: MockUpstream) -> None:
    gateway = await start()
    upstream.reply(json={"modelSummaries": []})
    async with gateway.client.get("/v1/bedrock/foundation-models?byProvider=amazon") as reply:
        assert await reply.json() == {"modelSummaries": []}
    assert upstream.seen[0].target == "/foundation-models?byProvider=amazon"
    assert "AWS4-HMAC-SHA256" in upstream.seen[0].headers["authorization"]


# -- clients of OpenAI's chat ----------------------------------------------------------


async def test_openai_clients_are_served_whole_and_streamed(start: Any, upstream: MockUpstream) -> None:
    gateway = await start()
    upstream.reply(json=WHOLE)
    question = {"model": HAIKU, "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway.client.post("/v1/chat/completions", json=question) as reply:
        document = await reply.json()
    assert document["choices"][0]["message"]["content"] == "Hello"
    assert document["choices"][0]["finish_reason"] == "stop"
    assert document["usage"]["total_tokens"] == 7
    upstream.script(ScriptedReply(headers=EVENT_STREAM, chunks=[*FRAMES]))
    async with gateway.client.post("/v1/chat/completions", json=question | {"stream": True}) as reply:
        text = await reply.text()
    assert text.rstrip().endswith("data: [DONE]")
    chunks = [msgspec.json.decode(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert said == "Hello"


async def test_openai_clients_tools_and_schemas(start: Any, upstream: MockUpstream) -> None:
    gateway = await start()
    call = {"toolUse": {"toolUseId": "t1", "name": "json", "input": {"a": 1}}}
    upstream.reply(json={**WHOLE, "output": {"message": {"content": [call]}}, "stopReason": "tool_use"})
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    question = {"model": NOVA, "messages": [{"role": "user", "content": "Hi"}], "response_format": shape}
    async with gateway.client.post("/v1/chat/completions", json=question) as reply:
        (choice,) = (await reply.json())["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"a":1}', "stop")
    assert upstream.seen[0].json["toolConfig"]["toolChoice"] == {"tool": {"name": "json"}}
    async with gateway.client.post("/v1/chat/completions", json=question | {"n": 2}) as reply:
        document = await reply.json()
    assert (reply.status, document["error"]["param"]) == (400, "n")
