"""Requests as Ollama gets them; each is read by the types of Ollama's own client."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import ollama
import pytest
from ollama import Options
from ollama._types import ChatRequest, EmbedRequest
from raven_ollama.requests import write_chat, write_embeddings

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

PNG = "iVBORw0KGgoAAAANSUhEUg=="
WEATHER = hub.Tool(name="weather", description="Tells it.", strict=True)
CLOCK = hub.Tool(name="clock")


def user(*parts: hub.Part) -> hub.Message:
    return hub.Message(role="user", parts=list(parts))


def ask(*messages: hub.Message, **fields: Any) -> hub.ChatRequest:
    return hub.ChatRequest(model="llama3.2", messages=list(messages) or [user(hub.Text(text="Hi"))], **fields)


def write(request: hub.ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(write_chat(request))
    ChatRequest.model_validate(body)
    assert set(body) <= set(ChatRequest.model_fields) | {"truncate", "shift"}
    for message in body["messages"]:
        images = [{"value": image} for image in message.get("images", ())]  # as the client holds them
        parsed = ollama.Message.model_validate({**message, "images": images})
        assert msgspec.json.decode(parsed.model_dump_json())["images"] == message.get("images", [])
        assert set(message) <= set(ollama.Message.model_fields) | {"tool_call_id"}
    Options.model_validate(body.get("options", {}))
    return body


def test_the_least_request_says_that_it_is_no_stream() -> None:
    assert write(ask()) == {
        "model": "llama3.2",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
    }


def test_parameters_go_among_the_options() -> None:
    body = write(
        ask(
            max_tokens=9, temperature=0.5, top_p=0.9, top_k=40, stop=["a"], seed=7,
            frequency_penalty=0.1, presence_penalty=-0.2, stream=True, logprobs=True, top_logprobs=2,
        )
    )  # fmt: skip
    assert body["options"] == {
        "num_predict": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "stop": ["a"], "seed": 7,
        "frequency_penalty": 0.1, "presence_penalty": -0.2,
    }  # fmt: skip
    assert (body["stream"], body["logprobs"], body["top_logprobs"]) == (True, True, 2)


def test_ollamas_own_parameters_go_up_and_others_are_noted() -> None:
    own = {"keep_alive": "5m", "num_ctx": 4096, "options": {"temperature": 1, "mirostat": 2}}
    request = ask(extra=own | {"x": 1}, dropped=[*own, "x"], temperature=0.1, user="u")
    body = write(request)
    assert body["keep_alive"] == "5m"
    assert body["options"] == {"temperature": 0.1, "mirostat": 2, "num_ctx": 4096}
    assert request.dropped == ["x", "user"]


def test_a_turn_is_one_text_with_images_beside_it() -> None:
    text = base64.b64encode(b"Ravens talk.").decode()
    body = write(
        ask(
            hub.Message(role="developer", parts=[hub.Text(text="Be short.")]),
            user(
                hub.Text(text="What?"),
                hub.Image(media=hub.Media(data=PNG, media_type="image/png")),
                hub.File(media=hub.Media(data=text, media_type="text/plain"), filename="a.txt"),
            ),
        )
    )
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What?\na.txt\nRavens talk.", "images": [PNG]},
    ]


def test_calls_have_objects_and_results_the_functions_name() -> None:
    calls = [
        hub.ToolCall(id="a", name="weather", arguments='{"x": 1}'),
        hub.ToolCall(id="b", name="clock", arguments=""),
    ]
    seen = [hub.Text(text="rain"), hub.Image(media=hub.Media(data=PNG))]
    body = write(
        ask(
            user(hub.Text(text="Weather?")),
            hub.Message(role="assistant", parts=[hub.Reasoning(text="Hm.", signature="sig"), *calls]),
            hub.Message(role="tool", parts=[hub.ToolResult(call_id="a", content=seen)]),
            hub.Message(
                role="tool",
                parts=[hub.ToolResult(call_id="b", content=[hub.Text(text="no")], is_error=True)],
            ),
            tools=[WEATHER],
        )
    )
    assistant, first, second, picture = body["messages"][1:]
    assert assistant["thinking"] == "Hm."
    assert b"sig" not in msgspec.json.encode(body)
    assert [c["function"] for c in assistant["tool_calls"]] == [
        {"name": "weather", "arguments": {"x": 1}},
        {"name": "clock", "arguments": {}},
    ]
    assert first == {"role": "tool", "content": "rain", "tool_call_id": "a", "tool_name": "weather"}
    assert second == {"role": "tool", "content": "Error: no", "tool_call_id": "b", "tool_name": "clock"}
    assert picture == {"role": "user", "content": "", "images": [PNG]}


@pytest.mark.parametrize(
    ("choice", "names", "dropped"),
    [
        (None, ["weather", "clock"], []),
        (hub.ToolChoice(mode="auto"), ["weather", "clock"], []),
        (hub.ToolChoice(mode="none"), [], []),
        (hub.ToolChoice(mode="required"), ["weather", "clock"], ["tool_choice"]),
        (hub.ToolChoice(mode="named", names=["clock"]), ["clock"], ["tool_choice"]),
    ],
)
def test_tool_choice(choice: hub.ToolChoice | None, names: list[str], dropped: list[str]) -> None:
    tools = [hub.Tool(name="weather"), CLOCK]
    request = ask(tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in write(request).get("tools", ())] == names
    assert request.dropped == dropped


def test_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert write(ask(output_format=hub.OutputFormat(mode="json_object")))["format"] == "json"
    assert write(ask(output_format=hub.OutputFormat(mode="json_schema", schema=schema)))["format"] == schema


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (hub.Thinking(enabled=False), False),
        (hub.Thinking(effort="none"), False),
        (hub.Thinking(enabled=True), True),
        (hub.Thinking(effort="minimal"), "low"),
        (hub.Thinking(effort="medium"), "medium"),
        (hub.Thinking(effort="max"), "high"),
        (hub.Thinking(enabled=True, budget_tokens=99), True),
        (hub.Thinking(enabled=True, adaptive=True), None),
        (None, None),
    ],
)
def test_think(thinking: hub.Thinking | None, expected: Any) -> None:
    request = ask(thinking=thinking)
    assert write(request).get("think") == expected
    assert request.dropped == (["thinking"] if thinking and thinking.budget_tokens else [])


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask(n=2), "n"),
        (ask(modalities=["audio"]), "modalities"),
        (ask(web_search={}, names={"web_search": "web_search_options"}), "web_search_options"),
        (ask(server_tools=[{"type": "web_search"}]), "tools"),
        (ask(tools=[hub.Tool(name="a", custom=True)]), "tools"),
        (ask(tools=[CLOCK], tool_choice=hub.ToolChoice(mode="named", names=["x"])), "tool_choice"),
        (ask(user(hub.Audio(media=hub.Media(data="AA==")))), "messages"),
        (ask(user(hub.Image(media=hub.Media(url="https://example.com/a.png")))), "messages"),
        (ask(user(hub.File(media=hub.Media(data="AA==", media_type="application/pdf")))), "messages"),
    ],
)
def test_what_would_change_the_meaning_is_refused(request_: hub.ChatRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write_chat(request_)
    assert caught.value.param == param


def test_embeddings() -> None:
    request = hub.EmbeddingsRequest(
        model="m", texts=["a", "b"], dimensions=64, extra={"truncate": True, "x": 1}, user="u",
        purpose="search_query", dropped=["truncate", "x"],
    )  # fmt: skip
    body = msgspec.json.decode(write_embeddings(request))
    assert body == {"model": "m", "input": ["a", "b"], "dimensions": 64, "truncate": True}
    EmbedRequest.model_validate(body)
    assert request.dropped == ["x", "input_type", "user"]
    with pytest.raises(InvalidRequest):
        write_embeddings(hub.EmbeddingsRequest(model="m", tokens=[[1]]))
