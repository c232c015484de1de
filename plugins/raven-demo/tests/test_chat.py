"""The demo's chat completions, as pure functions of a request."""

from typing import Any

import msgspec
import pytest
from raven_demo import chat, speech

from raven_proxy import InvalidRequest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 10},
            },
            "required": ["city"],
        },
    },
}


def ask(text: str = "Hello there", **fields: Any) -> Any:
    body = msgspec.json.encode({"messages": [{"role": "user", "content": text}], **fields})
    return chat.answer(body, "demo/chat")


def said(answer: Any, index: int = 0) -> str:
    return answer.whole["choices"][index]["message"]["content"]


def streamed(answer: Any) -> tuple[dict[int, str], dict[int, str], list[Any]]:
    """Put a stream together as a client does: texts, finish reasons, usages."""
    texts: dict[int, str] = {}
    finishes: dict[int, str] = {}
    usages = []
    for chunk in answer.chunks:
        assert chunk["object"] == "chat.completion.chunk"
        usages.append(chunk.get("usage", "absent"))
        for choice in chunk["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
            if choice["finish_reason"]:
                finishes[index] = choice["finish_reason"]
    return texts, finishes, usages


def test_it_says_that_it_is_the_demo_and_echoes_the_question():
    answer = ask("What is a raven?")
    assert "demo model" in said(answer)
    assert "What is a raven?" in said(answer)
    assert answer.whole["model"] == "demo/chat"
    assert answer.whole["object"] == "chat.completion"
    assert answer.whole["choices"][0]["finish_reason"] == "stop"


def test_the_same_request_gets_the_same_bytes():
    assert msgspec.json.encode(ask().whole) == msgspec.json.encode(ask().whole)
    assert ask("a").whole["id"] != ask("b").whole["id"]


def test_usage_counts_the_pieces():
    usage = ask().whole["usage"]
    assert usage["completion_tokens"] == len(speech.split(said(ask())))
    assert usage["prompt_tokens"] == 3  # two words and the message's role
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same_as_the_whole():
    answer = ask("Grüße 🙂\n\n  twice", n=2, stream=True)
    texts, finishes, _ = streamed(answer)
    assert texts == {0: said(answer, 0), 1: said(answer, 1)}
    assert finishes == {0: "stop", 1: "stop"}
    assert said(answer, 0) != said(answer, 1)


def test_the_usage_chunk_comes_when_it_was_asked_for_and_only_then():
    _, _, usages = streamed(ask(stream=True))
    assert set(usages) == {"absent"}
    answer = ask(stream=True, stream_options={"include_usage": True})
    _, _, usages = streamed(answer)
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert usages[-1] == answer.whole["usage"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts_with_finish_reason_length(field):
    answer = ask(**{field: 3})
    assert said(answer) == "Hello! I"
    assert answer.whole["choices"][0]["finish_reason"] == "length"
    assert answer.whole["usage"]["completion_tokens"] == 3


def test_a_limit_that_is_not_reached_is_a_stop():
    assert ask(max_tokens=4000).whole["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stop", [" demo", ["never said", " demo", "Proxy"]])
def test_a_stop_word_ends_the_text_before_it(stop):
    answer = ask(stop=stop)
    assert said(answer) == "Hello! I am the"
    assert answer.whole["choices"][0]["finish_reason"] == "stop"


def calls_of(answer: Any) -> list[Any]:
    calls = answer.whole["choices"][0]["message"].get("tool_calls") or []
    return [(c["function"]["name"], msgspec.json.decode(c["function"]["arguments"])) for c in calls]


def test_a_tool_is_called_when_the_user_speaks_of_it():
    answer = ask("What will the weather be in Paris for 3 days, in fahrenheit?", tools=[WEATHER])
    assert calls_of(answer) == [("get_weather", {"city": "Paris", "unit": "fahrenheit", "days": 3})]
    assert answer.whole["choices"][0]["finish_reason"] == "tool_calls"
    assert said(answer) is None


def test_a_tool_is_not_called_when_nobody_asks():
    assert calls_of(ask("Hello", tools=[WEATHER])) == []
    assert calls_of(ask("Call get_weather", tools=[WEATHER], tool_choice="none")) == []


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_is_called_when_tool_choice_says_so(choice):
    assert [name for name, _ in calls_of(ask("Hello", tools=[WEATHER], tool_choice=choice))] == [
        "get_weather"
    ]


def test_several_tools_are_called_unless_they_may_not():
    clock = {"type": "function", "function": {"name": "clock", "parameters": None}}
    text = "Use get_weather and clock"
    assert [name for name, _ in calls_of(ask(text, tools=[WEATHER, clock]))] == ["get_weather", "clock"]
    one = ask(text, tools=[WEATHER, clock], parallel_tool_calls=False)
    assert [name for name, _ in calls_of(one)] == ["get_weather"]


def test_streamed_tool_calls_join_to_the_whole_ones():
    answer = ask("weather in Oslo?", tools=[WEATHER], stream=True)
    whole = answer.whole["choices"][0]["message"]["tool_calls"][0]
    parts = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in answer.chunks
        if "tool_calls" in c["choices"][0]["delta"]
    ]
    assert parts[0]["id"] == whole["id"]
    assert parts[0]["function"]["name"] == "get_weather"
    assert {part["index"] for part in parts} == {0}
    assert "".join(part["function"]["arguments"] for part in parts) == whole["function"]["arguments"]


def test_a_tools_result_is_answered_and_not_called_again():
    body = {
        "messages": [
            {"role": "user", "content": "weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "tool_call_id": "call_1", "content": "The weather is fine."},
        ],
        "tools": [WEATHER],
    }
    answer = chat.answer(msgspec.json.encode(body), "m")
    assert said(answer) == "The tool answered: The weather is fine."


def test_structured_output_satisfies_the_schema():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    assert msgspec.json.decode(said(ask("Say that Ada is 36.", response_format=wanted))) == {
        "name": "Ada",
        "age": 36,
    }


def test_json_object_is_an_object():
    assert isinstance(msgspec.json.decode(said(ask(response_format={"type": "json_object"}))), dict)


def test_content_parts_are_read():
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = msgspec.json.encode({"messages": [{"role": "user", "content": parts}]})
    assert "Look:" in said(chat.answer(body, "m"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "poem"}}, "response_format.type"),
    ],
)
def test_what_cannot_be_read_is_the_callers_fault_and_named(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_a_long_question_is_not_echoed_whole():
    assert len(said(ask("word " * 100_000))) < 3_000
