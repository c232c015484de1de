"""What recorded replies of Anthropic's Messages mean, also where Bedrock and Vertex host them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .meaning import Answer, Call, Json, Meaning, Tokens, read_arguments, read_events

__all__ = ["FINISH", "read_anthropic", "read_anthropic_events", "read_usage"]

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "compaction": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_anthropic(body: bytes, *, streaming: bool) -> Meaning:
    """Read a message."""
    if streaming:
        return read_anthropic_events(document for _, document in read_events(body))
    document = msgspec.json.decode(body)
    answer = Answer(finish=_finish(document["stop_reason"]))
    for block in document["content"]:
        _add(answer, block)
    return Meaning(answers=[answer], usage=read_usage(document["usage"]))


def read_anthropic_events(events: Iterable[Json]) -> Meaning:
    """Read a stream of events; usage is cumulative, and the last one counts."""
    answer = Answer()
    meaning = Meaning(answers=[answer])
    usage: Json = {}
    blocks: dict[int, Json] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                usage |= event["message"]["usage"]
            case "content_block_start":
                blocks[event["index"]] = {**event["content_block"], "json": ""}
            case "content_block_delta":
                _extend(blocks[event["index"]], event["delta"])
            case "message_delta":
                answer.finish = _finish(event["delta"]["stop_reason"])
                usage |= {name: value for name, value in event["usage"].items() if value is not None}
            case "error":
                meaning.error = event["error"]["message"]
                break
    for _, block in sorted(blocks.items()):
        if block["json"]:
            block["input"] = read_arguments(block["json"])
        _add(answer, block)
    meaning.usage = read_usage(usage) if usage else None
    return meaning


def read_usage(usage: Json) -> Tokens:
    """Read Anthropic's usage, whose input tokens are without the cached ones."""
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return Tokens(
        prompt=(usage.get("input_tokens") or 0) + read + written,
        completion=usage["output_tokens"],
        cached=read,
        cache_write=written,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


def _finish(word: str | None) -> str | None:
    return None if word is None else FINISH[word]


def _extend(block: Json, delta: Json) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] = (block.get("text") or "") + delta["text"]
        case "thinking_delta":
            block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
        case "input_json_delta":
            block["json"] += delta["partial_json"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _add(answer: Answer, block: Json) -> None:
    match block["type"]:
        case "text":
            answer.text += block["text"]
            answer.links += len([c for c in block.get("citations") or () if c.get("url")])
        case "thinking":
            answer.reasoning += block["thinking"]
        case "tool_use":
            answer.calls.append(Call(block["name"], block["input"], block["id"]))
