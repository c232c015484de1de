"""Each deviation that vendors of this family show is read as what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.chat.vendor import ChatSide
from raven_openai.presets import PRESETS, Preset

from raven_proxy import hub
from raven_proxy.errors import UpstreamError
from raven_proxy.exchange import Usage

DONE = b"data: [DONE]\n\n"


@pytest.fixture
def read() -> Callable[..., list[Any]]:
    """Read a stream of these chunks; each is a dict, a delta of choice 0 as `d(…)`, or bytes."""

    def run(*chunks: Any, preset: str = "openai_compatible", end: bytes = DONE) -> list[Any]:
        frames = [c if isinstance(c, bytes) else b"data: " + msgspec.json.encode(c) + b"\n\n" for c in chunks]
        reader = ChatSide(PRESETS[preset]).open_reader()
        return [*reader.feed(b"".join(frames) + end), *reader.close()]

    return run


def d(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(arguments: Any, **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    return {**fields, "function": {"name": name, "arguments": arguments}}


def calls_of(events: list[Any]) -> list[tuple[str, str, str]]:
    reply = hub.gather(events)
    return [(p.id, p.name, p.arguments) for p in reply.choices[0].parts if isinstance(p, hub.ToolCall)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([[call("{}", name="f", id="a", index=0), call('{"b":1}', name="g", id="b", index=1)]],
         [("a", "f", "{}"), ("b", "g", '{"b":1}')]),
        ([[call("", name="f", id="a", index=0)], [call('{"a"', index=0)], [call(":1}", index=0)]],
         [("a", "f", '{"a":1}')]),
        ([[call('{"a":1}', name="f", id="a")], [call("{}", name="g", id="b")]],
         [("a", "f", '{"a":1}'), ("b", "g", "{}")]),  # Mistral: no index
        ([[call("{}", name="f", id="a", index=0)], [call("{}", name="g", id="b", index=0)]],
         [("a", "f", "{}"), ("b", "g", "{}")]),  # one index for all
        ([[call('{"a"', name="f", id="a", index=0)], [call(":1}", name="f", id="a", index=0)]],
         [("a", "f", '{"a":1}')]),  # id and name in each piece
        ([[call({"a": 1}, name="f", id="a", index=0)]], [("a", "f", '{"a":1}')]),  # an object
        ([[call(None, name="f", id="a", index=0)]], [("a", "f", "{}")]),  # no arguments at all
        ([[call("{}", name="f", index=0)]], [("call_x_0_0", "f", "{}")]),  # no id
        ([[call('{"a"', id="a", index=0)], [call(":1}", name="f", index=0)]], [("a", "f", '{"a":1}')]),
        ([[call("", name="f", id="a", index=0), call("", name="g", id="b", index=1)],
          [call("1", index=1)], [call("2", index=0)], [call("3", index=1)]],
         [("a", "f", "2"), ("b", "g", "13")]),  # interleaved
    ],
)  # fmt: skip
def test_calls_come_whole_or_in_pieces(read: Any, pieces: Any, expected: Any) -> None:
    """With or without index, id or arguments, each call is read once and its arguments are JSON."""
    events = read(*[d(tool_calls=piece) for piece in pieces], d("stop"))
    assert calls_of(events) == expected
    assert [e.finish for e in events if isinstance(e, hub.Finished)] == ["tool_calls"]


def test_the_older_function_call_is_a_tool_call(read: Any) -> None:
    events = read(
        d(function_call={"name": "f", "arguments": ""}),
        d(function_call={"arguments": "{}"}),
        d("function_call"),
    )
    assert calls_of(events) == [("call_x_0_0", "f", "{}")]
    assert hub.gather(events).choices[0].finish == "tool_calls"


def test_a_fresh_thought_after_words_is_another_block(read: Any) -> None:
    events = read(d(reasoning="a"), d(reasoning="b"), d(content="x"), d(reasoning_content="c"), d("stop"))
    parts = [e.part for e in events if isinstance(e, hub.ReasoningDelta)]
    assert parts == [0, 0, 1]


def test_openrouters_details_carry_signatures(read: Any) -> None:
    """Text, summary and sealed thinking keep their blocks, and a call gets the signature that is its."""
    details = [
        {"type": "reasoning.text", "text": "a", "index": 0, "format": "anthropic-claude-v1"},
        {"type": "reasoning.text", "signature": "S", "index": 0, "format": "anthropic-claude-v1"},
    ]
    pieces = [d(reasoning="a", reasoning_details=details[:1]), d(reasoning_details=details[1:])]
    events = read(*pieces, d(content="x"), d("stop"))
    assert hub.gather(events).choices[0].parts[0] == hub.Reasoning(
        text="a", signature="S", format="anthropic"
    )
    sealed = {"type": "reasoning.encrypted", "id": "c", "data": "G", "format": "google-gemini-v1", "index": 0}
    events = read(
        d(tool_calls=[call("{}", name="f", id="c", index=0)], reasoning_details=[sealed]), d("stop")
    )
    (started,) = [e for e in events if isinstance(e, hub.ToolCallStarted)]
    assert (started.signature, started.format) == ("G", "google")


def test_mistrals_lists_hold_thinking_and_text(read: Any) -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "x"},
    ]
    events = read(d(content=content), d("stop"))
    assert [e for e in events if isinstance(e, hub.ReasoningDelta | hub.TextDelta)] == [
        hub.ReasoningDelta("hm"),
        hub.TextDelta("x"),
    ]


def test_azures_first_chunk_says_nothing(read: Any) -> None:
    """No choices, no id, no model: the reply begins with the next one."""
    filters: dict[str, Any] = {"choices": [], "id": "", "model": "", "prompt_filter_results": []}
    events = read(filters, {**d(content="x"), "model": "gpt-4o"}, d("stop"))
    assert [(e.id, e.model) for e in events if isinstance(e, hub.Started)] == [("x", "gpt-4o")]


def test_perplexity_repeats_itself_and_has_no_done(read: Any) -> None:
    """The message beside the delta is not read again, the pages are told once, the finish is the end."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    search = [{"url": "https://a.example", "title": "A"}]
    more: dict[str, Any] = {"usage": usage, "citations": ["https://a.example"], "search_results": search}
    first, last = d(content="x") | more, d("stop", content="") | more
    last["choices"][0]["message"] = {"content": "x"}
    events = read(first, last, preset="perplexity", end=b"")
    reply = hub.gather(events)
    (part,) = reply.choices[0].parts
    assert isinstance(part, hub.Text)
    assert (part.text, [a.url for a in part.annotations]) == ("x", ["https://a.example"])
    assert reply.usage is not None
    assert reply.usage.total_tokens == 3
    assert isinstance(events[-1], hub.Ended)


