"""Promises about how replies of vendors that serve the Responses API are read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_openai.responses.reader import open_reader, read_reply

from raven_proxy import hub
from raven_proxy.errors import UpstreamRefused
from raven_proxy.metering import UNREADABLE

REBUILT = "response_only_frames_rebuilt"  # made of excerpts: their events and their end may differ


def test_recordings_are_read_the_same_whole_and_streamed(response_recordings: Any) -> None:
    """What a stream's events add up to is what its last event says in full; every stream is complete."""
    checked = 0
    for recording in response_recordings:
        if not recording.streaming or recording.fidelity == REBUILT:
            continue
        body = recording.body()
        reader = open_reader()
        events = [*reader.feed(body), *reader.close()]
        assert isinstance(events[-1], hub.Ended), recording.id
        streamed = hub.gather(events)
        whole = read_reply(_final(body))
        assert streamed.usage == whole.usage
        assert streamed.id in (whole.id, ""), "a stream that is resumed does not begin again"
        assert streamed.choices[0].finish == whole.choices[0].finish
        for kind in (hub.Text, hub.ToolCall, hub.Refusal, hub.Image):
            assert _parts(streamed, kind) == _parts(whole, kind), recording.id
        assert [p.text for p in _parts(streamed, hub.Reasoning)] == [
            p.text for p in _parts(whole, hub.Reasoning)
        ]
        checked += 1
    assert checked >= 25


def _final(body: bytes) -> bytes:
    for line in reversed(body.splitlines()):
        if b'"type":"response.completed"' in line.replace(b" ", b"") or b"response.incomplete" in line:
            found = line.partition(b":")[2]
            if found.strip().startswith(b"{"):
                return msgspec.json.encode(msgspec.json.decode(found)["response"])
    raise AssertionError("no terminal event")


def _parts(reply: hub.ChatReply, kind: type) -> list[Any]:
    return [part for part in reply.choices[0].parts if isinstance(part, kind)]


def test_the_reader_does_not_see_the_cuts(response_recordings: Any, cuts: Any) -> None:
    """Any cut of the bytes gives the same events."""
    short = min((r for r in response_recordings if r.streaming), key=lambda r: len(r.body())).body()

    def run(pieces: list[bytes]) -> list[hub.Event]:
        reader = open_reader()
        return [event for piece in pieces for event in reader.feed(piece)] + [*reader.close()]

    expected = run([short])
    for pieces in cuts(short):
        assert run(pieces) == expected


def frames(*events: dict[str, Any]) -> list[hub.Event]:
    reader = open_reader()
    data = b"".join([b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events])
    return [*reader.feed(data), *reader.close()]


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}
USAGE = {
    "input_tokens": 5,
    "output_tokens": 7,
    "total_tokens": 12,
    "input_tokens_details": {"cached_tokens": 9},
}


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Clients parse what they get."""
    events = frames(
        {"type": "response.output_item.added", "output_index": 0, "item": CALL},
        {"type": "response.output_item.done", "output_index": 0, "item": CALL},
    )
    assert events == [hub.ToolCallStarted(0, "c1", "f"), hub.ToolCallDelta(0, "{}")]


def test_items_that_come_late_or_whole_are_read_once() -> None:
    """A vendor may leave out deltas, or all events but the last."""
    message = {
        "type": "message",
        "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}],
    }
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [{"text": "a"}], "encrypted_content": "gAAA"}
    whole = {
        "id": "r",
        "status": "completed",
        "output": [sealed, message, {**CALL, "arguments": '{"a":1}'}],
        "usage": USAGE,
    }
    alone = hub.gather(frames({"type": "response.completed", "response": whole}))
    each = frames(
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hi"},
        {"type": "response.output_item.done", "output_index": 0, "item": sealed},
        {"type": "response.output_item.done", "output_index": 1, "item": message},
        {"type": "response.output_item.done", "output_index": 2, "item": whole["output"][2]},  # type: ignore[index]
        {"type": "response.completed", "response": whole},
    )
    late = hub.gather(each)
    assert sorted(map(repr, late.choices[0].parts)) == sorted(map(repr, alone.choices[0].parts))
    assert alone.choices[0].parts == [
        hub.Reasoning(text="a", kind="summary", data="gAAA", format="openai", id="rs_1"),
        hub.Text(text="Hi"),
        hub.Refusal(text="No"),
        hub.ToolCall(id="c1", name="f", arguments='{"a":1}'),
    ]
    assert alone.usage is not None
    assert (alone.usage.prompt_tokens, alone.usage.cached_tokens) == (5, 5), (
        "a part is no more than the whole"
    )


@pytest.mark.parametrize(
    ("event", "message", "code", "status"),
    [
        (
            {"type": "error", "message": "Slow", "code": "rate_limit_exceeded"},
            "Slow",
            "rate_limit_exceeded",
            429,
        ),
        (
            {"type": "error", "error": {"message": "Poor", "code": "insufficient_quota"}},
            "Poor",
            "insufficient_quota",
            429,
        ),
        ({"error": {"message": "Odd"}}, "Odd", None, None),
        (
            {
                "type": "response.failed",
                "response": {"status": "failed", "error": {"code": "server_error", "message": "Broken"}},
            },
            "Broken",
            "server_error",
            None,
        ),
    ],
)
def test_errors_in_a_stream_are_failures(event: Any, message: str, code: Any, status: Any) -> None:
    """OpenAI's documented form, its real one, and others' are understood."""
    failed = next(one for one in frames(event) if isinstance(one, hub.Failed))
    assert (failed.message, failed.code, failed.status) == (message, code, status)


def test_a_failed_reply_under_a_200_is_an_error() -> None:
    """A whole response that failed is refused with its own words, and no secret in them."""
    body = msgspec.json.encode(
        {
            "id": "r",
            "status": "failed",
            "error": {"code": "server_error", "message": "sk-proj-abcdefgh1234 broke"},
        }
    )
    with pytest.raises(UpstreamRefused, match="broke") as caught:
        read_reply(body)
    assert "sk-proj" not in caught.value.message
    assert caught.value.status == 502


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"id":3}', b"<html>"])
def test_what_is_no_response_is_unreadable(body: bytes) -> None:
    """The core makes an error of what a reader raises for it."""
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        read_reply(body)


def test_a_stream_that_breaks_off_has_no_end() -> None:
    """Only a terminal event ends a stream; [DONE] and pings say nothing."""
    reader = open_reader()
    data = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":2}\n\ndata: [DONE]\n\n'
    assert [*reader.feed(data), *reader.close()] == [hub.Pinged()]


@settings(max_examples=200, deadline=None)
@given(
    event=st.dictionaries(
        st.sampled_from(
            ["type", "delta", "item", "response", "output_index", "error", "annotation", "logprobs"]
        ),
        st.sampled_from(
            [
                "response.output_text.delta",
                "response.output_item.done",
                "response.completed",
                "error",
                "x",
                1,
                None,
                {"type": "message", "content": [{"type": "output_text", "text": "t", "annotations": [{}]}]},
                {"type": "reasoning", "summary": [{"text": "s"}]},
                {"output": [{"type": "x"}]},
                [],
            ]
        ),
        max_size=6,
    )
)
def test_no_event_breaks_the_reader(event: Any) -> None:
    """Whatever a vendor sends, it is read, left out, or unreadable in one of the ways the core knows."""
    with suppress(*UNREADABLE):
        frames(event)
