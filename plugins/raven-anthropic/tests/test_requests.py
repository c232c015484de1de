"""What is written for Anthropic's vendors: bodies that the official client's types accept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raven_anthropic import requests

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest, Message

from .official import validate_params

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}


def say(role: Any, *parts: Any) -> Message:
    return Message(role=role, parts=[hub.Text(text=p) if isinstance(p, str) else p for p in parts])


def ask(*messages: Message, model: str = "claude-sonnet-4-5", **fields: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=list(messages) or [say("user", "Hi")], **fields)


def write(request: ChatRequest, **options: Any) -> dict[str, Any]:
    written = requests.write(request, **options)
    body: dict[str, Any] = msgspec.json.decode(requests.encode(written, model=request.model, stream=False))
    validate_params(body)
    return body


def tool(**fields: Any) -> hub.Tool:
    return hub.Tool(name="weather", description="Tell it", schema=SCHEMA, **fields)


def call(call_id: str = "toolu_1", **fields: Any) -> hub.ToolCall:
    return hub.ToolCall(id=call_id, name="weather", arguments='{"city": "Oslo"}', **fields)


def result(call_id: str = "toolu_1", *parts: Any, **fields: Any) -> Message:
    return say("tool", hub.ToolResult(call_id=call_id, content=list(parts), **fields))


# -- conversation ----------------------------------------------------------------------


def test_system_and_developer_texts_go_to_the_top_wherever_they_stand() -> None:
    """In order, with their cache marks."""
    marked = hub.Text(text="b", cache=hub.CacheMark("1h"))
    body = write(ask(say("system", "a"), say("user", "x"), say("developer", marked), say("user", "y")))
    assert body["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert [one["role"] for one in body["messages"]] == ["user"]


def test_a_conversation_of_system_texts_alone_is_what_the_user_says() -> None:
    body = write(ask(say("system", "Say hello")))
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hello"}]}]
    assert "system" not in body


def test_nothing_said_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        write(ask(say("user", "  ")))
    assert caught.value.param == "messages"


def test_results_stand_together_in_front_of_what_the_user_says() -> None:
    """All results of a turn in one user message, errors marked, right behind the calls."""
    body = write(
        ask(
            say("user", "Q"),
            say("assistant", "Let me see", call("toolu_1"), call("toolu_2")),
            result("toolu_1", hub.Text(text="sun")),
            result("toolu_2", is_error=True),
            say("user", "And?"),
            tools=[tool()],
        )
    )
    roles = [one["role"] for one in body["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
    assert body["messages"][1]["content"][1]["input"] == {"city": "Oslo"}
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True},
        {"type": "text", "text": "And?"},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"), [("", {}), ("  ", {}), ("not json", {"arguments": "not json"}), ("{}", {})]
)
def test_arguments_are_an_object_whatever_the_model_wrote(arguments: str, expected: Any) -> None:
    made = hub.ToolCall(id="a", name="weather", arguments=arguments)
    body = write(ask(say("user", "Q"), say("assistant", made), result("a"), tools=[tool()]))
    assert body["messages"][1]["content"][0]["input"] == expected


def test_foreign_call_ids_are_fitted_on_both_ends() -> None:
    made = call("functions.weather:0")
    body = write(ask(say("user", "Q"), say("assistant", made), result("functions.weather:0")))
    assert body["messages"][1]["content"][0]["id"] == "functions_weather_0"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "functions_weather_0"


def test_empty_texts_are_left_out_and_the_last_answer_ends_in_no_space() -> None:
    body = write(ask(say("user", "Q", ""), say("assistant", ""), say("user", "R"), say("assistant", "So \n")))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": "R"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "So"}]},
    ]


def test_thinking_goes_back_only_to_whom_it_came_from() -> None:
    """Signed by Anthropic: whole, redacted too. Another vendor's, or unsigned: never."""
    parts = [
        hub.Reasoning(text="hm", signature="sig", format="anthropic"),
        hub.Reasoning(kind="encrypted", data="secret", format="anthropic"),
        hub.Reasoning(text="other", signature="gsig", format="google"),
        hub.Reasoning(text="bare"),
        "Answer",
    ]
    body = write(ask(say("user", "Q"), say("assistant", *parts), say("user", "R")))
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "text", "text": "Answer"},
    ]
    unsigned = write(ask(say("user", "Q"), say("assistant", *parts), say("user", "R")), unsigned=True)
    thoughts = [b for b in unsigned["messages"][1]["content"] if b["type"] == "thinking"]
    assert [(one["thinking"], one["signature"]) for one in thoughts] == [
        ("hm", "sig"),
        ("other", ""),
        ("bare", ""),
    ]


