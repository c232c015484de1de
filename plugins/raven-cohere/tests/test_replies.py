"""Replies of Cohere's chat, whole and streamed: what the recordings say, read by code of the tests' own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_cohere.dialect import ChatVendor
from raven_cohere.older import OlderChat

from raven_proxy import hub, translation
from raven_proxy.errors import UpstreamError, UpstreamRefused
from raven_proxy.metering import UNREADABLE
from raven_proxy.testing import run_stage

Cuts = Callable[[bytes], Iterator[list[bytes]]]
FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


def chats(recordings: list[Any], *, streaming: bool, older: bool = False) -> list[Any]:
    return [
        r
        for r in recordings
        if r.surface == "cohere.chat"
        and r.response["status"] < 400
        and r.streaming is streaming
        and r.is_older is older
    ]


def read(pieces: list[bytes]) -> list[hub.Event]:
    reader = ChatVendor().open_reader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.close()]


def frames(body: bytes) -> list[dict[str, Any]]:
    lines = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and b"[DONE]" not in line]
    return [msgspec.json.decode(line) for line in lines]


def stream(*events: dict[str, Any], done: bool = True) -> bytes:
    body = b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event.get("type")).encode(), msgspec.json.encode(event))
        for event in events
    )
    return body + (b"data: [DONE]\n\n" if done else b"")


def message(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": fields}}


START = {"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant", "content": []}}}
END = {
    "type": "message-end",
    "delta": {"finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 3, "output_tokens": 2}}},
}


def check_usage(usage: Any, spent: dict[str, Any]) -> None:
    tokens = spent["tokens"]
    assert usage.prompt_tokens == tokens["input_tokens"]
    assert usage.completion_tokens == tokens["output_tokens"]
    assert usage.total_tokens == tokens["input_tokens"] + tokens["output_tokens"]
    assert usage.cached_tokens == spent.get("cached_tokens", 0)
    assert usage.reasoning_tokens == tokens.get("reasoning_tokens", 0)


def test_there_is_something_to_replay(recordings: list[Any]) -> None:
    assert len(chats(recordings, streaming=False)) >= 3
    assert len(chats(recordings, streaming=True)) >= 3


def test_whole_replies_say_what_was_recorded(recordings: list[Any]) -> None:
    for recording in chats(recordings, streaming=False):
        document = msgspec.json.decode(recording.body())
        blocks = document["message"]["content"]
        reply = ChatVendor().read_reply(recording.body())
        (choice,) = reply.choices
        texts = [part for part in choice.parts if isinstance(part, hub.Text)]
        thoughts = [part.text for part in choice.parts if isinstance(part, hub.Reasoning)]
        assert [t.text for t in texts] == [b["text"] for b in blocks if b["type"] == "text"], recording.id
        assert thoughts == [b["thinking"] for b in blocks if b["type"] == "thinking"], recording.id
        assert (reply.id, choice.native_finish) == (document["id"], document["finish_reason"])
        assert choice.finish == FINISH[document["finish_reason"]], recording.id
        check_usage(reply.usage, document["usage"])
        cited = [a.native for text in texts for a in text.annotations]
        assert [one["text"] for one in cited if one] == [
            c["text"] for c in document["message"].get("citations") or ()
        ]
        for text in texts:
            for one in text.annotations:
                assert one.native is not None
                assert text.text[one.start : one.end] == one.native["text"], recording.id


def test_streams_say_what_was_recorded(recordings: list[Any]) -> None:
    for recording in chats(recordings, streaming=True):
        events = frames(recording.body())
        deltas = [e["delta"]["message"] for e in events if e["type"] in ("content-start", "content-delta")]
        end = events[-1]["delta"]
        found = read([recording.body()])
        reply = hub.gather(found)
        (choice,) = reply.choices
        text = "".join(d["content"].get("text") or "" for d in deltas)
        thought = "".join(d["content"].get("thinking") or "" for d in deltas)
        assert "".join(p.text for p in choice.parts if isinstance(p, hub.Text)) == text, recording.id
        assert "".join(p.text for p in choice.parts if isinstance(p, hub.Reasoning)) == thought, recording.id
        calls = [p for p in choice.parts if isinstance(p, hub.ToolCall)]
        begun = [e["delta"]["message"]["tool_calls"] for e in events if e["type"] == "tool-call-start"]
        assert [(c.id, c.name) for c in calls] == [(b["id"], b["function"]["name"]) for b in begun]
        for call in calls:
            assert isinstance(msgspec.json.decode(call.arguments), dict)
        cited = sum(e["type"] == "citation-start" for e in events)
        assert sum(isinstance(e, hub.AnnotationAdded) for e in found) == cited
        assert choice.finish == FINISH[end["finish_reason"]]
        check_usage(reply.usage, end["usage"])
        assert isinstance(found[0], hub.Started)
        assert isinstance(found[-1], hub.Ended)


def test_no_cut_of_a_recorded_stream_makes_a_difference(recordings: list[Any], cuts: Cuts) -> None:
    for recording in chats(recordings, streaming=True):
        body = recording.body()
        expected = read([body])
        assert read([body.replace(b"\n", b"\r\n")]) == expected
        for pieces in cuts(body):
            assert read(pieces) == expected, recording.id


def test_a_translation_passes_every_cut(
    recordings: list[Any], make_exchange: Callable[..., Any], head: Callable[..., Any]
) -> None:
    shortest = min((r.body() for r in chats(recordings, streaming=True)), key=len)
    exchange = make_exchange(hub.ChatRequest(model="m", messages=[]), stream=True)

    def open_stage() -> Any:
        return translation.open_translation(exchange, ChatVendor(), streamed=True)

    out = run_stage(open_stage, shortest)
    assert out.count(b'["Finished"') == out.count(b'["Ended"') == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=8))
def test_any_cut_gives_the_same_events(points: list[int]) -> None:
    body = stream(
        START,
        message("content-start", content={"type": "thinking", "thinking": ""}),
        message("content-delta", content={"thinking": "Hm…"}),
        message("content-start", 1, content={"type": "text", "text": ""}),
        message("content-delta", 1, content={"text": "Ja — 日本"}),
        END,
    )
    edges = sorted({0, len(body), *(p for p in points if p < len(body))})
    assert read([body[a:b] for a, b in pairwise(edges)]) == read([body])


def test_a_plan_is_thinking_and_calls_are_counted_from_nought() -> None:
    reply = hub.gather(
        read(
            [
                stream(
                    START,
                    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will "}}},
                    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "ask."}}},
                    message("tool-call-start", 3, tool_calls={"id": "a", "function": {"name": "f"}}),
                    message("tool-call-delta", 3, tool_calls={"function": {"arguments": '{"x":'}}),
                    message("tool-call-delta", 3, tool_calls={"function": {"arguments": "1}"}}),
                    {"type": "tool-call-end", "index": 3},
                    message("tool-call-start", 4, tool_calls={"id": "b", "function": {"name": "g"}}),
                    {"type": "tool-call-end", "index": 4},
                    END,
                )
            ]
        )
    )  # fmt: skip
    thought, first, second = reply.choices[0].parts
    assert thought == hub.Reasoning(text="I will ask.")
    assert first == hub.ToolCall(id="a", name="f", arguments='{"x":1}')
    assert second == hub.ToolCall(id="b", name="g", arguments="{}")
    assert reply.choices[0].finish == "tool_calls"  # whatever Cohere's own word was


def test_a_whole_reply_with_a_plan_and_calls() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]
    body = {
        "id": "m", "finish_reason": "TOOL_CALL", "message": {"tool_plan": "I ask.", "tool_calls": calls},
        "usage": {"billed_units": {"input_tokens": 4.0, "output_tokens": 1.0}},
    }  # fmt: skip
    reply = ChatVendor().read_reply(msgspec.json.encode(body))
    parts = [hub.Reasoning(text="I ask."), hub.ToolCall(id="a", name="f", arguments="{}")]
    assert reply.choices[0].parts == parts
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (4, 1)


def test_citations_of_thinking_wait_for_the_text_and_have_no_place_in_it() -> None:
    citation = {"start": 0, "end": 2, "text": "Hm", "type": "THINKING_CONTENT", "sources": [
        {"type": "document", "id": "d", "document": {"title": "T", "url": "https://a.test", "snippet": "s"}}
    ]}  # fmt: skip
    found = read(
        [
            stream(
                START,
                message("citation-start", citations=citation),
                message("content-start", content={"type": "text", "text": ""}),
                message("content-delta", content={"text": "Yes"}),
                END,
            )
        ]
    )
    (added,) = [event for event in found if isinstance(event, hub.AnnotationAdded)]
    one = added.annotation
    assert (one.kind, one.url, one.title, one.cited_text) == ("document", "https://a.test", "T", "s")
    assert (one.start, one.end) == (None, None)


def test_log_probabilities_have_openais_shape() -> None:
    item = {"text": "Hi there", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}
    expected = {"token": "Hi there", "logprob": -0.75, "bytes": list(b"Hi there"), "top_logprobs": []}
    event = message("content-delta", content={"text": "Hi there"}) | {"logprobs": item}
    streamed = hub.gather(read([stream(START, event, END)]))
    body = {"id": "m", "finish_reason": "COMPLETE", "message": {"content": []}, "logprobs": [item]}
    whole = ChatVendor().read_reply(msgspec.json.encode(body))
    for reply in (streamed, whole):
        assert reply.choices[0].logprobs is not None
        assert reply.choices[0].logprobs["content"] == [expected]


def test_an_error_in_the_stream_ends_it(make_exchange: Callable[..., Any]) -> None:
    failed = {
        "type": "message-end",
        "delta": {"finish_reason": "ERROR", "error": "It broke: sk-abcdef123456"},
    }
    found = read([stream(START, message("content-delta", content={"text": "a"}), failed)])
    assert isinstance(found[-1], hub.Failed)
    exchange = make_exchange(hub.ChatRequest(model="m", messages=[]), stream=True)
    stage = translation.open_translation(exchange, ChatVendor(), streamed=True)
    with pytest.raises(UpstreamRefused) as caught:
        stage.feed(stream(failed))
    assert "sk-abcdef" not in caught.value.message


def test_an_error_without_a_word_is_a_finish() -> None:
    found = read([stream(START, {"type": "message-end", "delta": {"finish_reason": "ERROR"}})])
    assert hub.Finished(finish="error", native="ERROR") in found


def test_a_stream_that_breaks_off_has_no_end() -> None:
    assert not any(isinstance(event, hub.Ended) for event in read([stream(START, done=True)]))


def test_an_error_under_a_200_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="too long"):
        ChatVendor().read_reply(b'{"id":"x","message":"the prompt is too long"}')


def test_what_nobody_knows_is_let_by() -> None:
    found = read([stream(START, {"type": "debug", "prompt": "x"}, {"type": "new-event"}, END)])
    assert [type(event).__name__ for event in found] == ["Started", "Finished", "UsageReported", "Ended"]


def test_the_older_chat_is_metered(recordings: list[Any], cuts: Cuts) -> None:
    for recording in chats(recordings, streaming=True, older=True):
        lines = [msgspec.json.decode(line) for line in recording.body().splitlines()]
        for pieces in cuts(recording.body()):
            reader = OlderChat().open_reader()
            found = [event for piece in pieces for event in reader.feed(piece)] + [*reader.close()]
            reply = hub.gather(found)
            assert reply.choices[0].finish == FINISH[lines[-1]["finish_reason"]]
            (part,) = reply.choices[0].parts
            assert isinstance(part, hub.Text)
            assert part.text == lines[-1]["response"]["text"]
            if len(pieces) > 100:  # enough of byte by byte
                break
    body = {"text": "Hi", "generation_id": "g", "finish_reason": "MAX_TOKENS",
            "meta": {"tokens": {"input_tokens": 3, "output_tokens": 1}}}  # fmt: skip
    whole = OlderChat().read_reply(msgspec.json.encode(body))
    assert (whole.choices[0].finish, whole.usage.total_tokens if whole.usage else 0) == ("length", 4)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_comes_is_events_or_an_error_that_the_core_knows(data: st.DataObject) -> None:
    body = bytearray(
        stream(
            START,
            message("content-start", content={"type": "text", "text": ""}),
            message("content-delta", content={"text": "Ja — 日本"}),
            message("tool-call-start", 3, tool_calls={"id": "a", "function": {"name": "f"}}),
            END,
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for judge in (lambda: read([bytes(body)]), lambda: ChatVendor().read_reply(bytes(body))):
        with contextlib.suppress(*UNREADABLE, UpstreamError):
            judge()
