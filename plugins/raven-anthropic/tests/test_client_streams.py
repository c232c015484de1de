"""What Anthropic's clients get of other vendors' streams: one block at a time, in the client's grammar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_anthropic import MESSAGES

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

from .official import read_events, see_message, see_stream

Make = Callable[..., Exchange]
QUESTION = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
USAGE = Usage(prompt_tokens=12, completion_tokens=5, total_tokens=17, cached_tokens=3, cache_write_tokens=2)
END: list[Any] = [hub.UsageReported(USAGE), hub.Ended()]


@pytest.fixture(scope="session")
def tell(make_exchange: Make) -> Callable[..., bytes]:
    def tell(*events: Any) -> bytes:
        writer = MESSAGES.client_side.open_writer(make_exchange(QUESTION))
        return b"".join([writer.write(event) for event in events])

    return tell


def called(index: int, *arguments: str) -> list[Any]:
    deltas = [hub.ToolCallDelta(index, text) for text in arguments]
    return [hub.ToolCallStarted(index, f"call_{index}", f"tool{index}"), *deltas]


def finished(finish: Any = "stop", **fields: Any) -> hub.Finished:
    return hub.Finished(finish=finish, **fields)


def test_text_with_its_frame_around_it(tell: Any) -> None:
    out = tell(hub.Started(id="x", model="gpt"), hub.TextDelta("Hel"), hub.TextDelta("lo"), finished(), *END)
    assert [name for name, _ in read_events(out)] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    seen = see_stream(out)
    assert (seen.id, seen.model, seen.content[0].text, seen.stop_reason) == ("x", "gpt", "Hello", "end_turn")
    usage = seen.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (7, 3, 2)
    assert usage.output_tokens == 5


def test_thinking_comes_before_text_with_one_signature(tell: Any) -> None:
    seen = see_stream(
        tell(
            hub.Started(),
            hub.ReasoningDelta("hm"),
            hub.ReasoningDelta("m", signature="si", format="google"),
            hub.ReasoningDelta(signature="g"),
            hub.TextDelta("Hello"),
            finished(),
            *END,
        )
    )
    thinking, text = seen.content
    assert (thinking.thinking, thinking.signature, text.text) == (
        "hmm",
        "raven:google:signature::sig",
        "Hello",
    )
    assert seen.id == "msg_test"
    assert seen.model == "m"


def test_opaque_thinking_is_one_redacted_block(tell: Any) -> None:
    encrypted: Any = {"kind": "encrypted", "format": "openai", "id": "rs_1"}
    parts = [hub.ReasoningDelta(data="ab", **encrypted), hub.ReasoningDelta(data="c", **encrypted)]
    (block, text) = see_stream(tell(hub.Started(), *parts, hub.TextDelta("x"), finished(), *END)).content
    assert (block.type, block.data, text.text) == ("redacted_thinking", "raven:openai:data:rs_1:abc", "x")


def test_calls_that_are_filled_in_turns_wait_for_each_other(tell: Any) -> None:
    """0, 1, 0: the second is held back until the first is whole, and then goes on live."""
    events = [
        hub.Started(), *called(0, '{"a":'), *called(1, '{"b":'), hub.ToolCallDelta(0, "1}"),
        hub.ToolCallDelta(1, "2}"), finished("tool_calls"), *END,
    ]  # fmt: skip
    seen = see_stream(tell(*events))
    assert [(one.name, one.input) for one in seen.content] == [("tool0", {"a": 1}), ("tool1", {"b": 2})]
    assert seen.stop_reason == "tool_use"
    assert b"tool1" not in tell(*events[:5])
    assert b"tool1" in tell(*events[:6])


def test_calls_in_order_are_told_as_they_come(tell: Any) -> None:
    assert b"tool1" in tell(hub.Started(), *called(0, "{}"), *called(1))


def test_what_never_becomes_whole_still_goes_out_at_the_end(tell: Any) -> None:
    """Three calls and a text, the first of them cut by the limit."""
    out = tell(
        hub.Started(), *called(0, '{"a":'), *called(1, "{}"), *called(2), hub.TextDelta("so"),
        hub.ToolCallDelta(2, "{}"), finished("length"), *END,
    )  # fmt: skip
    names = [
        d["content_block"].get("name", "text") for n, d in read_events(out) if n == "content_block_start"
    ]
    assert names == ["tool0", "tool1", "tool2", "text"]
    assert read_events(out)[-2][1]["delta"]["stop_reason"] == "max_tokens"


def test_a_signed_call_brings_its_signature(tell: Any) -> None:
    start = hub.ToolCallStarted(0, "call:0", "tool0", signature="gsig", format="google")
    seen = see_stream(tell(hub.Started(), start, hub.ToolCallDelta(0, "{}"), finished("tool_calls"), *END))
    assert seen.content[0].data == "raven:google:call:gsig:call:0"
    assert seen.content[1].id == "call:0"


def test_citations_refusals_and_sound_are_text(tell: Any) -> None:
    note = hub.AnnotationAdded(hub.Annotation(url="https://a.example", title="T", cited_text="c"))
    seen = see_stream(
        tell(
            hub.Started(),
            hub.TextDelta("See"),
            note,
            hub.RefusalDelta("No"),
            hub.AudioDelta(transcript="La"),
            finished("content_filter"),
            *END,
        )
    )
    assert [one.text for one in seen.content] == ["See", "No", "La"]
    assert seen.content[0].citations[0].url == "https://a.example"
    assert seen.stop_reason == "refusal"


def test_only_our_own_server_tools_can_be_told(tell: Any) -> None:
    native = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    parts = [hub.PartMade(hub.ServerTool(native=native, dialect=name)) for name in (MESSAGES.name, "openai")]
    (block,) = see_stream(tell(hub.Started(), *parts, finished(), *END)).content
    assert (block.type, block.input) == ("server_tool_use", {"query": "x"})


def test_pings_are_pings_but_never_the_first_event(tell: Any) -> None:
    out = tell(hub.Pinged(), hub.Started(), hub.Pinged(), finished(), *END)
    assert out.startswith(b": ping\n\nevent: message_start")
    assert [name for name, _ in read_events(out)][1] == "ping"
    assert see_stream(out).content == []


def test_the_second_answer_is_not_mixed_into_the_first(tell: Any) -> None:
    out = tell(
        hub.Started(),
        hub.TextDelta("a"),
        hub.TextDelta("b", 1),
        finished(),
        finished("length", choice=1),
        *END,
    )
    seen = see_stream(out)
    assert (seen.content[0].text, seen.stop_reason) == ("a", "end_turn")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"finish": "stop", "native": "pause_turn"}, "pause_turn"),
        ({"finish": "stop", "native": "stop"}, "end_turn"),
        ({"finish": "stop", "stop_sequence": "END"}, "stop_sequence"),
        ({"finish": "length", "native": "model_context_window_exceeded"}, "model_context_window_exceeded"),
        ({"finish": "tool_calls", "native": "end_turn"}, "tool_use"),
        ({"finish": "error"}, "end_turn"),
    ],
)
def test_stop_reasons(fields: Any, expected: str, tell: Any) -> None:
    assert see_stream(tell(hub.Started(), hub.Finished(**fields), *END)).stop_reason == expected


PARTS: Any = st.one_of(
    st.builds(lambda text: [hub.TextDelta(text)], st.text(max_size=4)),
    st.builds(
        lambda text, part: [hub.ReasoningDelta(text, part=part)], st.text(max_size=4), st.integers(0, 2)
    ),
    st.just([hub.Pinged()]),
)


@settings(max_examples=200, deadline=None)
@given(
    calls=st.integers(0, 4),
    order=st.lists(st.integers(0, 4), max_size=40),
    parts=st.lists(PARTS, max_size=20),
)
def test_any_order_of_events_gives_one_block_at_a_time(
    calls: int, order: list[int], parts: list[Any], tell: Any
) -> None:
    """Calls may be filled in any order among texts and thoughts; nothing is lost."""
    rest = {index: ['{"n":', str(index), "}"] for index in range(calls)}
    started: list[int] = []
    events: list[Any] = [hub.Started()]
    # As drawn, and then whatever is still to come.
    for index in [*order, *[index for index in range(calls) for _ in range(4)]]:
        if index >= len(started) and len(started) < calls:
            started.append(len(started))
            events.append(hub.ToolCallStarted(started[-1], f"c{started[-1]}", "t"))
        elif index < len(started) and rest[index]:
            events.append(hub.ToolCallDelta(index, rest[index].pop(0)))
        elif parts:
            events += parts.pop(0)
    events += [hub.ToolCallDelta(index, piece) for index in range(calls) for piece in rest[index]]
    seen = see_stream(tell(*events, finished("tool_calls"), *END))
    said = "".join(one.text for one in events if isinstance(one, hub.TextDelta))
    assert "".join(one.text for one in seen.content if one.type == "text") == said
    assert [one.input for one in seen.content if one.type == "tool_use"] == [{"n": n} for n in range(calls)]


def test_whole_and_streamed_say_the_same(make_exchange: Make, tell: Any) -> None:
    reply = hub.ChatReply(
        id="x",
        model="gpt",
        choices=[
            hub.Choice(
                parts=[
                    hub.Reasoning(text="hm", signature="s", format="anthropic"),
                    hub.Reasoning(kind="encrypted", data="d", format="openai", id="rs"),
                    hub.Text(
                        text="See", annotations=[hub.Annotation(kind="document", title="T", cited_text="c")]
                    ),
                    hub.Refusal(text="No"),
                    hub.Image(media=hub.Media(data="AAAA", media_type="image/png")),  # no block shows it
                    hub.ToolCall(id="c", name="t", arguments='{"a":1}', signature="g", format="google"),
                    hub.ToolCall(id="d", name="t", arguments=""),
                    hub.ServerTool(native={"type": "x"}, dialect="openai"),
                ],
                finish="tool_calls",
            )
        ],
        usage=USAGE,
    )
    whole = see_message(MESSAGES.client_side.write_reply(reply, make_exchange(QUESTION)))
    streamed = see_stream(tell(*hub.events_of(reply)))
    assert [one.model_dump() for one in whole.content] == [
        one.model_dump(exclude={"parsed_output"}) for one in streamed.content
    ]
    assert (whole.stop_reason, whole.usage.output_tokens) == ("tool_use", streamed.usage.output_tokens)


def test_counts_that_overlap_are_cut_to_their_total(tell: Any) -> None:
    """OpenRouter counts what was read from a cache as written, too."""
    usage = Usage(
        prompt_tokens=10, completion_tokens=1, total_tokens=11, cached_tokens=8, cache_write_tokens=9
    )
    seen = see_stream(tell(hub.Started(), finished(), hub.UsageReported(usage), hub.Ended())).usage
    assert (seen.input_tokens, seen.cache_read_input_tokens, seen.cache_creation_input_tokens) == (0, 8, 2)
