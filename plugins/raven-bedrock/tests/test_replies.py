"""Replies are read as an independent reading has them: recorded ones, and what was not recorded."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_bedrock.replies import Context
from raven_bedrock.streams import ConverseSide

from raven_proxy import hub
from raven_proxy.testing import run_stage

from .conftest import Recording

FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length",
          "guardrail_intervened": "content_filter"}  # fmt: skip


def blocks_of(recording: Recording) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Read a recording by other means than the package's: content blocks, stop reason, usage."""
    if not recording.streaming:
        document = msgspec.json.decode(recording.body())
        return document["output"]["message"]["content"], document["stopReason"], document["usage"]
    buffer = EventStreamBuffer()
    buffer.add_data(recording.body())
    blocks: dict[int, dict[str, Any]] = {}
    stop, usage = "", {}
    for message in buffer:
        event = msgspec.json.decode(message.payload)
        block = blocks.setdefault(event.get("contentBlockIndex", -1), {})
        match message.headers.get(":event-type"):
            case "contentBlockStart":
                block.update({name: {**value, "input": ""} for name, value in event["start"].items()})
            case "contentBlockDelta":
                grow(block, event["delta"])
            case "messageStop":
                stop = event["stopReason"]
            case "metadata":
                usage = event["usage"]
    blocks.pop(-1, None)
    return [blocks[index] for index in sorted(blocks)], stop, usage


def grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "reasoningContent" in delta:
        known = block.setdefault("reasoningContent", {})
        for name, value in delta["reasoningContent"].items():
            known[name] = known.get(name, "") + value
    elif "citation" in delta:
        block.setdefault("citations", []).append(delta["citation"])


def independent(recording: Recording) -> dict[str, Any]:
    blocks, stop, usage = blocks_of(recording)
    calls = [block["toolUse"] for block in blocks if "toolUse" in block]
    calls = [call for call in calls if call.get("type") != "server_tool_use"]
    thoughts = [block["reasoningContent"] for block in blocks if "reasoningContent" in block]
    cited = [block["citationsContent"] for block in blocks if "citationsContent" in block]
    texts = [block["text"] for block in blocks if "text" in block]
    texts += [part["text"] for one in cited for part in one["content"]]
    citations = [c for one in cited for c in one["citations"]]
    citations += [c for block in blocks for c in block.get("citations", ())]
    read, written = usage.get("cacheReadInputTokens") or 0, usage.get("cacheWriteInputTokens") or 0
    shown = [thought.get("reasoningText", thought) for thought in thoughts]
    return {
        "text": "".join(texts),
        "calls": [
            (
                call["toolUseId"],
                call["name"],
                call["input"]
                if isinstance(call["input"], dict)
                else msgspec.json.decode(call["input"] or "{}"),
            )
            for call in calls
        ],
        "thinking": "".join(one.get("text", "") for one in shown),
        "signatures": [one["signature"] for one in shown if "signature" in one],
        "redacted": [
            base64.b64decode(one["redactedContent"]).decode() for one in thoughts if "redactedContent" in one
        ],
        "citations": citations,
        "finish": FINISH[stop],
        "native": stop,
        "usage": (usage["inputTokens"] + read + written, usage["outputTokens"], read, written),
    }


def meaning(reply: hub.ChatReply) -> dict[str, Any]:
    (choice,) = reply.choices
    thoughts = [part for part in choice.parts if isinstance(part, hub.Reasoning)]
    texts = [part for part in choice.parts if isinstance(part, hub.Text)]
    assert reply.usage is not None
    return {
        "text": "".join(part.text for part in texts),
        "calls": [
            (part.id, part.name, msgspec.json.decode(part.arguments))
            for part in choice.parts
            if isinstance(part, hub.ToolCall)
        ],
        "thinking": "".join(part.text for part in thoughts),
        "signatures": [part.signature for part in thoughts if part.signature],
        "redacted": [part.data for part in thoughts if part.data],
        "citations": [one.native for part in texts for one in part.annotations],
        "finish": choice.finish,
        "native": choice.native_finish,
        "usage": (
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
            reply.usage.cached_tokens,
            reply.usage.cache_write_tokens,
        ),
    }


def side_of(recording: Recording) -> ConverseSide:
    is_claude = "claude" in (recording.model or "")
    return ConverseSide(Context(reasoning_format="anthropic" if is_claude else "bedrock"))


class Telling:
    """A stage that writes each event as a line."""

    def __init__(self, side: ConverseSide) -> None:
        self._reader = side.open_reader()

    def feed(self, data: bytes) -> bytes:
        return tell(self._reader.feed(data))

    def close(self) -> bytes:
        return tell(self._reader.close())


def tell(events: Iterable[hub.Event]) -> bytes:
    lines = []
    for event in events:
        if isinstance(event, hub.Started):
            event.created = 0
        lines.append(f"{event!r}\n".encode())
    return b"".join(lines)


def events_of(data: bytes, context: Context | None = None) -> list[hub.Event]:
    reader = ConverseSide(context).open_reader()
    return [*reader.feed(data), *reader.close()]


def test_every_recorded_reply_means_what_an_independent_reading_says(recordings: list[Recording]) -> None:
    found = [one for one in recordings if one.surface == "bedrock.converse" and one.response["status"] == 200]
    checked = 0
    for recording in found:
        side = side_of(recording)
        if recording.streaming:
            reader = side.open_reader()
            events = [*reader.feed(recording.body()), *reader.close()]
            if isinstance(events[-1], hub.Failed):
                continue
            assert isinstance(events[-1], hub.Ended)
            reply = hub.gather(events)
        else:
            reply = side.read_reply(recording.body())
        assert meaning(reply) == independent(recording), recording.id
        checked += 1
    assert checked >= 25


def test_recorded_streams_are_read_alike_at_every_cut(recordings: list[Recording]) -> None:
    streams = [one for one in recordings if one.surface == "bedrock.converse" and one.streaming]
    for recording in sorted(streams, key=lambda one: len(one.body()))[:8]:
        told = run_stage(lambda recording=recording: Telling(side_of(recording)), recording.body())
        assert told.rstrip().endswith((b"Ended()", b"status=400)"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_pieces_give_the_same_events(recordings: list[Recording], data: st.DataObject) -> None:
    streams = [one for one in recordings if one.surface == "bedrock.converse" and one.streaming]
    recording = data.draw(st.sampled_from(streams))
    body = recording.body()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    stage = Telling(side_of(recording))
    got = b"".join([stage.feed(body[a:b]) for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)])
    whole = Telling(side_of(recording))
    assert got + stage.close() == whole.feed(body) + whole.close()


def test_a_recorded_exception_in_a_stream_fails_with_its_status(recordings: list[Recording]) -> None:
    (recording,) = [one for one in recordings if "vision-stream-amazon-nova-lite" in one.id]
    (failed,) = events_of(recording.body())
    assert isinstance(failed, hub.Failed)
    assert (failed.type, failed.status) == ("validationException", 400)
    assert failed.message.startswith("The model returned the following errors")
