"""What is read of a recorded answer is what an independent reading of it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_gemini.native import GENERATE, find_native_face
from raven_gemini.replies import GenerateSide

from raven_proxy import hub, translation
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.testing import run_stage

Make = Callable[..., Exchange]
Json = dict[str, Any]
FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", 1: "stop"}


def documents(body: bytes) -> list[Json]:
    text = body.decode()
    if text.startswith("data:"):
        frames = text.replace("\r\n", "\n").split("\n\n")
        return [msgspec.json.decode(frame[5:]) for frame in frames if frame.strip()]
    found = msgspec.json.decode(body)
    return found if isinstance(found, list) else [found]


def parts_of(document: Json) -> list[Json]:
    return [
        part
        for candidate in document.get("candidates", ())
        for part in (candidate.get("content") or {}).get("parts", ())
    ]


def expect(body: bytes) -> Json:
    """Read an answer with one candidate, sharing no code with the package."""
    found = documents(body)
    parts = [part for document in found for part in parts_of(document)]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    words = [c.get("finishReason") for d in found for c in d.get("candidates", ())]
    finish = FINISH[[word for word in words if word][-1]]
    usage = [d["usageMetadata"] for d in found if d.get("usageMetadata", {}).get("promptTokenCount")][-1]
    prompt = usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0)
    thoughts = usage.get("thoughtsTokenCount", 0)
    completion = usage.get("candidatesTokenCount", 0) + thoughts
    supports = [
        s
        for d in found
        for c in d.get("candidates", ())
        for s in c.get("groundingMetadata", {}).get("groundingSupports", ())
    ]
    return {
        "text": "".join(p.get("text", "") for p in parts if not p.get("thought")),
        "thoughts": "".join(p.get("text", "") for p in parts if p.get("thought")),
        "calls": [(c["name"], c.get("args", {}), c.get("id")) for c in calls],
        "signatures": sorted(p["thoughtSignature"] for p in parts if "thoughtSignature" in p),
        "server": sum(
            1
            for p in parts
            if p.keys() & {"executableCode", "codeExecutionResult", "toolCall", "toolResponse"}
        ),
        "finish": "tool_calls" if calls and finish == "stop" else finish,
        "citations": sum(len(s["groundingChunkIndices"]) for s in supports),
        "usage": (prompt, completion, thoughts, usage.get("cachedContentTokenCount", 0)),
    }


def read(reply: hub.ChatReply) -> Json:
    (choice,) = reply.choices
    calls = [p for p in choice.parts if isinstance(p, hub.ToolCall)]
    thoughts = [p for p in choice.parts if isinstance(p, hub.Reasoning)]
    server = [p for p in choice.parts if isinstance(p, hub.ServerTool)]
    texts = [p for p in choice.parts if isinstance(p, hub.Text)]
    signed = [p.signature for p in (*calls, *thoughts)] + [p.native.get("thoughtSignature") for p in server]
    made = reply.usage
    assert made is not None
    assert made.total_tokens == made.prompt_tokens + made.completion_tokens
    assert not made.estimated
    return {
        "text": "".join(p.text for p in texts),
        "thoughts": "".join(p.text for p in thoughts),
        "calls": [
            (c.name, msgspec.json.decode(c.arguments), None if c.id.startswith("call_") else c.id)
            for c in calls
        ],
        "signatures": sorted(s for s in signed if s),
        "server": len(server),
        "finish": choice.finish,
        "citations": sum(len(p.annotations) for p in texts),
        "usage": (made.prompt_tokens, made.completion_tokens, made.reasoning_tokens, made.cached_tokens),
    }


def read_stream(pieces: list[bytes]) -> list[hub.Event]:
    reader = GenerateSide().open_reader()
    return [event for piece in pieces for event in reader.feed(piece)] + [*reader.close()]


def test_every_recorded_answer_is_read_as_it_stands(generated: list[Any]) -> None:
    """Text, thoughts, calls, signatures, finish, citations and usage, of 60 recordings and more."""
    for recording in generated:
        if recording.streaming:
            events = read_stream([recording.body])
            assert isinstance(events[0], hub.Started), recording.id
            assert isinstance(events[-1], hub.Ended), recording.id
            reply = hub.gather(events)
        else:
            reply = GenerateSide().read_reply(recording.body)
        assert read(reply) == expect(recording.body), recording.id
        assert reply.id, recording.id


def test_a_whole_answer_and_a_stream_of_one_event_mean_the_same(generated: list[Any]) -> None:
    """One machine reads both."""
    for recording in [r for r in generated if not r.streaming]:
        frame = b"data: " + msgspec.json.format(recording.body, indent=-1) + b"\r\n\r\n"
        streamed = hub.gather(read_stream([frame]))
        assert read(streamed) == expect(recording.body), recording.id


def test_cited_stretches_are_in_the_text(generated: list[Any]) -> None:
    """Google's offsets count bytes; ours count characters of the text they are in."""
    checked = 0
    for recording in generated:
        if not recording.streaming:
            continue
        (choice,) = hub.gather(read_stream([recording.body])).choices
        for part in choice.parts:
            for one in part.annotations if isinstance(part, hub.Text) else ():
                if one.start is not None and one.kind == "url":
                    assert part.text[one.start : one.end] == one.cited_text, recording.id
                    checked += 1
    assert checked > 10


