"""What comes back, through a real gateway: whole replies and streams, native, translated and raw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError

from raven_proxy.mock import MockUpstream, ScriptedReply

from . import vendors
from .test_requests import CARD, CARD_NUMBER, KEY, SECRET, WORD, rules, said

SAID = f"The falcon has {CARD_NUMBER} and {KEY}, so there."
LEFT = "The [REDACTED] has [REDACTED] and [REDACTED], so there."
NEEDLES = ("falcon", CARD_NUMBER, KEY)
BASE = ("guardrails", "openai", "anthropic", "gemini", "bedrock", "cohere", "ollama")
MESSAGES = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}

# name → path, request, media type, and the vendor's stream for a text in pieces
ROUTES: dict[str, tuple[str, Any, str, Any]] = {
    "chat": ("/v1/chat/completions", said("hi", stream=True), vendors.EVENTS, vendors.chat),
    "chat tool": ("/v1/chat/completions", said("hi", stream=True), vendors.EVENTS, vendors.chat_tool),
    "chat raw": ("/v1/mock/chat/completions", {**said("hi", stream=True), "model": "any"}, vendors.EVENTS,
                 vendors.chat),
    "completions": ("/v1/completions", {"model": "mock/any", "prompt": "hi", "stream": True}, vendors.EVENTS,
                    vendors.completions),
    "responses": ("/v1/responses", {"model": "mock/any", "input": "hi", "stream": True}, vendors.EVENTS,
                  vendors.responses),
    "messages": ("/v1/messages", {"model": "claude/m", "stream": True, **MESSAGES}, vendors.EVENTS,
                 vendors.messages),
    "messages of chat": ("/v1/messages", {"model": "mock/any", "stream": True, **MESSAGES}, vendors.EVENTS,
                         vendors.chat),
    "chat of messages": ("/v1/chat/completions", said("hi", model="claude/m", stream=True), vendors.EVENTS,
                         vendors.messages),
    "responses of messages": ("/v1/responses", {"model": "claude/m", "input": "hi", "stream": True},
                              vendors.EVENTS, vendors.messages),
    "chat of gemini": ("/v1/chat/completions", said("hi", model="google/m", stream=True), vendors.EVENTS,
                       vendors.gemini),
    "gemini": ("/v1/google/v1beta/models/m:streamGenerateContent?alt=sse", CONTENTS, vendors.EVENTS,
               vendors.gemini),
    "gemini array": ("/v1/google/v1beta/models/m:streamGenerateContent", CONTENTS, "application/json",
                     vendors.gemini_array),
    "converse": ("/v1/aws/model/m/converse-stream", CONVERSE, vendors.MESSAGES, vendors.converse),
    "invoke": ("/v1/aws/model/m/invoke-with-response-stream", MESSAGES, vendors.MESSAGES, vendors.invoke),
    "chat of converse": ("/v1/chat/completions", said("hi", model="aws/amazon.nova-lite-v1:0", stream=True),
                         vendors.MESSAGES, vendors.converse),
    "cohere": ("/v1/co/v2/chat", {"model": "m", "stream": True, "messages": said("hi")["messages"]},
               vendors.EVENTS, vendors.cohere),
    "ollama": ("/v1/local/api/chat", {"model": "m", "messages": said("hi")["messages"]}, vendors.LINES,
               vendors.ollama),
    "unknown": ("/v1/mock/new/endpoint", {"model": "any", "stream": True}, vendors.EVENTS, vendors.unknown),
    "plain": ("/v1/mock/new/text", {"model": "any"}, "text/plain; charset=utf-8", vendors.plain),
}  # fmt: skip


def places(upstream: MockUpstream) -> list[dict[str, Any]]:
    """One upstream of each provider, all of them the same mock."""
    tables = [
        ("mock", "openai", f"{upstream.origin}/v1", {}),
        ("claude", "anthropic", upstream.origin, {}),
        ("google", "gemini", upstream.origin, {}),
        ("aws", "bedrock", upstream.origin, {"options": {"region": "us-east-1"}}),
        ("co", "cohere", upstream.origin, {}),
        ("local", "ollama_native", upstream.origin, {}),
    ]
    return [
        {"name": n, "provider": p, "base_url": url, "key": {"env": "GUARDRAILS_TEST_KEY"}, **more}
        for n, p, url, more in tables
    ]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDRAILS_TEST_KEY", "key-of-the-gateway")


async def start(raven: Any, upstream: MockUpstream, *tables: Any, **fields: Any) -> Any:
    config = rules(*(tables or (WORD, CARD, SECRET)), **{"applies_to": "output", **fields})
    return await raven(base=BASE, upstreams=places(upstream), config=config)


def script(upstream: MockUpstream, kind: str, data: bytes, size: int = 37) -> None:
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    upstream.script(ScriptedReply(headers={"Content-Type": kind}, chunks=chunks))


async def read(gateway: Any, path: str, body: Any) -> tuple[int, str, bytes, bool]:
    """Give status, media type, bytes, and whether the connection was cut."""
    data = b""
    async with gateway.client.post(path, json=body) as reply:
        try:
            async for piece in reply.content.iter_any():
                data += piece
        except ClientPayloadError:
            return reply.status, reply.headers["Content-Type"], data, True
        return reply.status, reply.headers["Content-Type"], data, False


def cut(text: str, size: int = 5) -> Sequence[str]:
    return [text[n : n + size] for n in range(0, len(text), size)]


@pytest.mark.parametrize("name", ROUTES)
async def test_a_redacted_stream(raven: Any, upstream: MockUpstream, name: str) -> None:
    """In every dialect: nothing of it on the wire, the rest is whole, and the header says who watched."""
    path, body, kind, make = ROUTES[name]
    gateway = await start(raven, upstream, action="redact")
    script(upstream, kind, make(cut(SAID)))
    async with gateway.client.post(path, json=body) as reply:
        data = await reply.read()
        assert reply.status == 200, data
        assert reply.headers["X-Raven-Guardrails"].count("output=watched") == 3
        texts = vendors.spelled(data, reply.headers["Content-Type"].replace("; charset=UTF-8", ""))
    assert [text for text in texts if LEFT in text]
    for needle in NEEDLES:
        assert not [text for text in texts if needle in text]


@pytest.mark.parametrize("needle", NEEDLES)
@pytest.mark.parametrize("name", ROUTES)
async def test_a_blocked_stream(raven: Any, upstream: MockUpstream, name: str, needle: str) -> None:
    """It ends before the match with the dialect's error event and a cut connection, or with a 403."""
    path, body, kind, make = ROUTES[name]
    gateway = await start(raven, upstream)
    script(upstream, kind, make(cut(f"Well then: {needle}, and so on.", 3)))
    status, content_type, data, is_cut = await read(gateway, path, body)
    data = data.replace(b"Never say falcon.", b"")  # the client's own instructions, repeated
    assert needle[:5].encode() not in data
    if status == 200:
        assert is_cut
        if content_type.startswith(("text/event-stream", vendors.LINES)):
            assert b"guardrail_blocked" in data or b"blocked the reply" in data
            assert b"[DONE]" not in data
    else:
        assert status == 403
        assert b"guardrail" in data


