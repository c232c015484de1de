"""Promises about Responses clients of chat vendors, and the other way round, through a gateway."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai import APIError
from pydantic import BaseModel

from raven_proxy.mock import ScriptedReply

TOGETHER = "together"  # a vendor without this API: its clients are translated


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_ONE", "sk-one-0123456789")
    monkeypatch.setenv("KEY_TWO", "sk-two-0123456789")


def together(upstream: Any, **fields: Any) -> dict[str, Any]:
    return {
        "name": "mock",
        "provider": TOGETHER,
        "base_url": upstream.url,
        "key": {"env": "KEY_ONE"},
        **fields,
    }


def find(recordings: Any, name: str) -> Any:
    return next(one for one in recordings if one.id.startswith(name))


def replay(recording: Any, **fields: Any) -> ScriptedReply:
    return ScriptedReply.from_recording({"response": recording.response}, **fields)


# -- where the vendor has not ----------------------------------------------------------


class City(BaseModel):
    name: str


async def test_the_official_client_is_translated(raven: Any, upstream: Any, client_of: Any) -> None:
    """create, stream and parse work against a chat vendor, in strict validation."""
    gateway = await raven(upstreams=[together(upstream)])
    client = client_of(gateway)
    made = await client.responses.create(model="mock/m", input="Hello there", instructions="Be kind")
    assert made.output_text
    assert made.usage is not None
    assert made.usage.total_tokens > 0
    sent = upstream.seen[-1].json
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert upstream.seen[-1].path == "/v1/chat/completions"

    async with client.responses.stream(model="mock/m", input="Hello there") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text
    assert final.usage is not None

    upstream.reply(
        json={
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": '{"name":"Oslo"}'},
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
    )
    parsed = await client.responses.parse(model="mock/m", input="A city", text_format=City)
    assert parsed.output_parsed == City(name="Oslo")
    assert upstream.seen[-1].json["response_format"]["json_schema"]["name"] == "City"


async def test_tools_go_there_and_back(raven: Any, upstream: Any, client_of: Any) -> None:
    """A namespaced function is called by its two names, and the whole history returns."""
    gateway = await raven(upstreams=[together(upstream)])
    chunks = [
        {
            "id": "c",
            "model": "m",
            "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": None, "reasoning_content": "Hm"}}
            ],
        },
        {
            "id": "c",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "fs__ls", "arguments": ""},
                            }
                        ]
                    },
                }
            ],
        },
        {
            "id": "c",
            "model": "m",
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"p":1}'}}]}}
            ],
        },
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {
            "id": "c",
            "model": "m",
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        },
    ]
    upstream.reply(events=[{"object": "chat.completion.chunk", "created": 1, **chunk} for chunk in chunks])
    tools: Any = [
        {
            "type": "namespace",
            "name": "fs",
            "description": "Files",
            "tools": [{"type": "function", "name": "ls", "parameters": {"type": "object", "properties": {}}}],
        },
        {"type": "web_search"},
    ]
    client = client_of(gateway)
    async with client.responses.stream(model="mock/m", input="List", tools=tools) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    thought, call = final.output
    assert (thought.type, call.type) == ("reasoning", "function_call")
    assert (call.namespace, call.name, call.arguments, call.call_id) == ("fs", "ls", '{"p":1}', "call_1")
    assert upstream.seen[-1].json["tools"][0]["function"]["name"] == "fs__ls"
    assert len(upstream.seen[-1].json["tools"]) == 1

    items: Any = [
        {"role": "user", "content": "List"},
        *[item.model_dump(exclude_none=True) for item in final.output],
        {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"},
    ]
    await client.responses.create(model="mock/m", input=items, tools=tools)
    messages = upstream.seen[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "fs__ls", "arguments": '{"p":1}'}
    assert messages[2]["tool_call_id"] == "call_1"


async def test_what_is_dropped_is_refused_when_the_client_is_strict(raven: Any, upstream: Any) -> None:
    """`X-Raven-Strict` names the tool that only OpenAI runs."""
    gateway = await raven(upstreams=[together(upstream)])
    asked = {"model": "mock/m", "input": "x", "tools": [{"type": "web_search"}]}
    async with gateway.client.post("/v1/responses", json=asked, headers={"X-Raven-Strict": "true"}) as reply:
        assert reply.status == 400
        assert "web_search" in (await reply.json())["error"]["message"]
    async with gateway.client.post("/v1/responses", json=asked) as reply:
        assert reply.status == 200


async def test_what_needs_the_vendors_store_is_refused(raven: Any, upstream: Any, client_of: Any) -> None:
    """A translated response is not stored: nothing can be asked of it, nor continue it."""
    gateway = await raven(upstreams=[together(upstream)])
    client = client_of(gateway)
    made = await client.responses.create(model="mock/m", input="x", store=True)
    assert made.model_extra is not None
    assert made.model_extra["store"] is False
    with pytest.raises(APIError, match="no response"):
        await client.responses.retrieve(made.id)
    with pytest.raises(APIError, match=r"Previous response with id .* not found"):
        await client.responses.create(model="mock/m", input="x", previous_response_id=made.id)
    with pytest.raises(APIError, match="background"):
        await client.responses.create(model="mock/m", input="x", background=True)


async def test_an_error_inside_a_translated_stream(raven: Any, upstream: Any) -> None:
    """The client sees the vendor's words as an error event, with the id the stream began with."""
    gateway = await raven(upstreams=[together(upstream)])
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    begun = {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]}
    upstream.reply(events=[begun, {"error": {"message": "Overloaded today", "type": "server_error"}}])
    asked = {"model": "mock/m", "input": "x", "stream": True}
    async with gateway.client.post("/v1/responses", json=asked) as reply:
        events = [
            msgspec.json.decode(block.partition(b"data: ")[2])
            for block in (await reply.read()).split(b"\n\n")
            if b"data: " in block
        ]
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["id"] == events[0]["response"]["id"]
    assert "Overloaded today" in events[-2]["error"]["message"]


# -- chats, where the upstream is asked in Responses ----------------------------------


async def test_a_chat_reaches_an_upstream_in_responses(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """With `options.api = "responses"` a chat client gets chat, whole and streamed."""
    mock = {"name": "mock", "provider": "openai", "base_url": upstream.url, "key": {"env": "KEY_ONE"}}
    gateway = await raven(upstreams=[mock | {"options": {"api": "responses"}}])
    client = client_of(gateway)
    upstream.script(replay(find(response_recordings, "openai/responses-tool-call-gpt-5-4")))
    messages: Any = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Rate?"}]
    made = await client.chat.completions.create(model="mock/gpt-5.4", messages=messages)
    assert made.choices[0].finish_reason == "tool_calls"
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (652, 44)
    sent = upstream.seen[-1]
    assert sent.path == "/v1/responses"
    assert sent.json["store"] is False
    assert [item["role"] for item in sent.json["input"]] == ["system", "user"]

    upstream.script(replay(find(response_recordings, "openai/responses-tool-call-stream-gpt-5")))
    arguments, finish = "", None
    stream = await client.chat.completions.create(
        model="mock/gpt-5", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        for choice in chunk.choices:
            arguments += "".join(
                [call.function.arguments or "" for call in choice.delta.tool_calls or () if call.function]
            )
            finish = choice.finish_reason or finish
    assert (arguments, finish) == ('{"location":"Florence, Italy"}', "tool_calls")
