"""Requests as Anthropic's clients write them, read into the hub; nonsense is a 400 that says where."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_anthropic import MESSAGES, requests
from raven_anthropic.client_requests import read_request

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]
TOOL = {"name": "weather", "description": "Tell it", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="session")
def read(make_exchange: Make) -> Callable[..., hub.ChatRequest]:
    def read(**fields: Any) -> hub.ChatRequest:
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}
        return read_request(make_exchange(body))

    return read


def user(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


def test_the_plain_fields(read: Any) -> None:
    request = read(
        system="Be brief", temperature=0.5, top_p=0.9, top_k=5, stop_sequences=["END"],
        metadata={"user_id": "u", "team": "x"}, service_tier="standard_only", stream=True,
    )  # fmt: skip
    assert [(one.role, one.text()) for one in request.messages] == [("system", "Be brief"), ("user", "Hi")]
    assert (request.temperature, request.top_p, request.top_k, request.max_tokens) == (0.5, 0.9, 5, 9)
    assert (request.stop, request.user, request.service_tier, request.stream) == (
        ["END"],
        "u",
        "default",
        True,
    )
    assert request.dropped == ["metadata.team"]
    assert request.family == MESSAGES.name


def test_results_come_in_front_of_what_else_their_turn_says(read: Any) -> None:
    """One message each; images stay in them; an error is marked."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    called = {"type": "tool_use", "id": "a", "name": "weather", "input": {"x": 1.0}}
    content = [{"type": "text", "text": "sun"}, image]
    request = read(
        messages=[
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": [called]},
            *user(
                {"type": "text", "text": "And?"},
                {"type": "tool_result", "tool_use_id": "a", "content": content},
                {"type": "tool_result", "tool_use_id": "b", "content": "bad", "is_error": True},
                {"type": "tool_result", "tool_use_id": "c"},
            ),
        ]
    )  # fmt: skip
    assert [one.role for one in request.messages] == ["user", "assistant", "tool", "tool", "tool", "user"]
    call = request.messages[1].parts[0]
    assert (call.id, call.name, msgspec.json.decode(call.arguments)) == ("a", "weather", {"x": 1.0})
    first, second, third = (message.parts[0] for message in request.messages[2:5])
    assert [type(part) for part in first.content] == [hub.Text, hub.Image]
    assert (second.is_error, second.content[0].text, third.content) == (True, "bad", [])


def test_system_messages_inside_the_conversation_stay_there(read: Any) -> None:
    request = read(messages=[{"role": "user", "content": "Q"}, {"role": "system", "content": "Now be brief"}])
    assert [one.role for one in request.messages] == ["user", "system"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            ("application/pdf", None, None),
        ),
        ({"type": "text", "media_type": "text/plain", "data": "Hello"}, ("text/plain", None, "Hello")),
        (
            {"type": "url", "url": "https://a.example/x.pdf"},
            ("application/pdf", "https://a.example/x.pdf", None),
        ),
        ({"type": "content", "content": [{"type": "text", "text": "Hello"}]}, ("text/plain", None, "Hello")),
    ],
)
def test_documents(source: Any, expected: Any, read: Any) -> None:
    block = {
        "type": "document",
        "source": source,
        "title": "T",
        "citations": {"enabled": True},
        "context": "c",
    }
    request = read(messages=user({**block, "cache_control": {"type": "ephemeral", "ttl": "1h"}}))
    (file,) = request.messages[0].parts
    assert (file.media.media_type, file.media.url, file.text) == expected
    assert (file.filename, file.citations, file.cache) == ("T", True, hub.CacheMark("1h"))
    assert request.dropped == ["messages[0].content[0].context"]


def test_search_results_are_documents(read: Any) -> None:
    block = {
        "type": "search_result", "source": "https://a.example", "title": "T",
        "content": [{"type": "text", "text": "Hello"}], "citations": {"enabled": True},
    }  # fmt: skip
    (file,) = read(messages=user(block)).messages[0].parts
    assert (file.text, file.filename, file.citations) == ("https://a.example\nHello", "T", True)


