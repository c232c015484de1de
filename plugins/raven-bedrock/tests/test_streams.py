"""What no recording shows: every stop reason, faults, calls without arguments, the tool that is JSON."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from raven_bedrock.replies import Context
from raven_bedrock.streams import ConverseSide

from raven_proxy import hub
from raven_proxy.metering import UNREADABLE

from .conftest import frame
from .test_replies import events_of


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("throttlingException", 429),
        ("modelStreamErrorException", 424),
        ("internalServerException", 500),
        ("serviceUnavailableException", 503),
        ("modelTimeoutException", 408),
        ("somethingNewException", None),
    ],
)
def test_an_exception_ends_the_stream(name: str, status: int | None) -> None:
    data = frame("messageStart", {"role": "assistant"}) + frame(name, {"message": "Too much."}, "exception")
    events = events_of(data + frame("messageStop", {"stopReason": "end_turn"}))
    assert events[1:] == [hub.Failed(message="Too much.", type=name, status=status)]


def test_an_error_frame_without_a_body_is_an_error_too() -> None:
    assert events_of(frame("InternalError", b"", "error")) == [
        hub.Failed(message="InternalError", type="InternalError")
    ]


START = frame("messageStart", {"role": "assistant", "p": "abc"})
USAGE = {"inputTokens": 5, "outputTokens": 3, "totalTokens": 30, "cacheReadInputTokens": 20,
         "cacheWriteInputTokens": 2, "cacheDetails": [{"ttl": "1h", "inputTokens": 2}]}  # fmt: skip
METADATA = frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}, "p": "a"})


def delta(value: dict[str, Any], index: int = 0) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": index, "delta": value, "p": "xyz"})


def end(index: int = 0) -> bytes:
    return frame("contentBlockStop", {"contentBlockIndex": index})


def stop(reason: str) -> bytes:
    return frame("messageStop", {"stopReason": reason})


def call(name: str, index: int = 0, **more: Any) -> bytes:
    tool = {"toolUseId": f"t{index}", "name": name, **more}
    return frame("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": tool}})


def test_cached_tokens_are_part_of_the_prompt() -> None:
    reply = hub.gather(events_of(START + delta({"text": "Hi"}) + end() + stop("end_turn") + METADATA))
    usage = reply.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (27, 3, 30)
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens) == (20, 2, 2)


@pytest.mark.parametrize("pieces", [[], [""]])
@pytest.mark.parametrize("has_stop", [True, False])
def test_a_call_without_arguments_has_an_empty_object(pieces: list[str], has_stop: bool) -> None:
    data = START + call("now") + b"".join(delta({"toolUse": {"input": one}}) for one in pieces)
    events = events_of(data + (end() if has_stop else b"") + stop("tool_use") + METADATA)
    assert hub.ToolCallDelta(0, "{}") in events
    assert hub.gather(events).choices[0].parts == [hub.ToolCall(id="t0", name="now", arguments="{}")]


def test_calls_are_counted_without_texts_and_server_tools() -> None:
    data = START + delta({"text": "Let me"}) + end() + call("search", 1, type="server_tool_use")
    data += (
        delta({"toolUse": {"input": '{"q":1}'}}, 1) + end(1) + call("a", 2) + end(2) + call("b", 3) + end(3)
    )
    events = events_of(data + stop("tool_use") + METADATA)
    started = [event for event in events if isinstance(event, hub.ToolCallStarted)]
    assert [(one.index, one.name) for one in started] == [(0, "a"), (1, "b")]
    (made,) = [event for event in events if isinstance(event, hub.PartMade)]
    assert made.part == hub.ServerTool(
        native={
            "toolUse": {"toolUseId": "t1", "name": "search", "type": "server_tool_use", "input": {"q": 1}}
        },
        dialect="bedrock.converse",
    )


@pytest.mark.parametrize(
    ("word", "has_calls", "finish"),
    [
        ("end_turn", False, "stop"),
        ("stop_sequence", False, "stop"),
        ("end_turn", True, "tool_calls"),
        ("tool_use", True, "tool_calls"),
        ("max_tokens", True, "length"),
        ("model_context_window_exceeded", False, "length"),
        ("guardrail_intervened", False, "content_filter"),
        ("content_filtered", False, "content_filter"),
        ("malformed_model_output", False, "error"),
        ("malformed_tool_use", False, "error"),
        ("a_word_of_tomorrow", False, "stop"),
    ],
)
def test_every_stop_reason_has_its_finish(word: str, has_calls: bool, finish: str) -> None:
    data = START + ((call("f") + end()) if has_calls else b"") + stop(word) + METADATA
    (choice,) = hub.gather(events_of(data)).choices
    assert (choice.finish, choice.native_finish) == (finish, word)
    content = [{"toolUse": {"toolUseId": "t0", "name": "f", "input": {}}}] if has_calls else [{"text": "x"}]
    document = {"output": {"message": {"content": content}}, "stopReason": word}
    assert ConverseSide().read_reply(msgspec.json.encode(document)).choices[0].finish == finish


def test_a_stream_may_end_without_metadata_but_not_without_a_stop() -> None:
    assert isinstance(events_of(START + stop("end_turn"))[-1], hub.Ended)
    assert not any(isinstance(event, hub.Ended) for event in events_of(START + delta({"text": "Hi"})))
    assert not any(
        isinstance(event, hub.Ended) for event in events_of(START + stop("end_turn") + METADATA[:9])
    )


def test_unknown_events_and_blocks_are_skipped() -> None:
    data = (
        frame("somethingNew", {"a": 1}) + START + delta({"video": {}}) + end() + stop("end_turn") + METADATA
    )
    assert hub.gather(events_of(data)).choices[0].parts == []
    document = {"output": {"message": {"content": [{"video": {}}]}}, "stopReason": "end_turn"}
    assert ConverseSide().read_reply(msgspec.json.encode(document)).choices[0].parts == []


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"{", b'{"delta":{"text":5}}', b'{"delta":[]}', b"", b'{"delta":{"toolUse":{"input":"x"}}}'],
)
def test_an_unreadable_event_is_an_error_and_not_text(payload: bytes) -> None:
    with pytest.raises(UNREADABLE):
        events_of(START + frame("contentBlockDelta", payload))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"stopReason":5}', b'{"stopReason":"x","output":[]}'])
def test_an_unreadable_reply_is_an_error(body: bytes) -> None:
    with pytest.raises(UNREADABLE):
        ConverseSide().read_reply(body)


def test_redacted_thinking_of_other_models_stays_opaque() -> None:
    pieces = [base64.b64encode(b"\xff\xfe").decode(), base64.b64encode(b"\x00").decode()]
    data = START + b"".join(delta({"reasoningContent": {"redactedContent": one}}) for one in pieces)
    (part,) = hub.gather(events_of(data + end() + stop("end_turn") + METADATA)).choices[0].parts
    assert part == hub.Reasoning(
        kind="encrypted", data=base64.b64encode(b"\xff\xfe\0").decode(), format="bedrock"
    )


def test_documents_get_their_own_names_back_in_citations() -> None:
    citation = {
        "title": "document-1",
        "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
    }
    data = START + delta({"citation": citation}) + delta({"text": "So"}) + end() + stop("end_turn") + METADATA
    context = Context(titles={"document-1": "report.pdf"})
    (part,) = hub.gather(events_of(data, context)).choices[0].parts
    assert isinstance(part, hub.Text)
    assert [(one.title, one.start, one.end, one.kind) for one in part.annotations] == [
        ("report.pdf", 0, 2, "document")
    ]


def test_a_web_citation_is_a_link() -> None:
    cited = {
        "content": [{"text": "So"}],
        "citations": [{"title": "T", "location": {"web": {"url": "https://a.b"}}}],
    }
    document = {"output": {"message": {"content": [{"citationsContent": cited}]}}, "stopReason": "end_turn"}
    (part,) = ConverseSide().read_reply(msgspec.json.encode(document)).choices[0].parts
    assert isinstance(part, hub.Text)
    assert [(one.kind, one.url, one.title) for one in part.annotations] == [("url", "https://a.b", "T")]


# -- the tool that stands for a JSON schema -------------------------------------------

JSON = Context(json_tool="json")


def test_the_call_of_the_json_tool_is_the_answer() -> None:
    data = START + delta({"text": "Here you are"}) + end() + call("json", 1)
    data += delta({"toolUse": {"input": '{"a"'}}, 1) + delta({"toolUse": {"input": ":1}"}}, 1) + end(1)
    (choice,) = hub.gather(events_of(data + stop("tool_use") + METADATA, JSON)).choices
    assert ([type(part) for part in choice.parts], choice.finish) == ([hub.Text], "stop")
    assert choice.parts[0] == hub.Text(text='{"a":1}')
    content = [{"text": "Here"}, {"toolUse": {"toolUseId": "t", "name": "json", "input": {"a": 1}}}]
    document = {"output": {"message": {"content": content}}, "stopReason": "tool_use"}
    (choice,) = ConverseSide(JSON).read_reply(msgspec.json.encode(document)).choices
    assert (choice.parts, choice.finish) == ([hub.Text(text='{"a":1}')], "stop")


def test_text_is_kept_where_the_json_tool_was_not_called() -> None:
    data = START + delta({"text": "I will not"}) + end() + stop("end_turn") + METADATA
    assert hub.gather(events_of(data, JSON)).choices[0].parts == [hub.Text(text="I will not")]


def test_a_clients_own_call_stays_one_beside_the_json_tool() -> None:
    data = START + call("look_up") + delta({"toolUse": {"input": "{}"}}) + end() + stop("tool_use") + METADATA
    (choice,) = hub.gather(events_of(data, JSON)).choices
    assert (choice.finish, [type(part) for part in choice.parts]) == ("tool_calls", [hub.ToolCall])


def test_an_unpacked_stream_is_read_as_well() -> None:
    events: list[dict[str, Any]] = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": USAGE}},
    ]
    data = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    reader = ConverseSide(sse=True).open_reader()
    found = [*reader.feed(data), *reader.close()]
    assert hub.gather(found).choices[0].parts == [hub.Text(text="Hi")]
    assert isinstance(found[-1], hub.Ended)
    reader = ConverseSide(sse=True).open_reader()
    (failed,) = reader.feed(b'data: {"throttlingException":{"message":"Slow down."}}\n\n')
    assert isinstance(failed, hub.Failed)
    assert failed.status == 429