WHOLE: dict[str, tuple[str, Any, Any]] = {
    "chat": (
        "/v1/chat/completions", said("hi"),
        lambda t: {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": "stop", "logprobs": {"content": [{"token": t, "logprob": 0}]},
             "message": {"role": "assistant", "content": t}}]},
    ),
    "chat tool": (
        "/v1/chat/completions", said("hi"),
        lambda t: {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None,
             "tool_calls": [{"id": "x", "type": "function", "function": {
                 "name": "f", "arguments": msgspec.json.encode({"a": t, "n": [t]}).decode()}}]}}]},
    ),
    "messages": (
        "/v1/messages", {"model": "claude/m", **MESSAGES},
        lambda t: {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                   "usage": {"input_tokens": 1, "output_tokens": 1},
                   "content": [{"type": "text", "text": t[:9]}, {"type": "text", "text": t[9:]}]},
    ),
    "chat of messages": (
        "/v1/chat/completions", said("hi", model="claude/m"),
        lambda t: {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                   "usage": {"input_tokens": 1, "output_tokens": 1},
                   "content": [{"type": "text", "text": t[:9]}, {"type": "text", "text": t[9:]}]},
    ),
    "responses": (
        "/v1/responses", {"model": "mock/any", "input": "hi"},
        lambda t: {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
                   "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
                   "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                               "content": [{"type": "output_text", "text": t, "annotations": []}]}]},
    ),
    "gemini": (
        "/v1/google/v1beta/models/m:generateContent", CONTENTS,
        lambda t: {"candidates": [{"content": {"role": "model", "parts": [{"text": t}]},
                                   "finishReason": "STOP"}],
                   "usageMetadata": {"promptTokenCount": 1}},
    ),
    "converse": (
        "/v1/aws/model/m/converse", CONVERSE,
        lambda t: {"output": {"message": {"role": "assistant", "content": [{"text": t}]}},
                   "stopReason": "end_turn",
                   "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}},
    ),
    "cohere": (
        "/v1/co/v2/chat", {"model": "m", "messages": said("hi")["messages"]},
        lambda t: {"id": "1", "finish_reason": "COMPLETE", "message": {
            "role": "assistant", "content": [{"type": "text", "text": t}]}},
    ),
    "ollama": (
        "/v1/local/api/chat", {"model": "m", "stream": False, "messages": said("hi")["messages"]},
        lambda t: {"model": "m", "message": {"role": "assistant", "content": t}, "done": True},
    ),
    "unknown": ("/v1/mock/new/endpoint", {"model": "any"}, lambda t: {"some": [{"thing": {"new": t}}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_reply(raven: Any, upstream: MockUpstream, name: str) -> None:
    """Redacted, or a 403 in the client's dialect."""
    path, body, make = WHOLE[name]
    gateway = await start(raven, upstream, action="redact")
    upstream.reply(json=make(SAID))
    async with gateway.client.post(path, json=body) as reply:
        text = await reply.text()
        assert reply.status == 200, text
        assert reply.headers["X-Raven-Guardrails"].count("output=redacted") == 3
    assert "[REDACTED] has [REDACTED] and [REDACTED]" in text.replace('"},{"type":"text","text":"', "")
    for needle in NEEDLES:
        assert needle not in text.replace('"},{"type":"text","text":"', "")
    gateway = await start(raven, upstream)
    upstream.reply(json=make(SAID))
    async with gateway.client.post(path, json=body) as reply:
        text = await reply.text()
        assert reply.status == 403
        assert "output=blocked" in reply.headers["X-Raven-Guardrails"]
    for needle in NEEDLES:
        assert needle not in text


async def test_a_warning_about_a_whole_reply(raven: Any, upstream: MockUpstream) -> None:
    """It is a header, and the bytes are the provider's."""
    gateway = await start(raven, upstream, WORD, action="warn")
    upstream.reply(json=WHOLE["chat"][2](SAID))
    async with gateway.client.post("/v1/chat/completions", json=said("hi")) as reply:
        assert SAID in await reply.text()
        assert reply.headers["X-Guardrail-Warnings"] == "words"
        assert reply.headers["X-Raven-Guardrails"] == "words;output=warned"


SCHEMA = {
    "name": "shape", "type": "json_schema",
    "config": {"schema": {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}},
}  # fmt: skip


@pytest.mark.parametrize(("answer", "status"), [('{"x": 1}', 200), ('{"x": "1"}', 403), ("no", 403)])
@pytest.mark.parametrize("name", ["chat", "responses", "messages", "converse", "gemini", "cohere", "ollama"])
async def test_a_schema_judges_what_is_answered(
    raven: Any, upstream: MockUpstream, name: str, answer: str, status: int
) -> None:
    """Whole and as a stream; a stream is collected, so its refusal is a 403 too."""
    gateway = await start(raven, upstream, SCHEMA)
    path, body, make = WHOLE[name]
    upstream.reply(json=make(answer))
    async with gateway.client.post(path, json=body) as reply:
        assert reply.status == status, await reply.text()
    path, body, kind, make = ROUTES[name]
    data = make(cut(answer, 3))
    script(upstream, kind, data)
    async with gateway.client.post(path, json=body) as reply:
        got = await reply.read()
        assert reply.status == status, got
        assert "output=" + ("passed" if status == 200 else "blocked") in reply.headers["X-Raven-Guardrails"]
    if status == 200 and name in ("messages", "gemini", "converse", "cohere", "ollama"):
        assert got == data


async def test_a_schema_lets_pass_what_is_no_answer(raven: Any, upstream: MockUpstream) -> None:
    """Vectors, and calls of tools, whole and streamed; but not nothing, and not what nobody knows."""
    gateway = await start(raven, upstream, SCHEMA)

    async def status(path: str, body: Any) -> int:
        async with gateway.client.post(path, json=body) as reply:
            _ = await reply.read()
            return int(reply.status)

    assert await status("/v1/embeddings", {"model": "mock/m", "input": "hi"}) == 200
    upstream.reply(json=WHOLE["chat tool"][2]("x"))
    assert await status("/v1/chat/completions", said("hi")) == 200
    for make, wanted in ((vendors.chat_tool, 200), (vendors.chat, 403), (vendors.chat_reasoning, 403)):
        script(upstream, vendors.EVENTS, make([] if make is vendors.chat else ["{}"]))
        assert await status("/v1/chat/completions", said("hi", stream=True)) == wanted
    upstream.reply(json={"some": '{"x": 1}'})
    assert await status("/v1/mock/new/endpoint", {"model": "any"}) == 403


async def test_length_is_counted_over_a_stream(raven: Any, upstream: MockUpstream) -> None:
    """It ends at the event that is too much."""
    limit = {"name": "short", "type": "max_length", "config": {"max_characters": 20}}
    gateway = await start(raven, upstream, limit)
    events = vendors.chat(["0123456789"] * 3).split(b"\n\n")
    chunks: list[bytes | float] = [b"\n\n".join(events[:3]) + b"\n\n", 0.3, b"\n\n".join(events[3:])]
    upstream.script(ScriptedReply(headers={"Content-Type": vendors.EVENTS}, chunks=chunks))
    status, _, data, is_cut = await read(gateway, "/v1/chat/completions", said("hi", stream=True))
    assert (status, is_cut) == (200, True), data
    assert data.count(b"0123456789") == 2
    assert b"guardrail_blocked" in data


@pytest.mark.parametrize("stream", [False, True])
async def test_who_answers_in_place_of_a_provider_is_judged_too(raven: Any, stream: bool) -> None:
    """The demo provider says again what it was asked."""
    gateway = await raven(base=("guardrails", "demo", "openai"), config=rules(WORD, applies_to="output"))
    body = said("Say falcon falcon falcon", model="demo/chat", stream=stream)
    status, _, data, is_cut = await read(gateway, "/v1/chat/completions", body)
    assert b"alcon" not in data
    assert status == 403 or is_cut or b"guardrail_blocked" in data
