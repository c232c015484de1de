"""Promises about how a Responses request is judged, and that none is a crash."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


# -- judging -------------------------------------------------------------------------


def test_what_codex_sends_is_judged_gently() -> None:
    """Unknown tools, items and members are no reason to refuse."""
    call: Any = CREATE.read_call(msgspec.json.encode(CODEX | {"max_output_tokens": 99}))
    assert (call.model, call.stream, call.max_output_tokens, call.stores) == ("m", True, 99, False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":"a\\nb","input":"x"}', "model"),
        (b'{"model":"m","input":3}', "input"),
        (b'{"model":"m","input":[3]}', "input[0]"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b'{"model":"m","max_output_tokens":-1}', "max_output_tokens"),
        (b'{"model":"m","max_output_tokens":NaN}', "body"),
        (b'{"model":"m","background":1}', "background"),
        (b'{"model":"m","previous_response_id":7}', "previous_response_id"),
        (b'{"model":"m","tools":{}}', "tools"),
        (b'{"model":"m","model":"n"}', "model"),
        (b'{"model":"m","input":' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b"", "body"),
    ],
)
def test_a_bad_body_is_a_400_that_names_the_place(body: bytes, param: str | None) -> None:
    """Wrong types, NaN, repeated keys and deep nesting are refused, never a crash."""
    with pytest.raises(InvalidRequest) as caught:
        CREATE.read_call(body)
    assert caught.value.status == 400
    if param is not None:
        assert caught.value.param == param


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(
        [*CODEX, "top_logprobs", "metadata", "temperature", "truncation", "previous_response_id"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "name", "role", "content", "tools", "x", "format"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
)
def test_no_value_anywhere_is_a_crash(name: str, value: Any) -> None:
    """Whatever stands in a field, it is read or refused with a 400."""
    with suppress(InvalidRequest):
        read(msgspec.json.encode(CODEX | {name: value}))


@settings(max_examples=300, deadline=None)
@given(
    item=st.dictionaries(
        st.sampled_from(
            ["type", "role", "content", "call_id", "name", "arguments", "output", "summary", "input", "id"]
        ),
        st.sampled_from(
            [
                None,
                "message",
                "user",
                "function_call",
                "reasoning",
                "item_reference",
                3,
                [],
                {},
                [{"type": "input_text"}],
                [{"type": "input_image", "image_url": "x"}],
                [{"type": "input_file", "file_data": "data:,"}],
            ]
        ),
        max_size=5,
    )
)
def test_no_item_is_a_crash(item: Any) -> None:
    """Whatever an item holds, it is read or refused with a 400 that says where."""
    with suppress(InvalidRequest):
        ask(input=[item])