@pytest.mark.parametrize(
    ("preset", "chunks", "end", "is_ended"),
    [
        ("openai", [d(content="x"), d("stop")], b"", False),
        ("huggingface", [d(content="x"), d("stop")], b"", True),
        ("huggingface", [d(content="x")], b"", False),
        ("openai", [d(content="x"), d("stop")], b"data: [DONE]", True),
        ("openai", [d(content="x")], DONE, True),
        ("openai", [], b"", False),
    ],
)
def test_only_the_vendors_own_end_is_an_end(
    read: Any, preset: str, chunks: Any, end: bytes, *, is_ended: bool
) -> None:
    events = read(*chunks, preset=preset, end=end)
    assert any(isinstance(e, hub.Ended) for e in events) is is_ended


@pytest.mark.parametrize(
    ("frame", "message", "status"),
    [
        ({"error": {"message": "busy", "code": 502}, "choices": []}, "busy", 502),
        ({"error": "busy"}, "busy", None),
        ({"object": "error", "message": "busy"}, "busy", None),
        ({"choices": [{"index": 0, "delta": {}, "error": {"message": "busy", "code": 429}}]}, "busy", 429),
        (b'event: error\ndata: {"error":{"message":"busy","status_code":400}}\n\n', "busy", 400),
        (b'event: error\ndata: {"message":"busy"}\n\n', "busy", None),
    ],
)
def test_an_error_ends_the_stream(read: Any, frame: Any, message: str, status: int | None) -> None:
    """Wherever it stands, it is told once, and nothing after it."""
    events = read(d(content="x"), frame, d("stop"))
    assert isinstance(events[-1], hub.Failed)
    assert (events[-1].message, events[-1].status) == (message, status)


@pytest.mark.parametrize(
    ("preset", "usage", "place", "expected"),
    [
        ("xai", {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 8}, "usage", (1, 7)),
        ("groq", {"prompt_tokens": 1, "completion_tokens": 2}, "x_groq", (1, 2)),
        ("moonshot", {"prompt_tokens": 1, "completion_tokens": 2}, "choice", (1, 2)),
        ("voyage", {"total_tokens": 4, "prompt_tokens": 4}, "usage", (4, 0)),
    ],
)
def test_usage_wherever_it_stands(read: Any, preset: str, usage: Any, place: str, expected: Any) -> None:
    last = d("stop")
    if place == "usage":
        last["usage"] = usage
    elif place == "x_groq":
        last["x_groq"] = {"usage": usage}
    else:
        last["choices"][0]["usage"] = usage
    (report,) = [
        e.usage for e in read(d(content="x"), last, preset=preset) if isinstance(e, hub.UsageReported)
    ]
    assert isinstance(report, Usage)
    assert (report.prompt_tokens, report.completion_tokens) == expected


def test_a_whole_reply_in_one_event(read: Any) -> None:
    events = read({"id": "x", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})
    assert hub.gather(events).choices[0].parts == [hub.Text(text="x")]


def test_pictures_sound_and_logprobs(read: Any) -> None:
    """What comes beside text is kept."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    chance = {"token": "x", "logprob": -1, "top_logprobs": []}
    said = d(content="x")
    said["choices"][0]["logprobs"] = {"content": [chance]}
    sounds = [d(audio={"id": "a", "transcript": "he"}), d(audio={"data": "AAA=", "expires_at": 5})]
    (choice,) = hub.gather(read(said, d(images=[image]), *sounds, d("stop"))).choices
    assert choice.logprobs == {"content": [chance]}
    sound = choice.parts[2]
    assert isinstance(sound, hub.Audio)
    assert (sound.id, sound.transcript, sound.media.data, sound.expires_at) == ("a", "he", "AAA=", 5)
    assert isinstance(choice.parts[1], hub.Image)


def test_an_error_under_a_200_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="no credits"):
        ChatSide(Preset()).read_reply(b'{"error":{"message":"no credits","code":402}}')


@pytest.mark.parametrize("body", [b"[]", b'{"choices":[]}', b"<html>", b'{"choices":"x"}', b""])
def test_what_is_no_chat_completion_cannot_be_read(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        ChatSide(Preset()).read_reply(body)
