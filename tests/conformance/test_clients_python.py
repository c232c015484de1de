"""OpenAI's own Python client, whose `base_url` alone was changed, works against the gateway.

Each promise is tested with the synchronous and the asynchronous client, on `/v1`, `/api/v1` and the raw
path `/v1/openai`. Errors: `test_clients_errors.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from pydantic import BaseModel

from raven_proxy.mock import MockUpstream

from .clients import MODELS, QUESTION, WEATHER, Client, open_client
from .conftest import VENDOR_KEY, VendorStarter


class Report(BaseModel):
    """What the model is to fill in."""

    city: str
    degrees: float
    tags: list[str]


@pytest_asyncio.fixture(params=["/v1", "/api/v1", "/v1/openai"])
async def base_url(request: pytest.FixtureRequest, vendor: VendorStarter) -> str:
    gateway = await vendor(models=[*MODELS, "fx-*"])
    return gateway.url + str(request.param)


@pytest_asyncio.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, base_url: str) -> AsyncIterator[Client]:
    async with open_client(request.param, base_url) as opened:
        yield opened


async def test_a_chat(client: Client, upstream: MockUpstream) -> None:
    """A chat is answered with text, finish reason and usage; the gateway's key stays at the gateway."""
    answer = await client.chat()
    assert "What is the weather in Paris?" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert upstream.seen[0].key == VENDOR_KEY
    assert b"rk_test_" not in upstream.seen[0].raw


async def test_every_parameter_arrives(client: Client, upstream: MockUpstream) -> None:
    """Known and unknown parameters, vendor headers and query reach the provider as the client wrote them."""
    options: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.9, "n": 2, "stop": ["\n\n"], "seed": 7, "user": "someone",
        "max_completion_tokens": 3, "logprobs": True, "top_logprobs": 2, "metadata": {"a": "b"},
        "reasoning_effort": "low", "service_tier": "auto", "store": False,
    }  # fmt: skip
    extra: dict[str, Any] = {"extra_body": {"new_field": {"deep": [1, None, "\u2603"]}}}
    extra["extra_headers"] = {"OpenAI-Organization": "org-mine", "OpenAI-Beta": "things=v9"}
    answer = await client.chat(**options, **extra)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    [seen] = upstream.seen
    assert seen.json == {"model": "mock-small", "messages": QUESTION} | options | extra["extra_body"]
    assert (seen.headers["openai-organization"], seen.headers["openai-beta"]) == ("org-mine", "things=v9")


@pytest.mark.parametrize("include_usage", [None, False, True])
async def test_a_stream(client: Client, upstream: MockUpstream, include_usage: bool | None) -> None:
    """A stream says what the whole reply says; the usage chunk comes to those who asked for it alone."""
    asking: dict[str, Any] = {}
    if include_usage is not None:
        asking["stream_options"] = {"include_usage": include_usage}
    whole = await client.chat()
    chunks = await client.chat(stream=True, **asking)
    parts = [chunk for chunk in chunks if chunk.choices]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
    assert text == whole.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == "stop"
    assert [chunk.usage for chunk in chunks if chunk.usage] == ([whole.usage] if include_usage else [])
    assert len(chunks) == len(parts) + (include_usage is True)


async def test_tools(client: Client) -> None:
    """A tool call comes whole, its result goes back, and the model goes on."""
    answer = await client.chat(tools=[WEATHER])
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    [call] = message.tool_calls
    assert call.function.name == "get_weather"
    assert set(msgspec.json.decode(call.function.arguments)) == {"city", "days"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is 21 degrees."}
    history = [*QUESTION, message.to_dict(), result]
    final = await client.chat(messages=history, tools=[WEATHER])
    assert "It is 21 degrees." in final.choices[0].message.content


async def test_streamed_tools(client: Client) -> None:
    """The pieces of streamed tool calls put together are the calls of the whole reply."""
    both: Any = [WEATHER, {"type": "function", "function": {"name": "get_time_of_weather"}}]
    whole = await client.chat(tools=both)
    state = ChatCompletionStreamState(input_tools=both)
    for chunk in await client.chat(tools=both, stream=True):
        state.handle_chunk(chunk)
    streamed = state.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    expected = [call.function.arguments for call in whole.choices[0].message.tool_calls]
    assert len(expected) == 2
    assert [call.function.arguments for call in streamed.message.tool_calls or []] == expected


async def test_structured_output(client: Client, upstream: MockUpstream) -> None:
    """A pydantic model goes up as a JSON schema and comes back as an object."""
    answer = await client.ask(
        "chat.completions.parse", model="mock-small", messages=QUESTION, response_format=Report
    )
    assert isinstance(answer.choices[0].message.parsed, Report)
    assert upstream.seen[0].json["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings(client: Client, encoding: str | None) -> None:
    """Embeddings come in order and in the encoding asked for; the client's default is base64."""
    client.accept_anything()  # its types have no base64, which it asks for by itself
    options: dict[str, Any] = {"encoding_format": encoding} if encoding else {}
    answer = await client.ask(
        "embeddings.create", model="mock-embedding", input=["one", "two"], dimensions=8, **options
    )
    assert [item.index for item in answer.data] == [0, 1]
    for item in answer.data:
        vector = item.embedding
        assert len(vector) == 8 if encoding != "base64" else isinstance(vector, str)
    assert answer.usage.total_tokens == 2


async def test_legacy_completions(client: Client) -> None:
    """The older endpoint works whole and streamed."""
    client.accept_anything()  # its types have no chunk without a finish reason
    options: dict[str, Any] = {"model": "mock-small", "prompt": "Once upon a time"}
    whole = await client.ask("completions.create", **options)
    chunks = await client.ask("completions.create", **options, stream=True)
    assert "Once upon a time" in whole.choices[0].text
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert whole.usage.total_tokens > 0


async def test_models(client: Client, base_url: str) -> None:
    """The list names what the key may call, and each of them can be asked for by its id."""
    listed = await client.ask("models.list")
    assert {model.id for model in listed.data} == set(MODELS)
    one = await client.ask("models.retrieve", model="mock-large")
    assert (one.id, one.object) == ("mock-large", "model")
    if not base_url.endswith("/openai"):  # there it is the provider's own list
        assert one.owned_by == "openai"


async def test_headers_of_a_reply(client: Client) -> None:
    """The client can read the request id and what served it, and the body beside."""
    raw = await client.ask("chat.completions.with_raw_response.create", model="mock-small", messages=QUESTION)
    assert raw.headers["X-Request-ID"].startswith("req_")
    assert raw.headers["X-Raven-Provider"] == "vendor"
    assert raw.headers["X-Raven-Model"] == "mock-small"
    assert int(raw.headers["X-Raven-Latency-Ms"]) >= 0
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer._request_id == raw.headers["X-Request-ID"]


async def test_a_stream_that_is_left(client: Client, upstream: MockUpstream) -> None:
    """A client that closes a stream early stops the provider at once."""
    options: Any = {"model": "fx-endless", "messages": QUESTION, "stream": True}
    if isinstance(client.client, AsyncOpenAI):
        stream = await client.client.chat.completions.create(**options)
        async for _ in stream:
            break
        await stream.close()
    else:
        plain = client.client

        def leave() -> None:
            with plain.chat.completions.create(**options) as chunks:
                next(iter(chunks))

        await asyncio.to_thread(leave)
    await upstream.wait_until(lambda: upstream.seen and upstream.seen[0].closed_early)
