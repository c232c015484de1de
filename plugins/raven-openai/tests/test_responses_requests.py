"""Promises about what becomes of a Responses client's request when it is translated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai.responses import FACES, RESPONSES

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Candidate, Exchange

CREATE = FACES[0]

# What Codex sends, as far as it is unusual: shapes of wire.md section 8.
CODEX: dict[str, Any] = {
    "model": "m",
    "instructions": "",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>"}, {"type": "input_text", "text": ""}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Think"}],
            "content": None,
            "encrypted_content": "gAAAA",
        },
        {
            "type": "function_call",
            "name": "ls",
            "namespace": "mcp__files",
            "arguments": "{}",
            "call_id": "c1",
            "id": "fc_1",
        },
        {
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "c2",
            "name": "apply_patch",
            "input": "***",
        },
        {"type": "function_call_output", "call_id": "c1", "output": "a.txt"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [
                {"type": "input_text", "text": "ok"},
                {"type": "input_image", "image_url": "https://x.example/i.png"},
            ],
        },
    ],
    "tools": [
        {
            "type": "function",
            "name": "shell",
            "description": "Run",
            "strict": False,
            "parameters": {"type": "object", "properties": {}},
        },
        {
            "type": "namespace",
            "name": "mcp__files",
            "description": "Files",
            "tools": [
                {
                    "type": "function",
                    "name": "ls",
                    "strict": False,
                    "parameters": {"type": "object", "properties": {}},
                }
            ],
        },
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        },
        {"type": "web_search", "external_web_access": True},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "client_metadata": {"x": "y"},
    "text": {"verbosity": "low"},
}


def read(asked: dict[str, Any] | bytes, model: str | None = None) -> hub.ChatRequest:
    exchange = make(asked, model)
    request: hub.ChatRequest = RESPONSES.client_side.read_request(exchange)
    return request


def make(asked: dict[str, Any] | bytes, model: str | None = None) -> Exchange:
    request: Any = SimpleNamespace(method="POST", raw_path="/v1/responses")
    pipeline: Any = None
    exchange = Exchange(request, pipeline, "req_test")
    exchange.face = CREATE
    exchange.body = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
    exchange.call = CREATE.read_call(exchange.body)
    upstream: Any = SimpleNamespace(name="main")
    exchange.candidate = Candidate(upstream, model or exchange.call.model)
    return exchange


def ask(**fields: Any) -> hub.ChatRequest:
    return read({"model": "m", "input": "Hi", **fields})


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    return caught.value


def test_codex_becomes_turns() -> None:
    """One assistant turn holds reasoning and calls, each output is a tool message, in order."""
    request = read(CODEX)
    assert [message.role for message in request.messages] == [
        "developer",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    thought, call, patch = request.messages[2].parts
    assert thought == hub.Reasoning(text="Think", kind="summary", data="gAAAA", format="openai")
    assert call == hub.ToolCall(id="c1", name="mcp__files__ls", arguments="{}")
    assert patch == hub.ToolCall(id="c2", name="apply_patch", arguments="***", custom=True)
    assert request.messages[3].parts == [hub.ToolResult(call_id="c1", content=[hub.Text(text="a.txt")])]
    text, image = request.messages[4].parts[0].content  # type: ignore[union-attr]
    assert (text.text, image.media.url) == ("ok", "https://x.example/i.png")


def test_codex_asks_in_the_hubs_terms() -> None:
    """Tools are flat, the search that OpenAI runs is dropped and named, the rest is understood."""
    request = read(CODEX)
    assert [tool.name for tool in request.tools] == ["shell", "mcp__files__ls", "apply_patch"]
    assert [tool.strict for tool in request.tools] == [False, False, None]
    assert request.tools[2].grammar == {
        "type": "grammar",
        "grammar": {"syntax": "lark", "definition": "start: x"},
    }
    assert request.tool_choice == hub.ToolChoice(mode="auto")
    assert request.thinking == hub.Thinking(effort="medium", summary="auto")
    assert (request.verbosity, request.prompt_cache_key, request.stream) == ("low", "k", True)
    assert sorted(request.dropped) == ["client_metadata", "tools.web_search"]
    assert request.extra == {"client_metadata": {"x": "y"}}


# -- state ---------------------------------------------------------------------------


def test_what_needs_a_store_is_refused() -> None:
    """Nothing is stored here: each member that needs it is a 400 with OpenAI's words or a remedy."""
    error = refusal(previous_response_id="resp_x")
    assert error.message == "Previous response with id 'resp_x' not found."
    assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
    for name, value in (("conversation", "conv_1"), ("background", True), ("prompt", {"id": "pmpt_1"})):
        assert refusal(**{name: value}).param == name
    assert ask(store=True, background=False, conversation=None).dropped == []


# -- tools and formats ---------------------------------------------------------------

STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "strict", "expected"),
    [
        (STRICT, None, True),
        (STRICT, False, False),
        ({**STRICT, "required": []}, None, False),
        ({"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}, None, False),
        ({"type": "object", "properties": {}}, True, True),
    ],
)
def test_functions_are_strict_where_their_schema_can_be(schema: Any, strict: Any, expected: bool) -> None:
    """Strict is this API's default; a schema that strict mode would refuse is sent loose."""
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": strict}
    assert ask(tools=[tool]).tools[0].strict is expected


def test_long_names_of_namespaces_stay_unique_and_short() -> None:
    """A flat name has at most 64 characters, and two that begin alike differ."""
    inner = [{"type": "function", "name": "n" * 40 + end} for end in ("a", "b")]
    names = [tool.name for tool in ask(tools=[{"type": "namespace", "name": "s" * 40, "tools": inner}]).tools]
    assert len(set(names)) == 2
    assert all(len(name) <= 64 for name in names)


F = {"type": "function", "name": "f"}
G = {"type": "function", "name": "g"}
SEARCH = {"type": "web_search"}


@pytest.mark.parametrize(
    ("choice", "expected", "left"),
    [
        ("required", hub.ToolChoice(mode="required"), ["f", "g"]),
        ({"type": "function", "name": "f"}, hub.ToolChoice(mode="named", names=["f"]), ["f", "g"]),
        ({"type": "allowed_tools", "mode": "auto", "tools": [F, SEARCH]}, hub.ToolChoice(mode="auto"), ["f"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [F, G]},
            hub.ToolChoice(mode="named", names=["f", "g"]),
            ["f", "g"],
        ),
        (None, None, ["f", "g"]),
    ],
)
def test_tool_choice(choice: Any, expected: Any, left: list[str]) -> None:
    """Each form of `tool_choice` has its meaning; allowed tools are those that remain."""
    request = ask(tools=[F, G, SEARCH], tool_choice=choice)
    assert request.tool_choice == expected
    assert [tool.name for tool in request.tools] == left


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ([F, SEARCH], {"type": "web_search"}),
        ([SEARCH], "required"),
        ([F], {"type": "function", "name": "zzz"}),
        ([F], {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}),
        ([F], "sometimes"),
        ([F], {"type": "mcp", "server_label": "x"}),
    ],
)
def test_a_forced_tool_that_is_not_there_is_refused(tools: Any, choice: Any) -> None:
    """What cannot be forced is a 400, not a silent auto."""
    assert (refusal(tools=tools, tool_choice=choice).param or "").startswith("tool_choice")


def test_two_tools_of_one_name_are_refused() -> None:
    """The model could not tell them apart."""
    assert refusal(tools=[F, F]).param == "tools[1].name"


def test_formats() -> None:
    """`text.format` becomes an output format; plain text is none."""
    assert ask(text={"format": {"type": "text"}}).output_format is None
    assert ask(text={"format": {"type": "json_object"}}).output_format == hub.OutputFormat(mode="json_object")
    form = {"type": "json_schema", "name": "n", "schema": STRICT, "strict": True, "description": "d"}
    assert ask(text={"format": form}).output_format == hub.OutputFormat(
        mode="json_schema", name="n", schema=STRICT, strict=True, description="d"
    )
    assert refusal(text={"format": {"type": "xml"}}).param == "text.format"


def test_sampling_and_the_rest() -> None:
    """Plain members keep their values; what no chat can say is named as dropped."""
    request = ask(
        temperature=0.2,
        top_p=0.9,
        max_output_tokens=50,
        metadata={"a": "b"},
        user="u",
        truncation="auto",
        top_logprobs=2,
        include=["message.output_text.logprobs"],
        reasoning={"effort": "none", "mode": "pro"},
        service_tier="flex",
        safety_identifier="s",
        parallel_tool_calls=False,
        stream_options={"include_obfuscation": False},
    )
    assert (request.temperature, request.top_p, request.max_tokens, request.user) == (0.2, 0.9, 50, "u")
    assert (request.logprobs, request.top_logprobs, request.metadata) == (True, 2, {"a": "b"})
    assert request.thinking == hub.Thinking(enabled=False, effort="none")
    assert request.parallel_tool_calls is None, "there are no tools"
    assert sorted(request.dropped) == ["reasoning.mode", "truncation"]
    assert request.names["max_tokens"] == "max_output_tokens"
    assert refusal(reasoning={"effort": "huge"}).param == "reasoning.effort"


def test_recorded_requests_are_understood(response_recordings: Any) -> None:
    """Every recorded request is read, or refused for a reason that names its place."""
    reasons = set()
    understood = 0
    for recording in response_recordings:
        body = (recording.request or {}).get("body")
        if not isinstance(body, dict) or "model" not in body:
            continue
        try:
            read(body)
            understood += 1
        except InvalidRequest as error:
            reasons.add(error.param)
    assert understood > 50
    assert reasons <= {"previous_response_id", "prompt", "tool_choice"}, reasons
