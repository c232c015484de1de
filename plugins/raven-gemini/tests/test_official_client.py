"""Google's own client, with nothing changed but its base URL and a header."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

Start = Callable[..., Any]


def connect(gateway: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genai = pytest.importorskip("google.genai")
    headers = {"Authorization": f"Bearer {gateway.key}"}
    place = genai.types.HttpOptions(base_url=gateway.url + options.pop("path"), headers=headers)
    return genai.Client(api_key="unused", http_options=place, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
async def test_googles_client_reads_what_passes(gemini: Start, upstream: MockUpstream) -> None:
    """Answers, streams, counts and embeddings over the raw path, version and all."""
    gateway = await gemini()
    client = connect(gateway, path="/v1/gemini")
    part = {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}, "thoughtSignature": "U0lH"}
    candidate = {"content": {"parts": [{"text": "Hello"}, part], "role": "model"}, "finishReason": "STOP"}
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    upstream.reply(json={"candidates": [candidate], "usageMetadata": usage})
    reply = await client.aio.models.generate_content(model="gemini-2.5-flash", contents="Hi")
    assert reply.candidates[0].content.parts[0].text == "Hello"
    assert reply.function_calls[0].args == {"a": 1}
    version, _, path = upstream.seen[-1].target[1:].partition("/")  # the client's own version of the API
    assert (version in ("v1", "v1beta"), path) == (True, "models/gemini-2.5-flash:generateContent")
    assert upstream.seen[-1].headers["x-goog-api-key"].startswith("AIza")
    upstream.reply(events=[{"candidates": [candidate]}], done=False)
    stream = await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")
    pieces = [chunk async for chunk in stream]
    assert [chunk.candidates[0].content.parts[0].text for chunk in pieces] == ["Hello"]
    upstream.reply(json={"totalTokens": 7})
    counted = await client.aio.models.count_tokens(model="gemini-2.5-flash", contents="Hi")
    assert counted.total_tokens == 7
    upstream.reply(json={"embeddings": [{"values": [1, 2]}]})
    made = await client.aio.models.embed_content(model="gemini-embedding-001", contents="Hi")
    assert made.embeddings[0].values == [1.0, 2.0]
    await client.aio.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
async def test_googles_client_understands_our_errors(gemini: Start, upstream: MockUpstream) -> None:
    """Code, status and message, from Google and from the gateway."""
    gateway = await gemini()
    client = connect(gateway, path="/v1/gemini")
    errors = pytest.importorskip("google.genai.errors")
    error = {"error": {"code": 404, "message": "No such model.", "status": "NOT_FOUND"}}
    upstream.script(ScriptedReply.of_json(error, status=404))
    with pytest.raises(errors.ClientError) as caught:
        await client.aio.models.generate_content(model="gone", contents="Hi")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    assert "No such model." in caught.value.message
    await client.aio.aclose()
