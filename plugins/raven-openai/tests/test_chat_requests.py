"""What chat clients send becomes the hub's request, whole, or a 400 that says where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_openai.chat.client import CLIENT_SIDE
from raven_openai.dialect import FACES

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]
PNG = "data:image/png;base64,iVBORw0KGgo="
HI = {"role": "user", "content": "Hi"}


@pytest.fixture
def read(make_exchange: Make) -> Callable[..., hub.ChatRequest]:
    """Read a request with these messages and parameters."""

    def run(messages: list[Any] | None = None, **fields: Any) -> hub.ChatRequest:
        body = msgspec.json.encode({"model": "m", "messages": messages or [HI], **fields})
        return CLIENT_SIDE.read_request(make_exchange(body, model="upstreams-name"))

    return run


def test_every_role_and_part_arrives(read: Any) -> None:
    """Text, image, sound, file, refusal, call and result keep their order, marks and names."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "free"}}
    request = read(
        [
            {"role": "developer", "content": [{"type": "text", "text": "Be short.", **mark}]},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                    {"type": "image_url", "image_url": "https://a.example/b.png"},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    },
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call, custom], "refusal": "no"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "1"}]},
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
        ]
    )
    system, user, assistant, *results = request.messages
    assert request.model == "upstreams-name"
    assert system.parts == [hub.Text(text="Be short.", cache=hub.CacheMark("1h"))]
    assert user.name == "ann"
    assert [type(part).__name__ for part in user.parts] == "Text Image Image Audio File File".split()
    _, image, link, sound, pdf, file = user.parts
    assert (image.media.data, image.media.media_type, image.detail) == ("iVBORw0KGgo=", "image/png", "low")
    assert link.media.url == "https://a.example/b.png"
    assert (sound.media.data, sound.format) == ("UklGRg==", "wav")
    assert (pdf.filename, pdf.media.media_type, file.media.file_id) == ("a.pdf", "application/pdf", "file-1")
    assert [part for part in assistant.parts if isinstance(part, hub.ToolCall)] == [
        hub.ToolCall(id="c1", name="f", arguments='{"a":1}'),
        hub.ToolCall(id="c2", name="g", arguments="free", custom=True),
    ]
    assert hub.Refusal(text="no") in assistant.parts
    assert [m.parts[0] for m in results] == [
        hub.ToolResult(call_id="c1", content=[hub.Text(text="1")]),
        hub.ToolResult(call_id="c2", content=[hub.Text(text="2")]),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_content": "t"}, [hub.Reasoning(text="t")]),
        ({"reasoning": "t"}, [hub.Reasoning(text="t")]),
        (
            {
                "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
                "reasoning_content": "t",
            },
            [hub.Reasoning(text="t", signature="s", format="anthropic")],
        ),
        (
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
            [hub.Reasoning(kind="encrypted", data="d", format="anthropic")],
        ),
        (
            {
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "t",
                        "signature": "s",
                        "format": "anthropic-claude-v1",
                        "index": 0,
                    }
                ],
                "reasoning": "t",
            },
            [hub.Reasoning(text="t", signature="s", format="anthropic")],
        ),
        (
            {
                "reasoning_details": [
                    {
                        "type": "reasoning.summary",
                        "summary": "s",
                        "id": "rs_1",
                        "format": "openai-responses-v1",
                    },
                    {
                        "type": "reasoning.encrypted",
                        "data": "d",
                        "id": "rs_1",
                        "format": "openai-responses-v1",
                    },
                ]
            },
            [hub.Reasoning(kind="summary", text="s", data="d", id="rs_1", format="openai")],
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]},
            [hub.Reasoning(text="t")],
        ),
    ],
)
def test_thinking_comes_back_in_every_form_in_use(read: Any, fields: Any, expected: Any) -> None:
    """LiteLLM's, OpenRouter's and Mistral's forms are read, and signatures keep whose they are."""
    request = read([HI, {"role": "assistant", "content": "x", **fields}, HI])
    assert [p for p in request.messages[1].parts if isinstance(p, hub.Reasoning)] == expected


@pytest.mark.parametrize("apart", [False, True])
def test_a_calls_signature_comes_back(read: Any, *, apart: bool) -> None:
    """Google's signature is read from the call, or from OpenRouter's list of thinking."""
    call: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = {"role": "assistant", "tool_calls": [call]}
    if apart:
        detail = {"type": "reasoning.encrypted", "id": "c", "data": "S", "format": "google-gemini-v1"}
        turn["reasoning_details"] = [detail]
    else:
        call["extra_content"] = {"google": {"thought_signature": "S"}}
    (found,) = read([HI, turn]).messages[1].parts
    assert (found.signature, found.format) == ("S", "google")


def test_the_words_of_before_tools_are_read(read: Any) -> None:
    """`functions`, `function_call` and the role `function` become tools, a choice, and a paired result."""
    request = read(
        [
            HI,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "42"},
        ],
        functions=[{"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}],
        function_call={"name": "f"},
    )
    call, result = request.messages[1].parts[0], request.messages[2].parts[0]
    assert call.id == result.call_id
    assert request.tools[0].schema == {"type": "object", "properties": {"a": {}}}
    assert request.tool_choice == hub.ToolChoice(mode="named", names=["f"])


TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}},
    {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
    {"type": "web_search_20250305", "name": "web_search"},
]


