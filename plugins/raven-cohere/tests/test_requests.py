"""Chat requests as Cohere gets them; each is read by the types of Cohere's own client."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter
from raven_cohere.requests import write_chat

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

PNG = "iVBORw0KGgoAAAANSUhEUg=="
WEATHER = hub.Tool(name="weather", description="Tells it.", schema={"type": "object", "properties": {}})
CLOCK = hub.Tool(name="clock")


def ask(*messages: hub.Message, **fields: Any) -> hub.ChatRequest:
    turns = list(messages) or [hub.Message(role="user", parts=[hub.Text(text="Hi")])]
    return hub.ChatRequest(model="command-a-03-2025", messages=turns, **fields)


def write(request: hub.ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(write_chat(request))
    validate(body)
    return body


def validate(body: dict[str, Any]) -> None:
    """Read a body with Cohere's own types, and find every field of it known there."""
    import inspect

    from cohere.types import ChatMessageV2, ResponseFormatV2, Thinking, ToolV2
    from cohere.v2.client import V2Client

    known = set(inspect.signature(V2Client.chat_stream).parameters)
    unknown = set(body) - {"stream"} - known
    assert not unknown
    for message in body["messages"]:
        found = TypeAdapter(ChatMessageV2).validate_python(message)
        assert found.role == message["role"]
        extra = getattr(found, "__pydantic_extra__", None)
        assert not extra
    for tool in body.get("tools", ()):
        assert not ToolV2.model_validate(tool).__pydantic_extra__
    if "response_format" in body:
        TypeAdapter(ResponseFormatV2).validate_python(body["response_format"])
    if "thinking" in body:
        Thinking.model_validate(body["thinking"])


def turns(*messages: hub.Message, **fields: Any) -> list[dict[str, Any]]:
    return list(write(ask(*messages, **fields))["messages"])


def user(*parts: hub.Part) -> hub.Message:
    return hub.Message(role="user", parts=list(parts))


def test_the_least_request() -> None:
    assert write(ask()) == {
        "model": "command-a-03-2025",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
    }


def test_parameters_have_coheres_names() -> None:
    body = write(
        ask(
            max_tokens=9, temperature=0.5, top_p=0.9, top_k=40, stop=["a"], seed=7, logprobs=True,
            frequency_penalty=0.1, presence_penalty=0.2, stream=True,
        )
    )  # fmt: skip
    del body["messages"], body["model"]
    assert body == {
        "stream": True, "max_tokens": 9, "temperature": 0.5, "p": 0.9, "k": 40, "stop_sequences": ["a"],
        "seed": 7, "logprobs": True, "frequency_penalty": 0.1, "presence_penalty": 0.2,
    }  # fmt: skip


def test_what_lies_outside_coheres_bounds_is_bent_and_noted_where_it_matters() -> None:
    request = ask(top_p=1.0, top_k=-1, presence_penalty=-2.0, frequency_penalty=1.5)
    body = write(request)
    assert (body["p"], body["k"], body["presence_penalty"], body["frequency_penalty"]) == (0.99, 0, 0, 1)
    assert request.dropped == ["frequency_penalty", "presence_penalty"]


def test_system_and_developer_stay_where_they_stood() -> None:
    found = turns(
        hub.Message(role="developer", parts=[hub.Text(text="a")]),
        user(hub.Text(text="b")),
        hub.Message(role="system", parts=[hub.Text(text="c"), hub.Text(text="d")]),
    )
    assert [turn["role"] for turn in found] == ["system", "user", "system"]
    assert found[2]["content"] == [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]


def test_images_go_as_links_or_data() -> None:
    found = turns(
        user(
            hub.Text(text="What?"),
            hub.Image(media=hub.Media(data=PNG, media_type="image/png"), detail="low"),
            hub.Image(media=hub.Media(url="https://example.com/a.png")),
        )
    )
    assert [part["type"] for part in found[0]["content"]] == ["text", "image_url", "image_url"]
    assert found[0]["content"][1]["image_url"] == {"url": f"data:image/png;base64,{PNG}", "detail": "low"}


def test_documents_go_where_they_can_be_cited() -> None:
    text = base64.b64encode(b"Ravens talk.").decode()
    request = ask(
        user(
            hub.Text(text="Say it."),
            hub.File(media=hub.Media(), text="Ravens fly.", filename="fly.txt"),
            hub.File(media=hub.Media(data=text, media_type="text/plain")),
        ),
        extra={"documents": ["Ravens nest."]},
        dropped=["documents"],
    )
    body = write(request)
    assert body["messages"] == [{"role": "user", "content": "Say it."}]
    assert body["documents"] == [
        "Ravens nest.",
        {"data": {"title": "fly.txt", "text": "Ravens fly."}},
        {"data": {"text": "Ravens talk."}},
    ]
    assert request.dropped == []


def test_calls_and_results_keep_ids_order_and_plan() -> None:
    found = turns(
        user(hub.Text(text="Weather?")),
        hub.Message(
            role="assistant",
            parts=[
                hub.Reasoning(text="I ask.", signature="sig", format="anthropic"),
                hub.ToolCall(id="a", name="weather", arguments='{"x": 1}'),
                hub.ToolCall(id="b", name="clock", arguments=""),
                hub.ToolCall(id="c", name="odd", arguments="not JSON"),
            ],
        ),
        hub.Message(role="tool", parts=[hub.ToolResult(call_id="a", content=[hub.Text(text="rain")])]),
        hub.Message(
            role="tool",
            parts=[
                hub.ToolResult(call_id="b", content=[hub.Image(media=hub.Media(data=PNG))], is_error=True)
            ],
        ),
        tools=[WEATHER],
    )
    call = found[1]
    assert call["tool_plan"] == "I ask."
    assert "content" not in call
    assert b"sig" not in msgspec.json.encode(found)
    assert [c["function"]["arguments"] for c in call["tool_calls"]] == [
        '{"x": 1}', "{}", '{"arguments":"not JSON"}',
    ]  # fmt: skip
    assert found[2] == {"role": "tool", "tool_call_id": "a", "content": "rain"}
    assert found[3] == {"role": "tool", "tool_call_id": "b", "content": "Error:"}
    assert found[4]["role"] == "user"
    assert found[4]["content"][0]["type"] == "image_url"


