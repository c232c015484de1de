"""What is judged of a Messages request, and how a mistake is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raven_anthropic.calls import read_count, read_messages
from raven_anthropic.dialect import find_raw_face

from raven_proxy.errors import InvalidRequest

QUESTION: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def read(**changes: Any) -> Any:
    body = {name: value for name, value in (QUESTION | changes).items() if value is not ...}
    return read_messages(msgspec.json.encode(body))


def test_what_the_gateway_needs_is_read() -> None:
    call = read(stream=True)
    assert (call.model, call.stream, call.max_output_tokens) == ("m", True, 9)
    assert set(call.members) == {"model", "max_tokens", "messages", "stream"}
    assert read(stream=None).stream is False


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_mistake_names_its_place_and_the_remedy(changes: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**changes)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}:")
    assert caught.value.message.endswith(".")


def test_a_missing_max_tokens_is_told_as_missing() -> None:
    with pytest.raises(InvalidRequest, match=r"max_tokens: it is missing\. Say how many"):
        read(max_tokens=...)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"model":NaN}', b'{"a":"\\ud800"}',
     b'{"model":"a","model":"b"}', b'{"messages":' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes) -> None:
    for reader in (read_messages, read_count):
        with pytest.raises(InvalidRequest):
            reader(body)


def test_counting_needs_no_bound() -> None:
    call = read_count(msgspec.json.encode({"model": "m", "messages": QUESTION["messages"]}))
    assert (call.model, call.stream, call.max_output_tokens) == ("m", False, None)


def test_what_claude_code_sends_is_accepted() -> None:
    """76 kB with 24 tools, adaptive thinking, a system list, system messages, context management."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "properties": {"path": {"type": "string", "pattern": "^/", "description": "x" * 2800}},
    }  # fmt: skip
    tools = [{"name": f"Tool{n}", "description": "y" * 200, "input_schema": schema} for n in range(24)]
    call = read(
        system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        messages=[*QUESTION["messages"], {"role": "system", "content": "Mind the time"}],
        tools=tools,
        thinking={"type": "adaptive"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        metadata={"user_id": "u"},
        stream=True,
    )
    assert call.stream


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("messages", "anthropic-messages-raw"),
        ("v1/messages", "anthropic-messages-raw"),
        ("messages/count_tokens", "anthropic-count-tokens-raw"),
        ("v1/messages/count_tokens", "anthropic-count-tokens-raw"),
        ("models", None),
        ("messages/batches", None),
    ],
)
def test_raw_paths_with_and_without_v1(endpoint: str, name: str | None) -> None:
    face = find_raw_face("POST", endpoint)
    assert (face.name if face is not None else None) == name
    assert find_raw_face("GET", endpoint) is None