@pytest.mark.parametrize(
    ("choice", "mode", "names", "tools"),
    [
        ("auto", "auto", [], "f g"),
        ("none", "none", [], "f g"),
        ("required", "required", [], "f g"),
        ("any", "required", [], "f g"),
        ({"type": "function", "function": {"name": "f"}}, "named", ["f"], "f g"),
        ({"type": "custom", "custom": {"name": "g"}}, "named", ["g"], "f g"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"function": {"name": "f"}}]},
            },
            "named",
            ["f"],
            "f g",
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "f"}}]},
            },
            "auto",
            [],
            "f",
        ),
    ],
)
def test_tools_and_choices(read: Any, choice: Any, mode: str, names: list[str], tools: str) -> None:
    """Functions, custom tools and those of a vendor are told apart; every form of choice is read."""
    request = read(tools=TOOLS, tool_choice=choice)
    assert request.tool_choice == hub.ToolChoice(mode=mode, names=names)  # type: ignore[arg-type]
    assert [tool.name for tool in request.tools] == tools.split()
    assert request.tools[0].strict is True
    assert request.tools[0].schema == {"type": "object", "properties": {}}
    assert request.server_tools == TOOLS[2:]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "low"}, hub.Thinking(enabled=True, effort="low")),
        ({"reasoning_effort": "none"}, hub.Thinking(enabled=False, effort="none")),
        (
            {"reasoning": {"max_tokens": 9, "exclude": True}},
            hub.Thinking(enabled=True, budget_tokens=9, include=False),
        ),
        ({"reasoning": {"enabled": False}}, hub.Thinking(enabled=False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, hub.Thinking(enabled=True, budget_tokens=9)),
        ({"thinking": {"type": "adaptive"}}, hub.Thinking(enabled=True, adaptive=True)),
        ({"thinking": {"type": "disabled"}}, hub.Thinking(enabled=False)),
        ({"include_reasoning": False}, hub.Thinking(include=False)),
        ({}, None),
        ({"reasoning_effort": None, "reasoning": None}, None),
    ],
)
def test_every_way_to_ask_for_thought(read: Any, fields: Any, expected: Any) -> None:
    """OpenAI's, OpenRouter's and Anthropic's ways mean the same in the hub."""
    assert read(**fields).thinking == expected


def test_parameters_keep_their_values_and_names(read: Any) -> None:
    """Known parameters are typed, unknown ones are kept aside and named, null counts as left out."""
    plain = {
        "temperature": 0.5,
        "top_p": 0.1,
        "top_k": 3,
        "n": 2,
        "seed": 7,
        "presence_penalty": 0.1,
        "logprobs": True,
        "frequency_penalty": 0.2,
        "logit_bias": {"1": 2},
        "top_logprobs": 2,
        "parallel_tool_calls": False,
        "verbosity": "low",
        "user": "u",
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "store": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "modalities": ["text"],
        "prediction": {"type": "content"},
    }
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    request = read(
        **plain,
        stop="x",
        max_completion_tokens=5,
        response_format=schema,
        web_search_options={},
        min_p=0.1,
        x_null=None,
        repetition_penalty=1,
    )
    assert {name: getattr(request, name) for name in plain} == plain
    assert (request.stop, request.max_tokens, request.web_search) == (["x"], 5, {})
    assert request.output_format == hub.OutputFormat(
        mode="json_schema", name="n", schema={"type": "object"}, strict=True
    )
    assert request.extra == {"min_p": 0.1, "repetition_penalty": 1}
    assert request.dropped == ["min_p", "repetition_penalty"]
    request.drop("max_tokens")
    request.drop("output_format")
    assert request.dropped[2:] == ["max_completion_tokens", "response_format"]
    assert read(max_tokens=5).names.get("max_tokens", "max_tokens") == "max_tokens"


PART = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}],
            {},
            f"{PART}.image_url.url",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            {},
            f"{PART}.image_url.url",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}],
            {},
            f"{PART}.image_url.url",
        ),
        ([{"role": "user", "content": [{"type": "hologram"}]}], {}, f"{PART}.type"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], {}, f"{PART}.file"),
        ([{"role": "user", "content": [{"type": "text"}]}], {}, f"{PART}.text"),
        ([{"role": "tool", "content": "x"}], {}, "messages[0].tool_call_id"),
        ([{"role": "function", "name": "f", "content": "x"}], {}, "messages[0].name"),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], {}, "messages[0].tool_calls[0].function"),
        ([HI], {"temperature": "hot"}, "temperature"),
        ([HI], {"reasoning_effort": "enormous"}, "reasoning_effort"),
        ([HI], {"tools": [{"type": "function"}]}, "tools[0].function"),
        ([HI], {"tools": [{"type": "function", "function": {"name": 1}}]}, "tools[0].function.name"),
        ([HI], {"tool_choice": {"type": "function"}}, "tool_choice"),
        ([HI], {"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ([HI], {"response_format": {"type": "xml"}}, "response_format.type"),
        ([HI], {"stop": [1]}, "stop[0]"),
    ],
)
def test_a_bad_shape_is_a_400_that_says_where(read: Any, messages: Any, fields: Any, param: str) -> None:
    """`param` is the place as the client would write it."""
    with pytest.raises(InvalidRequest) as caught:
        read(messages, **fields)
    assert caught.value.param == param


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "function", "name", "url"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    "messages tools tool_choice response_format thinking reasoning stop functions audio logit_bias".split()
)


@settings(max_examples=300, deadline=None)
@given(name=_FIELDS, value=_json, turn=_json)
def test_whatever_comes_is_a_request_or_a_400(name: str, value: Any, turn: Any) -> None:
    """No JSON value in any place is an internal error."""
    body = msgspec.json.encode({"model": "m", "messages": [HI, turn], name: value})
    request: Any = None
    exchange = Exchange(request, request, "req_1")
    exchange.face, exchange.body = FACES[0], body
    try:
        exchange.call = FACES[0].read_call(body)
        CLIENT_SIDE.read_request(exchange)
    except InvalidRequest:
        pass