def test_thinking_keeps_its_signature_and_whose_it_is(read: Any) -> None:
    """What another vendor signed comes back marked, and is that vendor's again."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "thinking", "thinking": "", "signature": "raven:google:signature::g:sig"},
        {"type": "redacted_thinking", "data": "raven:openai:data:rs_1:enc"},
        {"type": "redacted_thinking", "data": "raven:google:call:gsig:call:1"},
        {"type": "tool_use", "id": "call:1", "name": "weather", "input": {}},
    ]
    *thoughts, call = read(messages=[{"role": "assistant", "content": content}]).messages[0].parts
    assert [(one.format, one.signature, one.data, one.id) for one in thoughts] == [
        ("anthropic", "sig", None, None),
        ("anthropic", None, "secret", None),
        ("google", "g:sig", None, None),
        ("openai", None, "enc", "rs_1"),
    ]
    assert (call.signature, call.format) == ("gsig", "google")


def test_what_the_vendors_own_tools_did_keeps_its_shape(read: Any) -> None:
    block = {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": {"type": "error", "error_code": "x"},
    }
    (part,) = read(messages=[{"role": "assistant", "content": [block]}]).messages[0].parts
    assert (part.native, part.dialect) == (block, MESSAGES.name)


def test_tools_and_the_choice_among_them(read: Any) -> None:
    request = read(
        tools=[
            {**TOOL, "strict": True, "cache_control": {"type": "ephemeral"}, "defer_loading": True},
            {"type": "bash_20250124", "name": "bash"},
        ],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    )
    (made,) = request.tools
    assert (made.name, made.strict, made.cache) == ("weather", True, hub.CacheMark())
    assert request.server_tools == [{"type": "bash_20250124", "name": "bash"}]
    assert request.tool_choice == hub.ToolChoice(mode="named", names=["weather"])
    assert request.parallel_tool_calls is False
    assert request.dropped == ["tools[0].defer_loading"]
    modes = {
        kind: read(tools=[TOOL], tool_choice={"type": kind}).tool_choice.mode
        for kind in ("auto", "any", "none")
    }
    assert modes == {"auto": "auto", "any": "required", "none": "none"}


def test_thinking_effort_and_format(read: Any) -> None:
    request = read(
        thinking={"type": "adaptive", "display": "summarized"},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert request.thinking == hub.Thinking(enabled=True, adaptive=True, effort="high", include=True)
    assert request.output_format.schema == {"type": "object"}
    assert read(thinking={"type": "enabled", "budget_tokens": 2000}).thinking.budget_tokens == 2000
    assert read(thinking={"type": "disabled"}).thinking.enabled is False
    assert read().thinking is None


def test_unknown_parameters_are_kept_for_the_family_and_named_for_others(read: Any) -> None:
    """`null` is not asked for."""
    management = {"edits": [{"type": "clear_thinking_20251015"}]}
    request = read(context_management=management, speed=None, inference_geo="us")
    assert request.extra == {"context_management": management, "inference_geo": "us"}
    assert request.dropped == ["context_management", "inference_geo"]


def test_what_was_read_and_written_again_asks_the_same(recordings: list[Any], make_exchange: Make) -> None:
    """As hosts of Claude get it that take the body but neither `model` nor `stream`."""
    compared = 0
    for recording in recordings:
        body = recording.request["body"]
        if recording.surface != "anthropic.messages" or body is None or recording.response["status"] >= 400:
            continue
        made = read_request(make_exchange(body))
        written = requests.write(made).body
        assert all(name.endswith(".defer_loading") for name in made.dropped), recording.id
        # The same words, in the fuller of the two spellings.
        expected = {name: value for name, value in body.items() if name not in {"model", "stream"}}
        for name in ("max_tokens", "stop_sequences", "temperature", "tool_choice", "thinking"):
            assert written.get(name) == expected.get(name), (recording.id, name)
        assert _texts(written) == _texts(expected), recording.id
        assert _names(written) == _names(expected), recording.id
        compared += 1
    assert compared >= 50


def _names(body: dict[str, Any]) -> set[str]:
    return {tool["name"] for tool in body.get("tools", ())}


def _texts(body: dict[str, Any]) -> list[str]:
    found: list[str] = []
    contents = [body.get("system") or [], *(turn["content"] for turn in body["messages"])]
    for content in contents:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [f"{block['type']} {block.get('text', '')}".rstrip() for block in blocks]
    return found


# -- nonsense --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"system": 7}, "system"),
        ({"system": [{"text": "x"}]}, "system[0].type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a", "input_schema": []}]}, "tools[0].input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": "all"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ],
)
def test_nonsense_is_a_400_that_names_the_place(fields: Any, param: str, read: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.startswith(f"{param}:")


@pytest.mark.parametrize(
    ("block", "place"),
    [
        (7, ""),
        ({"type": "text"}, ".text"),
        ({"type": "image"}, ".source"),
        ({"type": "image", "source": {"type": "x"}}, ".source.type"),
        ({"type": "image", "source": {"type": "url", "url": "ftp://x"}}, ".source.url"),
        ({"type": "tool_result"}, ".tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "a", "content": {}}, ".content"),
        ({"type": "tool_use", "id": "a", "name": "b", "input": "x"}, ".input"),
    ],
)
def test_nonsense_in_a_block_is_found_in_its_place(block: Any, place: str, read: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(messages=user(block))
    assert caught.value.param == f"messages[0].content[0]{place}"


NAMES = st.sampled_from(["type", "text", "source", "content", "name", "input", "id", "role", "data", "tools"])
LEAVES: Any = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(-9, 9)
VALUES: Any = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(
    ["text", "image", "document", "tool_use", "tool_result", "thinking", "search_result", "x"]
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_comes_is_read_or_refused(data: Any, make_exchange: Make) -> None:
    """Never anything but InvalidRequest."""
    block = data.draw(
        st.dictionaries(st.sampled_from(["text", "source", "content", "id", "input"]), VALUES, max_size=3)
    )
    name = data.draw(
        st.sampled_from(["system", "tools", "tool_choice", "thinking", "output_config", "metadata", "more"])
    )
    body = {
        "model": "m",
        "max_tokens": 1,
        "messages": user({"type": data.draw(TYPES), **block}),
        name: data.draw(VALUES),
    }
    with contextlib.suppress(InvalidRequest):
        requests.write(read_request(make_exchange(body)))
