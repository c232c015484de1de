"""Through a running gateway, with official clients: OpenAI's in front of Cohere, and Cohere's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import cohere
import httpx
import msgspec
import openai
import pytest

from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

ASK: Any = [{"role": "user", "content": "Hi"}]


def replay(recording: Any) -> ScriptedReply:
    headers = {"Content-Type": recording.response["headers"].get("content-type", "application/json")}
    status = recording.response["status"]
    return ScriptedReply(status=status, headers=headers, chunks=[recording.body()])


def find(recordings: list[Any], start: str) -> Any:
    return next(r for r in recordings if r.id.startswith(f"cohere/{start}"))


@pytest.fixture
async def gateway(
    raven: GatewayStarter, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> RunningGateway:
    monkeypatch.setenv("CO_TEST_KEY", "co-upstream-test")
    account = {
        "name": "co", "provider": "cohere", "base_url": upstream.origin, "key": {"env": "CO_TEST_KEY"},
    }  # fmt: skip
    alias = [{"name": "fast", "target": "co/command-a-03-2025"}]
    return await raven(["cohere"], upstreams=[account], config={"models": alias})


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as found:
        yield found


@pytest.fixture
async def own(gateway: RunningGateway) -> AsyncIterator[cohere.AsyncClientV2]:
    async with httpx.AsyncClient() as session:
        yield cohere.AsyncClientV2(
            api_key=gateway.key, base_url=f"{gateway.url}/v1/cohere", httpx_client=session
        )


async def test_an_openai_client_talks_to_cohere(
    client: openai.AsyncOpenAI, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(find(recordings, "chat-document")))
    reply = await client.chat.completions.create(model="fast", messages=ASK, top_p=0.5)
    message: Any = reply.choices[0].message
    assert message.content.startswith("According to the knowledge base")
    assert message.reasoning_content.startswith("Great!")
    assert [one["title"] for one in message.citations] == ["Ruby Facts"] * 5
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (379, 164)
    assert reply.usage.completion_tokens_details is not None
    assert reply.usage.completion_tokens_details.reasoning_tokens == 54
    sent = upstream.seen[0]
    assert (sent.path, sent.headers["authorization"]) == ("/v2/chat", "Bearer co-upstream-test")
    assert msgspec.json.decode(sent.body) == {
        "model": "command-a-03-2025", "messages": ASK, "stream": False, "p": 0.5,
    }  # fmt: skip


async def test_an_openai_client_streams_from_cohere(
    client: openai.AsyncOpenAI, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(find(recordings, "chat-tool-call-stream")))
    stream = await client.chat.completions.create(
        model="fast", messages=ASK, stream=True, stream_options={"include_usage": True}
    )  # fmt: skip
    name = arguments = ""
    finish = usage = None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    assert (name, msgspec.json.decode(arguments), finish) == ("subtract", {"x": 2, "y": 5}, "tool_calls")
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1501, 346)


async def test_strict_clients_may_use_coheres_own_parameters_and_learn_what_is_not(
    client: openai.AsyncOpenAI, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(find(recordings, "chat-chat")))
    strict = {"X-Raven-Strict": "true"}
    await client.chat.completions.create(
        model="fast", messages=ASK, extra_body={"safety_mode": "STRICT"}, extra_headers=strict
    )
    assert msgspec.json.decode(upstream.seen[0].body)["safety_mode"] == "STRICT"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="fast", messages=ASK, extra_body={"min_p": 0.1}, extra_headers=strict
        )
    assert caught.value.param == "min_p"


async def test_a_removed_model_is_a_404(
    client: openai.AsyncOpenAI, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(find(recordings, "chat-error")))
    with pytest.raises(openai.NotFoundError, match="was removed"):
        await client.chat.completions.create(model="fast", messages=ASK)


async def test_coheres_own_client_gets_coheres_own_bytes(
    gateway: RunningGateway, own: cohere.AsyncClientV2, upstream: MockUpstream, recordings: list[Any]
) -> None:
    recording = find(recordings, "chat-tool-result-stream")
    upstream.script(replay(recording))
    events = [e async for e in own.chat_stream(model="command-a-03-2025", messages=ASK)]
    assert events[0].type == "message-start"
    assert events[-1].type == "message-end"
    body = msgspec.json.encode({"model": "m", "messages": ASK, "stream": True})
    upstream.script(replay(recording))
    async with gateway.client.post(
        "/v1/cohere/v2/chat", data=body, headers={"Content-Type": "application/json"}
    ) as reply:
        assert await reply.read() == recording.body()
    assert upstream.seen[-1].body == body


async def test_coheres_own_client_reranks_and_embeds(
    own: cohere.AsyncClientV2, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(find(recordings, "rerank")))
    ranked = await own.rerank(model="rerank-v3.5", query="q", documents=["a", "b", "c"], top_n=2)
    assert [one.index for one in ranked.results] == [1, 0]
    upstream.script(replay(find(recordings, "embeddings")))
    vectors = await own.embed(
        model="embed-v4.0", texts=["a"], input_type="search_document", embedding_types=["float"]
    )
    assert vectors.embeddings.float_ is not None
    assert len(vectors.embeddings.float_[0]) == 1024


async def test_the_rerank_face_passes_coheres_bytes(
    gateway: RunningGateway, upstream: MockUpstream, recordings: list[Any]
) -> None:
    recording = find(recordings, "rerank")
    upstream.script(replay(recording))
    body = b'{"model": "co/rerank-v3.5", "query": "q", "documents": ["a", "b"]}'
    async with gateway.client.post(
        "/v1/rerank", data=body, headers={"Content-Type": "application/json"}
    ) as reply:
        assert (reply.status, await reply.read()) == (200, recording.body())
    assert upstream.seen[0].path == "/v2/rerank"
    assert upstream.seen[0].body == body.replace(b"co/rerank-v3.5", b"rerank-v3.5")


@pytest.fixture
async def voyage(raven: GatewayStarter, upstream: MockUpstream) -> RunningGateway:
    account = {"name": "v", "provider": "voyage", "base_url": upstream.url}
    config = {"plugin": {"openai": {"presets": {"voyage": {"needs_key": False}}}}}
    return await raven(["cohere"], upstreams=[account], config=config)


async def test_another_vendors_ranking_has_the_shape_of_the_face(
    voyage: RunningGateway, upstream: MockUpstream, recordings: list[Any]
) -> None:
    recording = next(r for r in recordings if r.provider == "voyage")
    upstream.script(replay(recording))
    ask = {"model": "v/rerank-2-lite", "query": "q", "documents": ["a", "b", "c"], "top_n": 2}
    async with voyage.client.post("/v1/rerank", json=ask | {"return_documents": True}) as reply:
        document = await reply.json()
    assert document["results"] == [
        {"index": 0, "relevance_score": 0.69140625, "document": {"text": "a"}},
        {"index": 2, "relevance_score": 0.494140625, "document": {"text": "c"}},
    ]
    assert document["usage"] == {"prompt_tokens": 43, "total_tokens": 43}
    assert document["model"] == "rerank-2-lite"
    sent = msgspec.json.decode(upstream.seen[0].body)
    assert (upstream.seen[0].path, sent["model"], sent["top_k"]) == ("/v1/rerank", "rerank-2-lite", 2)
    assert "top_n" not in sent


async def test_coheres_older_client_reranks_through_the_face(
    voyage: RunningGateway, upstream: MockUpstream, recordings: list[Any]
) -> None:
    upstream.script(replay(next(r for r in recordings if r.provider == "voyage")))
    async with httpx.AsyncClient() as session:
        client = cohere.AsyncClient(api_key=voyage.key, base_url=voyage.url, httpx_client=session)
        ranked = await client.rerank(model="v/rerank-2-lite", query="q", documents=["a", "b", "c"])
    assert [one.index for one in ranked.results] == [0, 2]


async def test_an_error_of_the_face_has_both_shapes(gateway: RunningGateway, upstream: MockUpstream) -> None:
    async with gateway.client.post("/v1/rerank", json={"model": "demo/raven", "query": "q"}) as reply:
        document = await reply.json()
    assert (reply.status, document["error"]["param"], document["message"]) == (
        400, "documents", document["error"]["message"],
    )  # fmt: skip


async def test_an_openai_client_embeds_with_cohere(
    client: openai.AsyncOpenAI, upstream: MockUpstream, recordings: list[Any]
) -> None:
    recording = find(recordings, "embeddings")
    upstream.script(replay(recording))
    found = await client.embeddings.create(model="co/embed-v4.0", input="a", dimensions=1024)
    expected = msgspec.json.decode(recording.body())["embeddings"]["float"][0]
    assert found.data[0].embedding == pytest.approx(expected, rel=1e-6)
    assert found.usage.prompt_tokens == 7
    with pytest.raises(openai.BadRequestError, match="at most 96"):
        await client.embeddings.create(model="co/embed-v4.0", input=["a"] * 97)


async def test_a_raw_stream_that_breaks_off_ends_with_coheres_error_event(
    gateway: RunningGateway, upstream: MockUpstream, recordings: list[Any]
) -> None:
    body = find(recordings, "chat-tool-result-stream").body()
    cut = body[: body.index(b"event: content-end")]
    upstream.script(ScriptedReply(headers={"Content-Type": "text/event-stream"}, chunks=[cut]))
    async with gateway.client.post("/v1/cohere/v2/chat", json={"model": "m", "stream": True}) as reply:
        text = b"".join([piece async for piece in _pieces(reply)])
    assert text.startswith(cut)
    last = text.removeprefix(cut)
    assert last.startswith(b"event: message-end\ndata: ")
    assert b"[DONE]" not in text


async def _pieces(reply: Any) -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for piece in reply.content.iter_any():
            yield piece
    except aiohttp.ClientPayloadError:
        return
