"""LangChain's tool loops work through every face, whichever dialect the vendor speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from raven_proxy.harness import ADMIN_KEY

from .matrix import Bench, open_bench
from .scripted_model import ScriptedModel

pytestmark = pytest.mark.asyncio(loop_scope="module")


@tool
def get_weather(city: str) -> str:
    """Look the weather up."""
    return f"It rains on {city}."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("langchain")) as opened:
        yield opened


def _open(face: str, url: str, model: str) -> BaseChatModel:
    settings: dict[str, Any] = {"model": model, "api_key": ADMIN_KEY, "max_retries": 0}
    if face == "messages":
        return ChatAnthropic(base_url=url, max_tokens=256, **settings)
    return ChatOpenAI(
        base_url=f"{url}/v1", stream_usage=True, use_responses_api=face == "responses", **settings
    )


async def _invoke(chat: Any, messages: list[BaseMessage], *, stream: bool) -> AIMessage:
    if not stream:
        found = await chat.ainvoke(messages)
        assert isinstance(found, AIMessage)
        return found
    whole: AIMessageChunk | None = None
    async for chunk in chat.astream(messages):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("face", ["chat", "responses", "messages"])
@pytest.mark.parametrize(
    "model",
    ["openai-own/any", "openai-chat/any", "openai-responses/any", "anthropic/claude-sonnet-4-5"],
)
async def test_a_tool_is_called_and_answered(
    model: str, face: str, stream: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call comes with its arguments and id, its result goes up, the answer and the tokens come back."""
    for name in ("LANGCHAIN_TRACING_V2", "LANGCHAIN_TRACING", "LANGSMITH_TRACING"):
        monkeypatch.setenv(name, "false")
    scripted = ScriptedModel("get_weather", {"city": "Paris"}, "It rains there.")
    bench.upstream.handler = scripted.answer
    chat: Any = _open(face, bench.gateway.url, model).bind_tools([get_weather])
    messages: list[BaseMessage] = [HumanMessage("What is the weather in Paris?")]
    asked = await _invoke(chat, messages, stream=stream)
    [call] = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    messages += [asked, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    answered = await _invoke(chat, messages, stream=stream)
    assert answered.text == "It rains there."
    assert not answered.tool_calls
    assert scripted.results == ["It rains on Paris."]
    assert answered.usage_metadata is not None
    assert (answered.usage_metadata["input_tokens"], answered.usage_metadata["output_tokens"]) == (10, 5)
