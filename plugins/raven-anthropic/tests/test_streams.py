"""Streams and replies of Anthropic's vendors, read into the hub: the cases that recordings lack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from raven_anthropic import PROVIDER_SIDE, AnthropicSide
from raven_anthropic.replies import Reading

from raven_proxy import hub
from raven_proxy.errors import UpstreamError
from raven_proxy.exchange import Usage

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "c", "usage": {"input_tokens": 9, "output_tokens": 3}},
}
STOP = {"type": "message_stop"}


def frames(*events: Any) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b  \n\n" % (event["type"].encode(), msgspec.json.encode(event))
        for event in events
    )


def read(*events: Any, reading: Reading | None = None) -> list[Any]:
    reader = AnthropicSide(reading).open_reader()
    return [*reader.feed(frames(*events)), *reader.close()]


def block(index: int, content: Any, *deltas: Any) -> list[Any]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def json(*pieces: str) -> list[Any]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def ended(reason: str | None = "end_turn", **usage: Any) -> list[Any]:
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": reason},
        "usage": usage or {"output_tokens": 5},
    }
    return [delta, STOP]


def only(kind: Any, events: Iterable[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Whether no delta came or only the empty one."""
    tool = {"type": "tool_use", "id": "a", "name": "t", "input": {}}
    for deltas in ([], json("")):
        events = read(START, *block(0, tool, *deltas), *ended("tool_use"))
        assert only(hub.ToolCallDelta, events) == [hub.ToolCallDelta(0, "{}")]


def test_a_call_that_comes_whole_has_its_arguments() -> None:
    tool = {"type": "tool_use", "id": "a", "name": "t", "input": {"x": 1}}
    assert only(hub.ToolCallDelta, read(START, *block(0, tool), *ended())) == [
        hub.ToolCallDelta(0, '{"x":1}')
    ]


def test_calls_are_counted_without_the_vendors_own() -> None:
    """Text, search, result, call, call: the calls are 0 and 1; what the server did is told whole."""
    server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    tool = {"type": "tool_use", "id": "a", "name": "t", "input": {}}
    events = read(
        START, *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}),
        *block(1, server, *json("", '{"query":', '"x"}')), *block(2, result),
        *block(3, tool, *json("{}")), *block(4, {**tool, "id": "b"}, *json("{}")), *ended("tool_use"),
    )  # fmt: skip
    assert [(one.index, one.id) for one in only(hub.ToolCallStarted, events)] == [(0, "a"), (1, "b")]
    natives = [one.part.native for one in only(hub.PartMade, events)]
    assert natives == [{**server, "input": {"query": "x"}}, result]


def test_usage_is_cumulative_and_may_be_corrected() -> None:
    """The last of each count stands; what a later one leaves out stays as it was."""
    first = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 50}}
    events = read(START, first, *ended(input_tokens=100, output_tokens=70, cache_read_input_tokens=20))
    assert only(hub.Started, events)[0].usage.prompt_tokens == 9
    usages = [one.usage for one in only(hub.UsageReported, events)]
    assert [(one.prompt_tokens, one.completion_tokens) for one in usages] == [(9, 50), (120, 70)]
    assert [type(event) for event in events[-2:]] == [hub.Finished, hub.Ended]


@pytest.mark.parametrize(
    "usage",
    [None, {}, [], "7", {"input_tokens": "7", "output_tokens": 1}, {"input_tokens": -1, "output_tokens": 1},
     {"input_tokens": 1e308, "output_tokens": 1}, {"output_tokens": 10**12}],
)  # fmt: skip
def test_absurd_usage_is_no_usage(usage: Any) -> None:
    start = {"type": "message_start", "message": {"id": "m", "model": "c"}}
    events = read(
        start, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, STOP
    )
    assert not only(hub.UsageReported, events)
    assert isinstance(events[-1], hub.Ended)
    body = {"type": "message", "content": [], "usage": usage}
    assert PROVIDER_SIDE.read_reply(msgspec.json.encode(body)).usage is None


def test_zero_stays_zero() -> None:
    body = {"type": "message", "content": [], "usage": {"input_tokens": 0, "output_tokens": 0}}
    assert PROVIDER_SIDE.read_reply(msgspec.json.encode(body)).usage == Usage()


