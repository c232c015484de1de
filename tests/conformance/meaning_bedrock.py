"""What recorded replies of Bedrock mean, and their event streams, framed as AWS frames them.

botocore reads the frames; `frame` writes them, for recordings that an SDK had unpacked.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from zlib import crc32

import msgspec
from botocore.eventstream import EventStreamBuffer

from .meaning import Answer, Call, Json, Meaning, Tokens, read_arguments, read_events
from .meaning_anthropic import read_anthropic, read_anthropic_events

__all__ = ["frame_converse", "frame_invoke", "read_converse", "read_invoke"]

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}


def read_converse(body: bytes, *, streaming: bool) -> Meaning:
    """Read a Converse reply."""
    if streaming:
        return _read_events(_frames(body))
    document = msgspec.json.decode(body)
    answer = Answer(finish=_FINISH[document["stopReason"]])
    for block in document["output"]["message"]["content"]:
        _add(answer, block)
    return Meaning(answers=[answer], usage=_usage(document["usage"]))


def read_invoke(body: bytes, *, streaming: bool) -> Meaning:
    """Read a reply of a Claude model that was invoked with Anthropic's own body."""
    if not streaming:
        return read_anthropic(body, streaming=False)
    chunks = [base64.b64decode(payload["bytes"]) for _, payload in _frames(body)]
    return read_anthropic_events(msgspec.json.decode(chunk) for chunk in chunks)


def frame_converse(body: bytes) -> list[bytes]:
    """Make the frames of a Converse stream that an SDK unpacked: one event a frame."""
    events = [event for _, event in read_events(body)]
    return [_frame(name, payload) for event in events for name, payload in event.items()]


def frame_invoke(body: bytes) -> list[bytes]:
    """Make the frames of an invoked Claude's stream that an SDK unpacked."""
    events = [msgspec.json.encode(event) for _, event in read_events(body)]
    return [_frame("chunk", {"bytes": base64.b64encode(event).decode()}) for event in events]


def _frame(name: str, payload: Json) -> bytes:
    pairs = ((":event-type", name), (":content-type", "application/json"), (":message-type", "event"))
    headers = b"".join(
        struct.pack(">B", len(key)) + key.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for key, value in pairs
    )
    data = msgspec.json.encode(payload)
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + data
    return message + struct.pack(">I", crc32(message))


def _frames(body: bytes) -> Iterator[tuple[str, Json]]:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    for message in buffer:
        headers = message.headers
        name = headers.get(":event-type") or headers.get(":exception-type")
        yield name, msgspec.json.decode(message.payload)


def _read_events(events: Iterator[tuple[str, Json]]) -> Meaning:
    answer = Answer()
    meaning = Meaning(answers=[answer])
    blocks: dict[int, Json] = {}
    for name, event in events:
        match name:
            case "contentBlockStart":
                blocks[event["contentBlockIndex"]] = {**event["start"], "json": ""}
            case "contentBlockDelta":
                _extend(blocks.setdefault(event["contentBlockIndex"], {"json": ""}), event["delta"])
            case "messageStop":
                answer.finish = _FINISH[event["stopReason"]]
            case "metadata":
                meaning.usage = _usage(event["usage"])
            case str() if name.endswith("Exception"):
                meaning.error = event["message"]
    for _, block in sorted(blocks.items()):
        if "toolUse" in block:
            block["toolUse"]["input"] = read_arguments(block["json"])
        _add(answer, block)
    return meaning


def _extend(block: Json, delta: Json) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["json"] += delta["toolUse"]["input"]
    elif "text" in delta.get("reasoningContent", {}):
        known = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})
        known["reasoningText"]["text"] += delta["reasoningContent"]["text"]
    elif "citation" in delta:
        block.setdefault("citations", []).append(delta["citation"])


def _add(answer: Answer, block: Json) -> None:
    if "text" in block:
        answer.text += block["text"]
    if "citationsContent" in block:
        cited = block["citationsContent"]
        answer.text += "".join(part["text"] for part in cited.get("content") or ())
        answer.links += len([c for c in cited.get("citations") or () if "web" in (c.get("location") or {})])
    if "reasoningContent" in block:
        answer.reasoning += (block["reasoningContent"].get("reasoningText") or {}).get("text") or ""
    if "toolUse" in block and block["toolUse"].get("type") != "server_tool_use":
        call = block["toolUse"]
        answer.calls.append(Call(call["name"], call["input"], call["toolUseId"]))


def _usage(usage: Json) -> Tokens:
    read, written = usage.get("cacheReadInputTokens") or 0, usage.get("cacheWriteInputTokens") or 0
    return Tokens(
        prompt=usage["inputTokens"] + read + written,
        completion=usage["outputTokens"],
        cached=read,
        cache_write=written,
    )
