"""Converse requests are what AWS's own model of the service takes, and say what the client said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .builders import HIGH, LLAMA, OPUS_47, TOOLS, ask, assistant, call, result, text, user, write
from .conftest import HAIKU, NOVA, Check

Sent = Callable[[hub.ChatRequest], dict[str, Any]]


def test_a_plain_question(sent: Sent) -> None:
    request = ask(
        hub.Message(role="system", parts=[text("Be brief.")]),
        user(text("Hi")),
        hub.Message(role="developer", parts=[text("In French.")]),
        max_tokens=10,
        temperature=0.5,
        stop=["END", " "],
    )
    assert sent(request) == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "system": [{"text": "Be brief."}, {"text": "In French."}],
        "inferenceConfig": {"maxTokens": 10, "temperature": 0.5, "stopSequences": ["END"]},
    }
    assert request.dropped == []


def test_turns_alternate_and_nothing_is_blank(sent: Sent) -> None:
    body = sent(
        ask(
            user(text("a")), user(text("  ")), user(text("b")), assistant(text("")), assistant(text("c")),
            assistant(text("d")), user(text("e")),
        )
    )  # fmt: skip
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "content": [{"text": "e"}]},
    ]


def test_the_user_speaks_first_and_no_white_space_comes_last(sent: Sent) -> None:
    body = sent(ask(assistant(text("Welcome.")), user(text("Hi")), assistant(text("So: "))))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user", "assistant"]
    assert body["messages"][0]["content"] == [{"text": "Begin."}]
    assert body["messages"][-1]["content"] == [{"text": "So:"}]


def test_a_system_text_alone_is_a_question() -> None:
    assert (
        b'"messages":[{"role":"user","content":[{"text":"Go"}]}]'
        in write(ask(hub.Message(role="system", parts=[text("Go")]))).body
    )
    with pytest.raises(InvalidRequest) as caught:
        write(ask(user(text(" "))))
    assert caught.value.param == "messages"


# -- tools ---------------------------------------------------------------------------


def test_results_stand_right_behind_their_calls_and_first(sent: Sent) -> None:
    body = sent(
        ask(
            user(text("Go")),
            assistant(text("ok"), call("a", '{"x":1}'), call("b", "")),
            user(text("meanwhile")),
            result("b", text("2"), is_error=True),
            result("a", text(" ")),
            tools=[hub.Tool(name="f", description=" ", schema={"properties": {}})],
        )
    )
    assert body["messages"][1]["content"][1:] == [
        {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
        {"toolUse": {"toolUseId": "b", "name": "f", "input": {}}},
    ]
    assert body["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "(no output)"}]}},
        {"toolResult": {"toolUseId": "b", "content": [{"text": "2"}], "status": "error"}},
        {"text": "meanwhile"},
    ]
    assert body["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}}]
    }


def test_ids_that_bedrock_refuses_are_replaced_alike_in_calls_and_results(sent: Sent) -> None:
    long = "call|" + "x" * 90
    body = sent(ask(user(text("Go")), assistant(call(long)), result(long, text("1"))))
    (use,), (answer,) = (turn["content"] for turn in body["messages"][1:])
    assert use["toolUse"]["toolUseId"] == answer["toolResult"]["toolUseId"] != long


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
SHAPE = hub.OutputFormat(mode="json_schema", name="thing", schema=SCHEMA, description="A thing.")


# -- what has no equivalent -----------------------------------------------------------


def test_what_is_lost_is_noted() -> None:
    given: dict[str, Any] = {
        "seed": 1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": {"1": 1},
        "logprobs": True,
        "top_logprobs": 2, "verbosity": "low", "store": True, "prompt_cache_key": "k", "user": "u",
        "safety_identifier": "s", "prediction": {"type": "content"}, "metadata": {"a": "b"},
        "extra": {"whatever": 1},
    }  # fmt: skip
    request = ask(**given)
    write(request)
    assert sorted(request.dropped) == sorted([*(set(given) - {"extra"}), "whatever"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "v"}}, "modalities"),
        ({"web_search": {}}, "web_search_options"),
    ],
)
def test_what_would_be_something_else_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        write(ask(**fields))
    assert caught.value.param == param


def test_deep_nesting_is_a_clean_refusal() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"items": deep}
    for fields in ({"output_format": hub.OutputFormat(mode="json_schema", schema=deep)},
                   {"tools": [hub.Tool(name="f", schema=deep)]}):  # fmt: skip
        with pytest.raises(InvalidRequest, match="nested"):
            write(ask(**fields))
    while deep:  # taken apart step by step, for the interpreter frees it by recursion
        deep = deep.pop("items")


def test_bedrocks_own_words_pass_through_any_dialect(sent: Sent) -> None:
    extra = {
        "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"},
        "requestMetadata": {"team": "a"},
        "performanceConfig": {"latency": "optimized"},
        "additionalModelRequestFields": {"top_k": 1},
    }
    request = ask(extra=extra, top_k=7, service_tier="flex", dropped=["guardrailConfig", "unknown"])
    body = sent(request)
    assert {name: body[name] for name in extra} == extra
    assert body["serviceTier"] == {"type": "flex"}
    assert request.dropped == ["unknown"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["system", "user", "assistant", "tool"]),
            st.lists(st.text(max_size=5), max_size=3),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([HAIKU, NOVA, LLAMA, OPUS_47]),
    st.sampled_from(["auto", "none", "required"]),
    st.booleans(),
    st.sampled_from([None, SHAPE, hub.OutputFormat(mode="json_object")]),
)
def test_whatever_is_asked_aws_takes_it(
    check_converse: Check, turns: list[Any], model: str, mode: Any, thinks: bool, shape: Any
) -> None:
    messages: list[hub.Message] = []
    open_calls: list[str] = []
    for index, (role, texts, marked) in enumerate(turns):
        mark = hub.CacheMark(ttl="1h") if marked else None
        parts: list[hub.Part] = [hub.Text(text=one, cache=mark) for one in texts]
        if role == "assistant" and marked:
            parts.append(call(f"c{index}"))
            open_calls.append(f"c{index}")
        if role == "tool":
            if not open_calls:
                continue
            parts = [hub.ToolResult(call_id=open_calls.pop(), content=parts, cache=mark)]
        messages.append(hub.Message(role=role, parts=parts))
    messages.append(user(text("Well?")))
    request = hub.ChatRequest(
        model=model, messages=messages, tools=TOOLS, tool_choice=hub.ToolChoice(mode=mode),
        output_format=shape, thinking=HIGH if thinks else None,
    )  # fmt: skip
    body = check_converse(write(request).body)
    roles = [turn["role"] for turn in body["messages"]]
    assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
    for turn in body["messages"]:
        assert turn["content"]
        assert all(block.get("text", "x").strip() for block in turn["content"])