# -- media -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            hub.Image(media=hub.Media(data=PNG)),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        (
            hub.Image(media=hub.Media(url="https://a.example/x.png")),
            {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        ),
        (
            hub.Image(media=hub.Media(data="JVBERi0xLjQ=", media_type="application/pdf")),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="},
            },
        ),
        (
            hub.File(media=hub.Media(data="SGVsbG8=", media_type="text/plain"), filename="a.txt"),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Hello"},
                "title": "a.txt",
            },
        ),
        (
            hub.File(media=hub.Media(), text="Hello", citations=True, cache=hub.CacheMark()),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Hello"},
                "citations": {"enabled": True},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        (
            hub.File(media=hub.Media(url="https://a.example/x.pdf")),
            {"type": "document", "source": {"type": "url", "url": "https://a.example/x.pdf"}},
        ),
    ],
)
def test_media_become_the_block_that_their_type_asks_for(part: Any, block: Any) -> None:
    assert write(ask(say("user", part)))["messages"][0]["content"] == [block]


def test_an_uploaded_file_switches_its_beta_on() -> None:
    written = requests.write(ask(say("user", hub.File(media=hub.Media(file_id="file_1")))))
    assert written.betas == ["files-api-2025-04-14"]


@pytest.mark.parametrize(
    "part",
    [
        hub.Image(media=hub.Media(data="AAAA", media_type="image/tiff")),
        hub.File(media=hub.Media(data="AAAA", media_type="application/msword")),
        hub.Image(media=hub.Media(url="gs://bucket/x.png")),
        hub.File(media=hub.Media(data="A", media_type="text/plain")),
        hub.Audio(media=hub.Media(data="AAAA"), format="wav"),
    ],
)
def test_what_claude_cannot_read_is_refused(part: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        requests.write(ask(say("user", part)))
    assert (caught.value.param or "").startswith("messages")


# -- tools -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        ("named", None, {"type": "tool", "name": "weather"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice: Any, parallel: Any, expected: Any) -> None:
    wish = hub.ToolChoice(mode=choice, names=["weather"] if choice == "named" else []) if choice else None
    body = write(ask(tools=[tool()], tool_choice=wish, parallel_tool_calls=parallel))
    assert body.get("tool_choice") == expected


def test_a_choice_without_tools_is_not_sent() -> None:
    body = write(ask(tool_choice=hub.ToolChoice(mode="auto"), parallel_tool_calls=False))
    assert "tool_choice" not in body


def test_one_of_several_tools_is_any_of_these() -> None:
    other = hub.Tool(name="other")
    wish = hub.ToolChoice(mode="named", names=["weather", "clock"])
    body = write(ask(tools=[tool(), other, hub.Tool(name="clock")], tool_choice=wish))
    assert [one["name"] for one in body["tools"]] == ["weather", "clock"]
    assert body["tool_choice"] == {"type": "any"}


def test_schemas_are_objects_and_strict_ones_are_closed() -> None:
    """Bounds that structured outputs refuse stay readable in the description."""
    bare = hub.Tool(name="bare", schema={"properties": {}})
    body = write(ask(tools=[tool(strict=True), tool(), bare]))
    strict, free, fixed = body["tools"]
    assert strict["strict"] is True
    assert strict["input_schema"]["additionalProperties"] is False
    assert strict["input_schema"]["properties"]["city"] == {"type": "string", "description": "(maxLength: 9)"}
    assert free["input_schema"] == SCHEMA
    assert "strict" not in free
    assert fixed["input_schema"]["type"] == "object"
    old = write(ask(tools=[tool(strict=True)], model="claude-3-5-haiku-20241022"))
    assert "strict" not in old["tools"][0]


def test_too_many_strict_tools_are_not_strict() -> None:
    tools = [hub.Tool(name=f"t{n}", strict=True) for n in range(21)]
    assert not any("strict" in one for one in write(ask(tools=tools))["tools"])


def test_custom_tools_are_functions_of_one_text() -> None:
    custom = hub.Tool(name="patch", custom=True, grammar={"syntax": "lark"})
    past = hub.ToolCall(id="a", name="patch", arguments="*** Begin", custom=True)
    request = ask(say("user", "Q"), say("assistant", past), result("a"), tools=[custom])
    body = write(request)
    assert body["tools"][0]["input_schema"]["required"] == ["input"]
    assert body["messages"][1]["content"][0]["input"] == {"input": "*** Begin"}
    assert requests.write(request).reading.custom == {"patch"}


def test_another_vendors_server_tools_are_refused_but_a_web_search_is_ours_too() -> None:
    with pytest.raises(InvalidRequest) as caught:
        write(ask(server_tools=[{"type": "code_interpreter"}]))
    assert caught.value.param == "tools[0].type"
    place = {"type": "approximate", "approximate": {"city": "Oslo"}}
    for fields in ({"server_tools": [{"type": "web_search"}]}, {"web_search": {"user_location": place}}):
        assert write(ask(**fields))["tools"][0]["type"] == "web_search_20250305"
    native = {"type": "bash_20250124", "name": "bash"}
    assert write(ask(server_tools=[native], family="anthropic.messages"))["tools"] == [native]


# -- format ----------------------------------------------------------------------------


def form(**fields: Any) -> hub.OutputFormat:
    return hub.OutputFormat(mode="json_schema", schema=SCHEMA, **fields)


def test_a_schema_is_an_output_format_where_there_is_one() -> None:
    body = write(ask(output_format=form()))
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "tools" not in body


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, {"type": "tool", "name": "json", "disable_parallel_tool_use": True}),
        ({"tools": [tool()]}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_a_schema_is_a_forced_tool_on_older_models(fields: Any, choice: Any) -> None:
    request = ask(output_format=form(), model="claude-3-7-sonnet-20250219", **fields)
    request.thinking = hub.Thinking(effort="high")
    body = write(request)
    assert (body["tools"][-1]["name"], body["tool_choice"]) == ("json", choice)
    assert "thinking" not in body  # the two exclude each other
    assert requests.write(request).reading.json_tool == "json"


def test_a_json_object_is_asked_for_in_words() -> None:
    body = write(ask(output_format=hub.OutputFormat(mode="json_object")))
    assert "JSON object" in body["system"][0]["text"]


# -- everything else -------------------------------------------------------------------


def test_max_tokens_is_the_clients_or_the_models_or_4096() -> None:
    assert write(ask(max_tokens=7))["max_tokens"] == 7
    assert write(ask(), default_max_tokens=64_000)["max_tokens"] == 64_000
    assert write(ask())["max_tokens"] == 4096


def test_sampling_is_fitted_and_said() -> None:
    written = requests.write(ask(temperature=1.7, top_p=0.5, top_k=4))
    assert (written.body["temperature"], written.adjusted) == (1.0, ["temperature"])
    assert "top_p" not in written.body
    assert write(ask(top_p=0.5))["top_p"] == 0.5
    assert write(ask(temperature=0.3))["temperature"] == 0.3


def test_models_that_take_no_sampling_get_none() -> None:
    request = ask(temperature=0.3, top_p=0.5, top_k=3, model="claude-opus-5")
    assert not {"temperature", "top_p", "top_k"} & write(request).keys()
    assert request.dropped == ["temperature", "top_p", "top_k"]


def test_what_is_unknown_here_is_noted() -> None:
    request = ask(
        seed=1, logprobs=True, top_logprobs=2, frequency_penalty=0.1, presence_penalty=0.1,
        logit_bias={"1": 1}, store=True, verbosity="low", extra={"foo": 1},
        names={"store": "keep"}, stop=["\n", "END"], user="u", service_tier="flex",
    )  # fmt: skip
    body = write(request)
    assert (body["stop_sequences"], body["metadata"]) == (["END"], {"user_id": "u"})
    wanted = {"seed", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias"}
    assert set(request.dropped) == wanted | {"keep", "verbosity", "foo", "stop", "service_tier"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"n": 2}, "n"), ({"modalities": ["text", "audio"]}, "modalities"), ({"audio": {}}, "modalities")],
)
def test_what_would_change_the_meaning_is_refused(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write(ask(**fields))
    assert caught.value.param == param


def test_parameters_of_the_same_family_go_on() -> None:
    extra = {"context_management": {"edits": []}}
    request = ask(extra=extra, family="anthropic.messages", dropped=["context_management", "other"])
    written = requests.write(request)
    assert written.body["context_management"] == {"edits": []}
    assert request.dropped == ["other"]
    assert not {"model", "stream"} & written.body.keys()  # hosts that say them elsewhere
    assert msgspec.json.decode(requests.encode(written, model="m", stream=True))["stream"] is True