def test_cache_writes_by_their_time_to_live() -> None:
    usage = {
        "input_tokens": 5, "output_tokens": 8,
        "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens_details": {"thinking_tokens": 6}, "service_tier": "standard",
    }  # fmt: skip
    reply = PROVIDER_SIDE.read_reply(msgspec.json.encode({"type": "message", "content": [], "usage": usage}))
    assert reply.usage == Usage(
        prompt_tokens=55, completion_tokens=8, total_tokens=63, cached_tokens=20, cache_write_tokens=30,
        cache_write_1h_tokens=20, reasoning_tokens=6,
    )  # fmt: skip
    assert reply.service_tier == "default"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("pause_turn", "stop"), ("max_tokens", "length"),
     ("model_context_window_exceeded", "length"), ("compaction", "length"), ("refusal", "content_filter"),
     ("something_new", "stop"), (None, "stop")],
)  # fmt: skip
def test_reasons(reason: str | None, finish: str) -> None:
    (event,) = only(hub.Finished, read(START, *ended(reason)))
    assert (event.finish, event.native) == (finish, reason)


def test_a_turn_that_calls_ends_in_calls_whatever_the_vendor_says() -> None:
    tool = {"type": "tool_use", "id": "a", "name": "t", "input": {}}
    assert only(hub.Finished, read(START, *block(0, tool), *ended("end_turn")))[0].finish == "tool_calls"
    assert only(hub.Finished, read(START, *block(0, tool), *ended("max_tokens")))[0].finish == "length"


@pytest.mark.parametrize(
    ("kind", "status"),
    [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 500), ("timeout_error", 504),
     ("invalid_request_error", 400), ("authentication_error", 401), ("request_too_large", 413),
     ("odd", None)],
)  # fmt: skip
def test_errors_inside_a_stream(kind: str, status: int | None) -> None:
    (failed,) = only(hub.Failed, read(START, {"type": "error", "error": {"type": kind, "message": "No"}}))
    assert (failed.message, failed.type, failed.status) == ("No", kind, status)


def test_an_error_of_another_shape_is_an_error_by_its_event_line() -> None:
    reader = PROVIDER_SIDE.open_reader()
    (failed,) = reader.feed(b'event: error\ndata: {"message": "No"}\n\n')
    assert failed == hub.Failed(message="No")
    (failed,) = PROVIDER_SIDE.open_reader().feed(b'data: {"error": {"message": "No", "code": 502}}\n\n')
    assert failed.message == "No"


def test_what_is_unknown_is_passed_over() -> None:
    """Events, deltas, deltas of blocks that never opened, [DONE], and what comes after the end."""
    odd = {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}}
    new = {"type": "text_delta_v2", "words": ["x"]}
    events = read(
        START,
        {"type": "novelty", "delta": {}},
        odd,
        *block(0, {"type": "text", "text": ""}, new),
        *ended(),
        odd,
    )
    assert [type(event) for event in events] == [hub.Started, hub.UsageReported, hub.Finished, hub.Ended]
    assert [*PROVIDER_SIDE.open_reader().feed(b"data: [DONE]\n\n")] == []


def test_text_in_the_blocks_start_is_text() -> None:
    events = read(
        START, *block(0, {"type": "text", "text": "Hel"}, {"type": "text_delta", "text": "lo"}), *ended()
    )
    assert "".join(one.text for one in only(hub.TextDelta, events)) == "Hello"


def test_a_stream_that_breaks_off_has_no_end() -> None:
    """Not even after the stop reason; the last event counts without its empty line."""
    reader = PROVIDER_SIDE.open_reader()
    data = frames(START, *block(0, {"type": "tool_use", "id": "a", "name": "t"})[:1], ended()[0])
    events = [*reader.feed(data.rstrip()), *reader.close()]
    assert only(hub.ToolCallDelta, events) == [hub.ToolCallDelta(0, "{}")]
    assert isinstance(events[-1], hub.Finished)


def test_citations_cover_their_block() -> None:
    cite = {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": "T",
            "start_char_index": 0, "end_char_index": 1}  # fmt: skip
    content: Any = {"type": "text", "text": "", "citations": []}
    deltas = [{"type": "citations_delta", "citation": cite}, {"type": "text_delta", "text": "Sky"}]
    (added,) = only(hub.AnnotationAdded, read(START, *block(0, content, *deltas), *ended()))
    note = added.annotation
    assert (note.kind, note.title, note.cited_text, note.start, note.end, note.native) == (
        "document", "T", "c", 0, 3, cite,
    )  # fmt: skip
    body = {"type": "message", "content": [{"type": "text", "text": "Sky", "citations": [cite]}]}
    (text,) = PROVIDER_SIDE.read_reply(msgspec.json.encode(body)).choices[0].parts
    assert text.annotations == [note]


