"""Through a running gateway, with official clients: OpenAI's in front of Ollama, and Ollama's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import ollama
import openai
import pytest

from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

ASK: Any = [{"role": "user", "content": "Hi"}]
NDJSON = {"Content-Type": "application/x-ndjson"}
CALL = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}


def lines(*messages: dict[str, Any], **last: Any) -> bytes:
    head = {"model": "llama3.2", "created_at": "2026-01-02T03:04:05.123456789Z"}
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    found = [{**head, "message": {"role": "assistant", **one}, "done": False} for one in messages]
    return b"".join(msgspec.json.encode(one) + b"\n" for one in [*found, {**head, **end, **last}])


STREAM = lines(
    {"content": "", "thinking": "Hm."},
    {"content": "Let me "},
    {"content": "see."},
    {"content": "", "tool_calls": [CALL]},
    prompt_eval_count=12,
    eval_count=34,
)


@pytest.fixture
async def gateway(raven: GatewayStarter, upstream: MockUpstream) -> RunningGateway:
    local = {"name": "local", "provider": "ollama_native", "base_url": upstream.origin}
    return await raven(["ollama"], upstreams=[local])


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as found:
        yield found


@pytest.fixture
async def own(gateway: RunningGateway) -> AsyncIterator[ollama.AsyncClient]:
    headers = {"Authorization": f"Bearer {gateway.key}"}
    async with ollama.AsyncClient(host=f"{gateway.url}/v1/ollama_native", headers=headers) as found:
        yield found


async def test_an_openai_client_talks_to_ollama(client: openai.AsyncOpenAI, upstream: MockUpstream) -> None:
    whole = msgspec.json.decode(STREAM.splitlines()[-1])
    whole["message"] = {"role": "assistant", "content": "Yes.", "thinking": "Hm."}
    upstream.reply(json=whole)
    reply = await client.chat.completions.create(
        model="local/llama3.2", messages=ASK, max_completion_tokens=9, reasoning_effort="low"
    )
    message: Any = reply.choices[0].message
    assert (message.content, message.reasoning_content) == ("Yes.", "Hm.")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (12, 34)
    assert msgspec.json.decode(upstream.seen[0].body) == {
        "model": "llama3.2", "messages": ASK, "stream": False, "think": "low", "options": {"num_predict": 9},
    }  # fmt: skip


async def test_an_openai_client_streams_from_ollama(
    client: openai.AsyncOpenAI, upstream: MockUpstream
) -> None:
    upstream.script(ScriptedReply(headers=NDJSON, chunks=[STREAM[:70], STREAM[70:300], STREAM[300:]]))
    stream = await client.chat.completions.create(
        model="local/llama3.2", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    text = thought = arguments = ""
    finish = usage = None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            delta: Any = choice.delta
            text += delta.content or ""
            thought += getattr(delta, "reasoning_content", None) or ""
            finish = choice.finish_reason or finish
            arguments += "".join(call.function.arguments or "" for call in delta.tool_calls or ())
    assert (text, thought, finish) == ("Let me see.", "Hm.", "tool_calls")
    assert msgspec.json.decode(arguments) == {"city": "Köln"}
    assert usage is not None
    assert usage.total_tokens == 46


async def test_an_openai_client_embeds_with_ollama(
    client: openai.AsyncOpenAI, upstream: MockUpstream
) -> None:
    upstream.reply(json={"model": "m", "embeddings": [[0.5, 1.0]], "prompt_eval_count": 3})
    found = await client.embeddings.create(model="local/all-minilm", input="a")
    assert (found.data[0].embedding, found.usage.prompt_tokens) == ([0.5, 1.0], 3)
    assert upstream.seen[0].path == "/api/embed"


async def test_ollamas_own_client_gets_ollamas_own_bytes(
    gateway: RunningGateway, own: ollama.AsyncClient, upstream: MockUpstream
) -> None:
    upstream.script(ScriptedReply(headers=NDJSON, chunks=[STREAM]))
    parts = [part async for part in await own.chat(model="llama3.2", messages=ASK, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == "Let me see."
    assert parts[-1].eval_count == 34
    upstream.script(ScriptedReply(headers=NDJSON, chunks=[STREAM]))
    body = b'{"model": "llama3.2",  "messages": []}'
    async with gateway.client.post(
        "/v1/ollama_native/api/chat", data=body, headers={"Content-Type": "application/json"}
    ) as reply:
        assert await reply.read() == STREAM
    assert upstream.seen[-1].body == body
    upstream.reply(json={"models": [{"name": "llama3.2", "model": "llama3.2"}]})
    assert [model.model for model in (await own.list()).models] == ["llama3.2"]
    assert upstream.seen[-1].path == "/api/tags"


async def test_a_missing_model_is_a_404_for_both(
    client: openai.AsyncOpenAI, own: ollama.AsyncClient, upstream: MockUpstream
) -> None:
    upstream.reply(status=404, json={"error": "model 'x' not found"})
    with pytest.raises(openai.NotFoundError, match="model 'x' not found"):
        await client.chat.completions.create(model="local/x", messages=ASK)
    upstream.reply(status=404, json={"error": "model 'x' not found"})
    with pytest.raises(ollama.ResponseError, match="model 'x' not found") as caught:
        await own.chat(model="x", messages=ASK)
    assert caught.value.status_code == 404


async def test_an_error_in_the_stream_is_an_error_for_the_client(
    client: openai.AsyncOpenAI, upstream: MockUpstream
) -> None:
    first = STREAM.splitlines(keepends=True)[1]
    upstream.script(ScriptedReply(headers=NDJSON, chunks=[first, b'{"error":"out of memory"}\n']))
    stream = await client.chat.completions.create(model="local/llama3.2", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        async for _ in stream:
            pass


async def test_a_model_that_cannot_think_is_asked_once_more_without(
    client: openai.AsyncOpenAI, upstream: MockUpstream
) -> None:
    refusal = {"error": '"llama3.2" does not support thinking'}
    upstream.reply(status=400, json=refusal)
    upstream.script(ScriptedReply(headers={"Content-Type": "application/json"}, chunks=[lines(eval_count=1)]))
    ask: Any = {"model": "local/llama3.2", "messages": ASK, "reasoning_effort": "low"}
    reply = await client.chat.completions.create(**ask)
    assert reply.choices[0].finish_reason == "stop"
    assert [b'"think"' in seen.body for seen in upstream.seen] == [True, False]
    upstream.reply(status=400, json=refusal)
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        await client.chat.completions.create(**ask, extra_headers={"X-Raven-Strict": "true"})