def test_thinking_without_calls_is_a_block_of_its_own() -> None:
    found = turns(
        hub.Message(role="assistant", parts=[hub.Reasoning(text="Hm."), hub.Text(text="Yes.")]),
        user(hub.Text(text="Why?")),
    )
    assert found[0]["content"] == [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]


def test_a_turn_in_which_nothing_was_said_is_left_out() -> None:
    found = turns(
        user(hub.Text(text="a")),
        hub.Message(role="assistant", parts=[hub.Text(text="")]),
        hub.Message(role="assistant"),
        user(hub.Text(text="b")),
    )
    assert [turn["content"] for turn in found] == ["a", "b"]


def test_a_result_may_hold_documents() -> None:
    file = hub.File(media=hub.Media(), text="Ravens fly.")
    found = turns(hub.Message(role="tool", parts=[hub.ToolResult(call_id="a", content=[file])]))
    assert found[0]["content"] == [{"type": "document", "document": {"data": {"text": "Ravens fly."}}}]


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        (None, None, ["weather", "clock"]),
        (hub.ToolChoice(mode="auto"), None, ["weather", "clock"]),
        (hub.ToolChoice(mode="none"), "NONE", ["weather", "clock"]),
        (hub.ToolChoice(mode="required"), "REQUIRED", ["weather", "clock"]),
        (hub.ToolChoice(mode="named", names=["clock"]), "REQUIRED", ["clock"]),
    ],
)
def test_tool_choice(choice: hub.ToolChoice | None, expected: str | None, names: list[str]) -> None:
    body = write(ask(tools=[WEATHER, CLOCK], tool_choice=choice))
    assert body.get("tool_choice") == expected
    assert [tool["function"]["name"] for tool in body["tools"]] == names


def test_strict_tools_and_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = hub.Tool(name="weather", strict=True)
    assert write(ask(tools=[tool]))["strict_tools"] is True
    body = write(ask(output_format=hub.OutputFormat(mode="json_schema", schema=schema)))
    assert body["response_format"] == {"type": "json_object", "json_schema": schema}
    body = write(ask(output_format=hub.OutputFormat(mode="json_object")))
    assert body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("thinking", "max_tokens", "expected", "dropped"),
    [
        (hub.Thinking(enabled=False), None, {"type": "disabled"}, []),
        (hub.Thinking(effort="none"), None, {"type": "disabled"}, []),
        (hub.Thinking(enabled=True), None, {"type": "enabled"}, []),
        (hub.Thinking(enabled=True, budget_tokens=500), None, {"type": "enabled", "token_budget": 500}, []),
        (hub.Thinking(effort="low"), 1000, {"type": "enabled", "token_budget": 250}, []),
        (hub.Thinking(effort="low"), None, {"type": "enabled"}, ["reasoning_effort"]),
        (hub.Thinking(effort="max"), 1000, {"type": "enabled"}, []),
        (hub.Thinking(enabled=True, adaptive=True), None, None, []),
    ],
)
def test_thinking(thinking: hub.Thinking, max_tokens: int | None, expected: Any, dropped: list[str]) -> None:
    request = ask(thinking=thinking, max_tokens=max_tokens, names={"thinking": "reasoning_effort"})
    assert write(request).get("thinking") == expected
    assert request.dropped == dropped


def test_coheres_own_parameters_go_up_and_others_are_noted() -> None:
    own = {"safety_mode": "STRICT", "citation_options": {"mode": "FAST"}, "strict_tools": True, "priority": 1}
    request = ask(
        extra=own | {"repetition_penalty": 2}, dropped=[*own, "repetition_penalty"], user="u", store=True
    )
    body = write(request)
    assert {name: body[name] for name in own} == own
    assert request.dropped == ["repetition_penalty", "user", "store"]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask(n=2), "n"),
        (ask(modalities=["text", "audio"]), "modalities"),
        (ask(web_search={}, names={"web_search": "web_search_options"}), "web_search_options"),
        (ask(server_tools=[{"type": "bash_20250124"}]), "tools"),
        (ask(tools=[hub.Tool(name="a", custom=True)]), "tools"),
        (ask(stop=list("abcdef")), "stop"),
        (ask(tools=[CLOCK], tool_choice=hub.ToolChoice(mode="named", names=["x"])), "tool_choice"),
        (ask(user(hub.Audio(media=hub.Media(data="AA==")))), "messages"),
        (ask(user(hub.Image(media=hub.Media(file_id="f")))), "messages"),
        (ask(user(hub.Image(media=hub.Media(url="gs://b/a.png")))), "messages"),
        (ask(user(hub.File(media=hub.Media(data="AA==", media_type="application/pdf")))), "messages"),
    ],
)
def test_what_would_change_the_meaning_is_refused(request_: hub.ChatRequest, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write_chat(request_)
    assert caught.value.param == param
