"""Promises about Responses streams that are written from hub events, and about their whole twins."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from raven_openai.responses import FACES, RESPONSES
from raven_openai.responses.reader import open_reader, read_reply

from raven_proxy import hub
from raven_proxy.errors import RateLimited, UpstreamTruncated
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.testing import run_stage
from raven_proxy.translation import open_translation

CREATE = FACES[0]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ASKED = {
    "model": "m",
    "input": "Hi",
    "stream": True,
    "temperature": 0.5,
    "tools": [
        {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        },
        {
            "type": "namespace",
            "name": "fs",
            "description": "files",
            "tools": [{"type": "function", "name": "ls"}],
        },
    ],
}


def make_plain(asked: dict[str, Any] = ASKED) -> Exchange:
    request: Any = SimpleNamespace(method="POST", raw_path="/v1/responses")
    pipeline: Any = None
    exchange = Exchange(request, pipeline, "req_0123456789abcdef01234567")
    exchange.face = CREATE
    exchange.body = msgspec.json.encode(asked)
    exchange.call = CREATE.read_call(exchange.body)
    RESPONSES.client_side.read_request(exchange)
    return exchange


def write(events: list[hub.Event], asked: dict[str, Any] = ASKED) -> bytes:
    writer = RESPONSES.client_side.open_writer(make_plain(asked))
    return b"".join([writer.write(event) for event in events])


def check_types(stream: bytes) -> list[Any]:
    """Let the official client's own types judge each event, strictly."""
    blocks = [block for block in stream.split(b"\n\n") if block and not block.startswith(b":")]
    return [EVENT.validate_json(block.partition(b"data: ")[2]) for block in blocks]


USAGE = Usage(prompt_tokens=9, completion_tokens=7, total_tokens=16, cached_tokens=3, reasoning_tokens=2)
SIGNED = hub.Reasoning(text="Let me see", signature="sig==", format="anthropic")
FULL = hub.ChatReply(
    id="msg_1",
    model="claude",
    created=1_700_000_000,
    usage=USAGE,
    choices=[
        hub.Choice(
            finish="tool_calls",
            parts=[
                SIGNED,
                hub.Reasoning(kind="encrypted", data="opaque", format="anthropic"),
                hub.Text(
                    text="Two files:",
                    annotations=[
                        hub.Annotation(url="https://a.example", title="A", cited_text="two", start=0, end=3)
                    ],
                ),
                hub.Text(text=" wait"),
                hub.Refusal(text="No."),
                hub.Image(media=hub.Media(data="iVBORw0KGgo=", media_type="image/png")),
                hub.ToolCall(id="toolu_1", name="f", arguments='{"a":1}'),
                hub.ToolCall(id="", name="fs__ls", arguments="{}"),
                hub.ToolCall(id="c3", name="patch", arguments="*** Begin", custom=True),
            ],
        )
    ],
)


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name not in ("created_at", "completed_at")}