JSON = Reading(json_tool="json")


def test_the_input_of_the_json_tool_is_the_answer() -> None:
    """What is said around it is not, and the client sees no call."""
    text, tool = (
        {"type": "text", "text": "Sure"},
        {"type": "tool_use", "id": "a", "name": "json", "input": {}},
    )
    events = read(
        START, *block(0, text), *block(1, tool, *json('{"a":', "1}")), *ended("tool_use"), reading=JSON
    )
    reply = hub.gather(events)
    assert [part.text for part in reply.choices[0].parts] == ['{"a":1}']
    assert (reply.choices[0].finish, reply.choices[0].native_finish) == ("stop", "tool_use")
    body = {"content": [text, {**tool, "input": {"a": 1}}], "stop_reason": "tool_use"}
    whole = AnthropicSide(JSON).read_reply(msgspec.json.encode(body)).choices[0]
    assert ([part.text for part in whole.parts], whole.finish) == (['{"a":1}'], "stop")


def test_without_the_json_tool_the_text_is_the_answer() -> None:
    text, other = {"type": "text", "text": "No"}, {"type": "tool_use", "id": "a", "name": "t", "input": {}}
    reply = hub.gather(read(START, *block(0, text), *block(1, other), *ended("tool_use"), reading=JSON))
    assert reply.choices[0].finish == "tool_calls"
    assert "No" in [getattr(part, "text", None) for part in reply.choices[0].parts]


def test_custom_tools_give_their_text() -> None:
    reading = Reading(custom=frozenset({"patch"}))
    tool = {"type": "tool_use", "id": "a", "name": "patch", "input": {}}
    events = read(
        START, *block(0, tool, *json('{"inp', 'ut": "*** Begin"}')), *ended("tool_use"), reading=reading
    )
    assert only(hub.ToolCallStarted, events)[0].custom
    assert only(hub.ToolCallDelta, events) == [hub.ToolCallDelta(0, "*** Begin")]
    body = {"content": [{**tool, "input": {"input": "*** Begin"}}], "stop_reason": "tool_use"}
    (call,) = AnthropicSide(reading).read_reply(msgspec.json.encode(body)).choices[0].parts
    assert (call.arguments, call.custom) == ("*** Begin", True)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"content": 7}', b"<html>", b"\xff", b'{"content": [7]}']
)
def test_what_is_no_message_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        PROVIDER_SIDE.read_reply(body)


def test_an_error_under_a_status_of_200_is_an_error() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Busy, sk-ant-abcdefghijkl"}}'
    with pytest.raises(UpstreamError) as caught:
        PROVIDER_SIDE.read_reply(body)
    assert (caught.value.status, caught.value.message) == (529, "Busy, [redacted]")


WHOLE = {"type": "message", "id": "m", "model": "c", "content": [{"type": "text", "text": "Hello"}],
         "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": 5}}  # fmt: skip


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_document_where_a_stream_was_due_is_told_as_one(size: int) -> None:
    """And a stream where a document was due is gathered; whatever the headers said."""
    data = b" \n" + msgspec.json.encode(WHOLE)
    reader = PROVIDER_SIDE.open_reader()
    events = [
        event for start in range(0, len(data), size) for event in reader.feed(data[start : start + size])
    ]
    events += reader.close()
    assert only(hub.TextDelta, events) == [hub.TextDelta("Hello")]
    assert isinstance(events[-1], hub.Ended)
    stream = frames(START, *block(0, {"type": "text", "text": "Hello"}), *ended())
    reply = PROVIDER_SIDE.read_reply(stream)
    assert (reply.choices[0].parts[0].text, reply.usage.completion_tokens) == ("Hello", 5)


def test_a_failure_is_a_failure_in_either_disguise() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
    reader = PROVIDER_SIDE.open_reader()
    assert [*reader.feed(msgspec.json.encode(error)), *reader.close()] == [
        hub.Failed(message="Busy", status=529)
    ]
    with pytest.raises(UpstreamError) as caught:
        PROVIDER_SIDE.read_reply(frames(START, error))
    assert caught.value.status == 529
    with pytest.raises(ValueError, match="before it was complete"):
        PROVIDER_SIDE.read_reply(frames(START))
    assert [*PROVIDER_SIDE.open_reader().close()] == []
