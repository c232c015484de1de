"""Facts of Anthropic's wire that no other test here states; see `tests/conformance/WIRE.md`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_anthropic import MESSAGES, PROVIDER_SIDE, requests
from raven_anthropic.usage import parse_usage, read_usage

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.hub import ChatRequest, Message

from .official import read_events
from .test_streams import START, block, ended, only, read

Make = Callable[..., Exchange]
QUESTION = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def write(*messages: Message, **fields: Any) -> dict[str, Any]:
    request = ChatRequest(model="claude-sonnet-4-5", messages=list(messages), **fields)
    return requests.write(request).body


def say(role: Any, *parts: Any) -> Message:
    return Message(role=role, parts=[hub.Text(text=p) if isinstance(p, str) else p for p in parts])


# -- requests ------------------------------------------------------------------------


def test_an_images_detail_is_not_sent() -> None:
    """Anthropic refuses fields that it does not know."""
    image = hub.Image(media=hub.Media(url="https://a.example/x.png"), detail="low")
    (made,) = write(say("user", image))["messages"][0]["content"]
    assert made == {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}


def test_a_refusal_goes_back_as_text() -> None:
    """What the model declined to do is part of the conversation."""
    body = write(say("user", "Q"), say("assistant", hub.Refusal(text="No.")), say("user", "Why?"))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "No."}]


def test_a_result_that_speaks_of_an_error_is_not_marked_as_one() -> None:
    """OpenAI's clients have no flag for it, and nobody guesses."""
    call = hub.ToolCall(id="a", name="f", arguments="{}")
    result = hub.ToolResult(call_id="a", content=[hub.Text(text='{"error":"no such city"}')])
    body = write(say("user", "Q"), say("assistant", call), say("tool", result))
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": '{"error":"no such city"}'}
    ]


def test_a_tools_schema_keeps_its_definitions() -> None:
    """`$defs` and `additionalProperties` stay as the client wrote them."""
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"type": "string", "minLength": 2}},
        "additionalProperties": False,
    }
    assert write(say("user", "Q"), tools=[hub.Tool(name="f", schema=schema)])["tools"][0]["input_schema"] == (
        schema
    )


def test_an_output_format_has_its_schema_and_no_name() -> None:
    """Anthropic refuses `name` and `strict` there."""
    form = hub.OutputFormat(mode="json_schema", name="n", schema={"type": "object"}, strict=True)
    assert write(say("user", "Q"), output_format=form)["output_config"]["format"].keys() == {"type", "schema"}