def test_cuts_make_no_difference(generated: list[Any], cuts: Any) -> None:
    """The events of a stream do not depend on how its bytes were cut."""

    def normal(events: list[hub.Event]) -> list[Any]:
        for event in events:
            if isinstance(event, hub.ToolCallStarted) and event.id.startswith("call_"):
                event.id = "made"
        return events

    for recording in [r for r in generated if r.streaming and len(r.body) < 20_000]:
        whole = normal(read_stream([recording.body]))
        for pieces in cuts(recording.body):
            assert normal(read_stream(pieces)) == whole, recording.id


def test_translated_streams_do_not_depend_on_cuts(generated: list[Any], make_exchange: Make) -> None:
    """The same holds for the stage that the core runs, with a client's writer behind it."""
    head = ReplyHead(200, {"content-type": "text/event-stream"})
    found = [r for r in generated if r.streaming and len(r.body) < 3000]
    assert len(found) > 10
    for recording in found:
        exchange = make_exchange({"messages": [], "stream": True})
        exchange.head = head
        out = run_stage(
            lambda exchange=exchange: translation.open_translation(exchange, GenerateSide(), streamed=True),
            recording.body,
        )
        assert out.strip().splitlines()[-1].startswith(b"Ended"), recording.id


@pytest.mark.parametrize("streamed", [True, False])
def test_raw_answers_are_metered_as_they_stand(
    generated: list[Any], make_exchange: Make, provider: Any, streamed: bool
) -> None:
    """Usage, finish reason and completeness of answers that pass untouched, in every framing."""
    verb = "streamGenerateContent" if streamed else "generateContent"
    face = find_native_face("POST", f"models/gemini-2.5-flash:{verb}")
    assert face is not None
    assert face.dialect is GENERATE
    for recording in [r for r in generated if r.streaming is streamed]:
        exchange = make_exchange(b"{}", face=face)
        tap = provider.open_usage_tap(exchange, ReplyHead(200, recording.response["headers"]))
        for place in range(0, len(recording.body), 1000):
            tap.feed(recording.body[place : place + 1000])
        tally = tap.close()
        wanted = expect(recording.body)
        assert tally.complete, recording.id
        assert tally.finish_reason == wanted["finish"], recording.id
        assert (tally.usage.prompt_tokens, tally.usage.completion_tokens) == wanted["usage"][:2], recording.id
        assert provider.open_translator(exchange, ReplyHead(200, {})) is None


def test_a_broken_off_stream_is_not_complete(
    generated: list[Any], make_exchange: Make, provider: Any
) -> None:
    """Without its last event a stream has not ended, translated or raw."""
    face = find_native_face("POST", "models/m:streamGenerateContent")
    assert face is not None
    for recording in [r for r in generated if r.streaming and r.body.count(b"finishReason") == 1]:
        cut = recording.body[: recording.body.index(b"finishReason")]
        tap = provider.open_usage_tap(make_exchange(b"{}", face=face), ReplyHead(200, {}))
        tap.feed(cut)
        try:
            tally = tap.close()
        except (msgspec.MsgspecError, ValueError):  # half an event: the core drops the tap
            continue
        assert not tally.complete, recording.id


def test_recorded_embeddings_are_read(recordings: list[Any]) -> None:
    """One vector for each text, with an estimate where Google reports nothing."""
    from raven_gemini.embeddings import EmbeddingsSide

    (recording,) = [r for r in recordings if r.surface == "gemini.embeddings"]
    reply = EmbeddingsSide(b'{"input":"Some text goes here"}').read_reply(recording.body)
    document = msgspec.json.decode(recording.body)
    assert reply.vectors == [one["values"] for one in document["embeddings"]]
    assert reply.usage is not None
    reported = document.get("usageMetadata", {}).get("promptTokenCount")
    assert reply.usage.prompt_tokens == (reported or 7)
    assert reply.usage.estimated is (reported is None)


def test_the_recorded_list_of_models_is_read(recordings: list[Any]) -> None:
    """AI Studio's models, with their limits."""
    from raven_gemini.listing import read_listing

    found = [r for r in recordings if r.provider == "gemini" and r.surface == "models" and r.status < 400]
    for recording in found:
        document = msgspec.json.decode(recording.body)
        if "models" not in document:
            continue
        models, page = read_listing(recording.body)
        assert len(models) == len(document["models"])
        assert page == document.get("nextPageToken")
        assert all("/" not in model.id for model in models)
