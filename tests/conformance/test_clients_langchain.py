"""LangChain's OpenAI classes, whose `base_url` alone was changed, work against the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .clients import MODELS
from .conftest import VendorStarter

QUESTION = "What is the weather in Paris?"


class Report(BaseModel):
    """A report of the weather."""

    city: str
    degrees: float


@tool
def get_weather(city: str) -> str:
    """Look the weather up."""
    return f"It rains on {city}."


Opener = Callable[..., ChatOpenAI]


@pytest_asyncio.fixture
async def settings(vendor: VendorStarter, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Start a gateway; give what LangChain has to be told of it."""
    for name in ("LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING", "LANGSMITH_TRACING"):
        monkeypatch.setenv(name, "false")
    gateway = await vendor(models=[*MODELS, "fx-*"])
    return {"base_url": f"{gateway.url}/v1", "api_key": ADMIN_KEY, "max_retries": 0}


@pytest_asyncio.fixture
async def open_chat(settings: dict[str, Any]) -> AsyncIterator[Opener]:
    """Make a ChatOpenAI; LangChain itself never closes what it opened."""
    chats: list[ChatOpenAI] = []

    def opener(model: str = "mock-small", **options: Any) -> ChatOpenAI:
        chats.append(ChatOpenAI(model=model, **settings, **options))
        return chats[-1]

    yield opener
    for chat in chats:
        await chat.root_async_client.close()
        chat.root_client.close()


async def test_invoke(open_chat: Opener) -> None:
    """A question is answered, with finish reason and usage where LangChain looks for them."""
    answer = await open_chat().ainvoke(QUESTION)
    assert QUESTION in str(answer.content)
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0


@pytest.mark.parametrize("stream_usage", [False, True])
async def test_stream(open_chat: Opener, stream_usage: bool) -> None:
    """The chunks of a stream add up to the whole answer; usage comes if it was asked for."""
    chat = open_chat(stream_usage=stream_usage)
    whole = await chat.ainvoke(QUESTION)
    total: Any = AIMessageChunk(content="")
    async for chunk in chat.astream(QUESTION):
        total += chunk
    assert total.content == whole.content
    assert total.usage_metadata == (whole.usage_metadata if stream_usage else None)


async def test_a_loop_of_tools(open_chat: Opener) -> None:
    """An agent's loop: the model calls a tool, gets its result, and answers."""
    chat = open_chat().bind_tools([get_weather])
    history: list[Any] = [HumanMessage(QUESTION)]
    called = await chat.ainvoke(history)
    assert [call["name"] for call in called.tool_calls] == ["get_weather"]
    history.append(called)
    for call in called.tool_calls:
        result = await get_weather.ainvoke(call)
        assert isinstance(result, ToolMessage)
        history.append(result)
    final = await chat.ainvoke(history)
    assert "It rains on sample." in str(final.content)


async def test_streamed_tools(open_chat: Opener) -> None:
    """A streamed tool call is put together from its pieces."""
    total: Any = AIMessageChunk(content="")
    async for chunk in open_chat().bind_tools([get_weather]).astream(QUESTION):
        total += chunk
    assert [(call["name"], call["args"]) for call in total.tool_calls] == [
        ("get_weather", {"city": "sample"})
    ]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_structured_output(open_chat: Opener, method: Any) -> None:
    """A pydantic model is filled in, by schema and by tool."""
    report = await open_chat().with_structured_output(Report, method=method).ainvoke("Report on the Report")
    assert isinstance(report, Report)


async def test_embeddings(settings: dict[str, Any], upstream: MockUpstream) -> None:
    """Texts are embedded in order, tokens or not."""
    embeddings = OpenAIEmbeddings(
        model="mock-embedding", check_embedding_ctx_length=False, dimensions=8, **settings
    )
    vectors = await embeddings.aembed_documents(["one", "two"])
    assert [len(vector) for vector in vectors] == [8, 8]
    assert await embeddings.aembed_query("one") == vectors[0]
    assert upstream.seen[0].json["input"] == ["one", "two"]
    await embeddings.async_client._client.close()
    embeddings.client._client.close()


async def test_a_stream_that_breaks(open_chat: Opener) -> None:
    """A stream that breaks is an exception, not a short answer."""
    import openai

    with pytest.raises(openai.APIError):
        async for _ in open_chat(model="fx-reset-mid").astream(QUESTION):
            pass