def test_thinking_stands_first_in_its_turn(make_exchange: Make) -> None:
    """Wherever the client kept it: Anthropic wants it before text and calls."""
    from raven_openai.chat.client import CLIENT_SIDE
    from raven_openai.dialect import FACES

    turn = {
        "role": "assistant",
        "content": "Let me look",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        "thinking_blocks": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
        ],
    }
    asked = {
        "model": "m",
        "messages": [{"role": "user", "content": "Q"}, turn, {"role": "tool", "tool_call_id": "a"}],
    }
    asked["messages"][2]["content"] = "1"
    request = CLIENT_SIDE.read_request(make_exchange(asked, face=FACES[0]))
    kinds = [one["type"] for one in requests.write(request).body["messages"][1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]


# -- replies -------------------------------------------------------------------------

COMPACTION = {
    "type": "compaction", "input_tokens": 1000, "output_tokens": 50, "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 30, "cache_creation": {"ephemeral_1h_input_tokens": 30},
}  # fmt: skip
STEPS = [
    COMPACTION,
    {"type": "message", "input_tokens": 9, "output_tokens": 5},
    {"type": "advisor_message", "model": "x", "input_tokens": 70_000, "output_tokens": 7},
    "odd",
]
SPENT = Usage(
    prompt_tokens=1239, completion_tokens=55, total_tokens=1294, cached_tokens=200, cache_write_tokens=30,
    cache_write_1h_tokens=30,
)  # fmt: skip


def test_searches_of_the_vendors_own_tool_are_counted() -> None:
    """`server_tool_use.web_search_requests`: billed beside the tokens."""
    table = {"input_tokens": 10, "output_tokens": 5, "server_tool_use": {"web_search_requests": 3}}
    usage = read_usage(parse_usage(table))
    assert usage is not None
    assert usage.web_searches == 3
    for odd in ({"web_search_requests": -1}, {"web_search_requests": "3"}, 3, None):
        usage = read_usage(parse_usage(table | {"server_tool_use": odd}))
        assert usage is not None
        assert usage.web_searches == 0


def test_what_a_compaction_cost_is_counted() -> None:
    """The counts at the top leave it out; steps on another model are not this model's tokens."""
    usage = {"input_tokens": 9, "output_tokens": 5, "iterations": STEPS}
    body = msgspec.json.encode({"type": "message", "content": [], "usage": usage})
    assert PROVIDER_SIDE.read_reply(body).usage == SPENT
    events = read(START, *ended(output_tokens=5, iterations=STEPS))
    assert only(hub.UsageReported, events)[-1].usage == SPENT
    odd = {**usage, "iterations": {"type": "compaction"}}
    body = msgspec.json.encode({"type": "message", "content": [], "usage": odd})
    assert PROVIDER_SIDE.read_reply(body).usage.prompt_tokens == 9


def test_several_texts_are_one_answer_and_arguments_are_compact() -> None:
    """For clients with one content: no text is lost, ids stay, and arguments are text without spaces."""
    content = [
        {"type": "text", "text": "One "},
        {"type": "text", "text": "two"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "b"]}},
    ]
    body = {"type": "message", "id": "msg_1", "content": content, "stop_reason": "tool_use"}
    reply = PROVIDER_SIDE.read_reply(msgspec.json.encode(body))
    from raven_openai.chat.replies import write_chat_reply

    exchange: Any = type("E", (), {"id": "req_1", "candidate": None, "model": "m", "hub_request": None})()
    written = msgspec.json.decode(write_chat_reply(reply, exchange))
    message = written["choices"][0]["message"]
    assert (written["id"], message["content"]) == ("msg_1", "One two")
    assert message["tool_calls"][0] == {
        "id": "toolu_1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":[1,"b"]}'},
    }


def test_thinking_and_its_signature_are_events_of_their_own() -> None:
    """The field is `thinking`, not `text`; the signature comes behind it."""
    deltas = [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "sig"},
    ]
    events = read(START, *block(0, {"type": "thinking", "thinking": ""}, *deltas), *ended())
    (part,) = hub.gather(events).choices[0].parts
    assert part == hub.Reasoning(text="hm", signature="sig", format="anthropic")


@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_a_ping_may_stand_anywhere(place: int) -> None:
    """It changes nothing of what is said."""
    plain = [START, *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}), *ended()]
    pinged = [*plain[:place], {"type": "ping"}, *plain[place:]]
    told = read(*pinged)
    assert [one for one in told if not isinstance(one, hub.Pinged)] == read(*plain)
    assert told.count(hub.Pinged()) == 1


# -- streams for Anthropic's clients ----------------------------------------------------


def _told(make_exchange: Make, *events: Any) -> list[tuple[str, dict[str, Any]]]:
    writer = MESSAGES.client_side.open_writer(make_exchange(QUESTION))
    return read_events(b"".join([writer.write(event) for event in events]))


def test_the_true_usage_comes_at_the_end(make_exchange: Make) -> None:
    """OpenAI's vendors tell it last: numbers at once, the truth in `message_delta`, input included."""
    usage = Usage(prompt_tokens=12, completion_tokens=5, total_tokens=17, cached_tokens=3)
    told = _told(
        make_exchange, hub.Started(), hub.TextDelta("x"), hub.Finished(finish="stop"),
        hub.UsageReported(usage), hub.Ended(),
    )  # fmt: skip
    first, last = told[0][1]["message"]["usage"], told[-2]
    assert all(type(first[name]) is int for name in ("input_tokens", "output_tokens"))
    assert last[0] == "message_delta"
    assert (last[1]["usage"]["input_tokens"], last[1]["usage"]["output_tokens"]) == (9, 5)


def test_a_stream_closes_although_usage_never_comes(make_exchange: Make) -> None:
    """The end of the bytes is enough."""
    told = _told(make_exchange, hub.Started(), hub.TextDelta("x"), hub.Finished(finish="stop"), hub.Ended())
    assert [name for name, _ in told[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