def test_a_stream_has_openais_grammar_and_passes_its_types(check_response_stream: Any) -> None:
    """Every kind of part keeps the event grammar and validates strictly."""
    stream = write(list(hub.events_of(FULL)))
    final = check_response_stream(stream)
    assert len(check_types(stream)) > 30
    kinds = [item["type"] for item in final["output"]]
    assert kinds == [
        "reasoning",
        "reasoning",
        "message",
        "image_generation_call",
        "function_call",
        "function_call",
        "custom_tool_call",
    ]
    assert final["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    }
    assert (final["id"], final["store"], final["temperature"]) == (
        "resp_0123456789abcdef01234567",
        False,
        0.5,
    )


def test_a_whole_reply_and_a_stream_say_the_same(check_response_stream: Any) -> None:
    """`write_reply` gives the object with which a stream of the same reply ends, and it validates."""
    whole = RESPONSES.client_side.write_reply(FULL, make_plain())
    Response.model_validate_json(whole, strict=True)
    final = check_response_stream(write(list(hub.events_of(FULL))))
    assert without_times(msgspec.json.decode(whole)) == without_times(final)


def test_calls_have_two_ids_and_their_namespace() -> None:
    """`call_id` is the vendor's, `id` is the item's own; a flattened name comes back in two parts."""
    whole = msgspec.json.decode(RESPONSES.client_side.write_reply(FULL, make_plain()))
    first, second, third = whole["output"][4:]
    assert (first["call_id"], first["id"][:3], first["name"]) == ("toolu_1", "fc_", "f")
    assert (second["namespace"], second["name"]) == ("fs", "ls")
    assert second["call_id"].startswith("call_")
    assert (third["type"], third["input"], third["id"][:4]) == ("custom_tool_call", "*** Begin", "ctc_")


def test_citations_keep_the_words_they_quote() -> None:
    """An annotation has OpenAI's form, and the cited text beside it."""
    whole = msgspec.json.decode(RESPONSES.client_side.write_reply(FULL, make_plain()))
    assert whole["output"][2]["content"][0]["annotations"] == [
        {
            "type": "url_citation",
            "url": "https://a.example",
            "title": "A",
            "start_index": 0,
            "end_index": 3,
            "cited_text": "two",
        }
    ]


def test_a_foreign_signature_comes_back_through_the_client() -> None:
    """What a reasoning item carries is given back to the family that signed it, text and all."""
    whole = msgspec.json.decode(RESPONSES.client_side.write_reply(FULL, make_plain()))
    again = make_plain({"model": "m", "input": [*whole["output"][:2], {"role": "user", "content": "Go on"}]})
    request = RESPONSES.client_side.read_request(again)
    assert request.messages[0].parts == FULL.choices[0].parts[:2]


def test_openais_reasoning_keeps_its_name_its_seal_and_its_parts(check_response_stream: Any) -> None:
    """Several summaries of one item stay one item."""
    parts: list[hub.Part] = [
        hub.Reasoning(kind="summary", text="one", format="openai", id="rs_1"),
        hub.Reasoning(kind="summary", text="two", format="openai", id="rs_1", data="gAAA"),
        hub.Reasoning(kind="summary", text="three", format="openai", id="rs_2", data="gBBB"),
        hub.Text(text="done"),
    ]
    reply = hub.ChatReply(choices=[hub.Choice(parts=parts)])
    whole = msgspec.json.decode(RESPONSES.client_side.write_reply(reply, make_plain()))
    first, second, _ = whole["output"]
    assert (first["id"], first["encrypted_content"]) == ("rs_1", "gAAA")
    assert [part["text"] for part in first["summary"]] == ["one", "two"]
    assert (second["id"], second["encrypted_content"]) == ("rs_2", "gBBB")
    assert check_response_stream(write(list(hub.events_of(reply))))["output"] == whole["output"]


@pytest.mark.parametrize(
    ("finish", "status", "details", "item"),
    [
        ("stop", "completed", None, "completed"),
        ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
        ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
        ("error", "failed", None, "completed"),
    ],
)
def test_a_finish_reason_is_a_status(
    check_response_stream: Any, finish: Any, status: str, details: Any, item: str
) -> None:
    """The response, the terminal event and the item that was cut short agree."""
    reply = hub.ChatReply(choices=[hub.Choice(parts=[hub.Text(text="x")], finish=finish)], usage=USAGE)
    stream = write(list(hub.events_of(reply)))
    check_types(stream)
    final = check_response_stream(stream)
    assert (final["status"], final["incomplete_details"]) == (status, details)
    assert final["output"][0]["status"] == item
    whole = msgspec.json.decode(RESPONSES.client_side.write_reply(reply, make_plain()))
    assert without_times(whole) == without_times(final)
    assert (whole["error"] is not None) == (finish == "error")


def test_mixed_arguments_of_parallel_calls_stay_apart(check_response_stream: Any) -> None:
    """Deltas for call 0, 1 and 0 again end in two whole calls."""
    events: list[hub.Event] = [
        hub.Started(),
        hub.ToolCallStarted(0, "a", "f"),
        hub.ToolCallDelta(0, '{"x"'),
        hub.ToolCallStarted(1, "b", "f"),
        hub.ToolCallDelta(1, "{}"),
        hub.ToolCallDelta(0, ":1}"),
        hub.Finished(finish="tool_calls"),
        hub.Ended(),
    ]
    final = check_response_stream(write(events))
    assert [item["arguments"] for item in final["output"]] == ['{"x":1}', "{}"]


def test_log_probabilities_stand_in_the_text(check_response_stream: Any) -> None:
    """A chat's log probabilities become the text's, with the bytes that the types demand."""
    logprobs = {"content": [{"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    events: list[hub.Event] = [
        hub.Started(),
        hub.TextDelta("é"),
        hub.LogprobsAdded(logprobs),
        hub.Finished(finish="stop"),
        hub.Ended(),
    ]
    stream = write(events)
    check_types(stream)
    (part,) = check_response_stream(stream)["output"][0]["content"]
    assert part["logprobs"] == [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}]


def test_an_empty_reply_is_a_response_too(check_response_stream: Any) -> None:
    """A stream that only ends is whole; a ping is a comment."""
    stream = write([hub.Pinged(), hub.Ended()])
    assert check_response_stream(stream)["output"] == []
    assert b": keep-alive\n\n" in stream


def test_settings_that_are_null_have_their_defaults() -> None:
    """What a client leaves out or sets to null is echoed as OpenAI echoes it."""
    asked = dict.fromkeys(("tools", "tool_choice", "text", "reasoning", "metadata", "truncation"))
    whole = RESPONSES.client_side.write_reply(FULL, make_plain({"model": "m", "input": "Hi", **asked}))
    found = Response.model_validate_json(whole, strict=True)
    assert (found.tools, found.tool_choice, found.truncation) == ([], "auto", "disabled")
    assert found.text is not None
    assert found.text.format is not None
    assert found.text.format.type == "text"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamTruncated("It broke."), "server_error"),
        (RateLimited("Slow.", retry_after_s=1), "rate_limit_exceeded"),
    ],
)
def test_an_error_in_a_stream_is_two_events(error: Any, code: str) -> None:
    """`error` carries the envelope that clients raise on, `response.failed` the same response's id."""
    render = RESPONSES.render_stream_error
    assert render is not None
    frames = render(error, "req_0123456789abcdef01234567")
    first, second = check_types(frames)
    assert (first.type, first.message) == ("error", error.message)
    assert msgspec.json.decode(frames.partition(b"data: ")[2].partition(b"\n\n")[0])["error"]["message"]
    assert (second.type, second.response.id) == ("response.failed", "resp_0123456789abcdef01234567")
    assert second.response.error.code == code
    assert first.sequence_number < second.sequence_number


# -- any events, any cuts ------------------------------------------------------------

_TEXT = st.text(max_size=5)
_ONE: st.SearchStrategy[hub.Event] = st.one_of(
    st.builds(hub.TextDelta, _TEXT, st.just(0), st.integers(0, 2)),
    st.builds(hub.RefusalDelta, _TEXT),
    st.builds(
        lambda text, part, data, name: hub.ReasoningDelta(
            text, 0, part, "summary", data=data, format="openai" if name else None, id=name
        ),
        _TEXT,
        st.integers(0, 2),
        st.none() | st.just("d"),
        st.none() | st.sampled_from(["rs_1", 'rs_"2']),
    ),
    st.builds(hub.ToolCallStarted, st.integers(0, 3), _TEXT, _TEXT, st.just(0), st.booleans()),
    st.builds(hub.ToolCallDelta, st.integers(0, 3), _TEXT),
    st.builds(hub.AnnotationAdded, st.builds(hub.Annotation, url=_TEXT), st.just(0), st.integers(0, 2)),
    st.builds(hub.AudioDelta, transcript=_TEXT),
    st.just(hub.PartMade(hub.Image(media=hub.Media(data="AAAA", media_type="image/webp")))),
    st.just(hub.PartMade(hub.ServerTool(native={}, dialect="other"))),
    st.just(hub.Pinged()),
)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(_ONE, max_size=12), finish=st.sampled_from(["stop", "length", "error"]))
def test_whatever_comes_the_grammar_holds(check_response_stream: Any, events: Any, finish: Any) -> None:
    """No order of events breaks the stream's grammar or OpenAI's types."""
    seen: set[int] = set()
    told = []
    for event in events:
        if isinstance(event, hub.ToolCallStarted):
            if event.index in seen:
                continue
            seen.add(event.index)
        told.append(event)
    stream = write([hub.Started(), *told, hub.Finished(finish=finish), hub.UsageReported(USAGE), hub.Ended()])
    check_response_stream(stream)
    check_types(stream)


def test_recorded_replies_survive_the_way_through_the_hub(
    response_recordings: Any, check_response_stream: Any
) -> None:
    """A vendor's stream, read and written again, is a whole valid stream with the same content."""
    checked = 0
    for recording in response_recordings:
        if recording.response["status"] >= 400:
            continue
        body, exchange = recording.body(), make_plain({"model": "m", "input": "Hi", "stream": True})
        made = _translate(exchange, body, streamed=recording.streaming)
        final = check_response_stream(made)
        check_types(made)
        first = hub.gather([*open_reader().feed(made)])
        theirs = _read(recording, body)
        assert first.usage == theirs.usage
        assert _content(first) == _content(theirs), recording.id
        assert final["status"] == ("incomplete" if theirs.choices[0].finish == "length" else "completed")
        checked += 1
    assert checked > 60


def _translate(exchange: Exchange, body: bytes, *, streamed: bool) -> bytes:
    stage = open_translation(exchange, RESPONSES.provider_side, streamed=streamed)
    return stage.feed(body) + stage.close()


def _read(recording: Any, body: bytes) -> hub.ChatReply:
    if not recording.streaming:
        return read_reply(body)
    reader = open_reader()
    return hub.gather([*reader.feed(body), *reader.close()])


def _content(reply: hub.ChatReply) -> list[Any]:
    choice = reply.choices[0]
    texts = "".join([part.text for part in choice.parts if isinstance(part, hub.Text | hub.Refusal)])
    thoughts = "".join([part.text for part in choice.parts if isinstance(part, hub.Reasoning)])
    calls = [(one.id, one.name, one.arguments) for one in choice.parts if isinstance(one, hub.ToolCall)]
    images = sum(isinstance(part, hub.Image) for part in choice.parts)
    return [choice.finish, texts, thoughts, calls, images]


def test_no_cut_makes_a_difference(response_recordings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A translation gives the same bytes wherever the network cut the vendor's."""
    monkeypatch.setattr("raven_openai.responses.objects.time.time", lambda: 1_700_000_000.0)
    short = [r for r in response_recordings if r.streaming and len(r.body()) < 7500][:4]
    assert short

    def make(recording: Any) -> Callable[[], Any]:
        exchange = make_plain({"model": "m", "input": "Hi", "stream": True})
        return lambda: open_translation(exchange, RESPONSES.provider_side, streamed=True)

    for recording in short:
        assert run_stage(make(recording), recording.body())
