"""A reply of twenty thousand parts costs twenty thousand times one: no translator goes through all for each.

There is no clock in these tests: where the work grows with the square, they end at the runner's time limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

PARTS = 20_000
FACES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
}


def sse(events: Iterator[Any], *, named: bool = False) -> ScriptedReply:
    """One chunk of all events: a provider that sends fast."""
    frames = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        frames.append(f"{name}data: {msgspec.json.encode(event).decode()}\n\n")
    text = "".join(frames)
    return ScriptedReply(headers={"Content-Type": "text/event-stream"}, chunks=[text.encode()])


def openai_calls() -> Iterator[Any]:
    """Calls that begin and never become whole."""
    for index in range(PARTS):
        call = {
            "index": index,
            "id": f"c{index}",
            "type": "function",
            "function": {"name": "f", "arguments": "{"},
        }
        yield {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    yield {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def openai_turns() -> Iterator[Any]:
    """Two calls whose arguments come in turns, a letter at a time."""
    for index in (0, 1):
        call = {
            "index": index,
            "id": f"c{index}",
            "type": "function",
            "function": {"name": "f", "arguments": ""},
        }
        yield {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    for number in range(PARTS):
        call = {"index": number % 2, "function": {"arguments": "}"}}
        yield {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    yield {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def anthropic_blocks() -> Iterator[Any]:
    """Blocks of text and calls, none of them ever closed."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    yield {"type": "message_start", "message": message}
    for index in range(PARTS):
        block: dict[str, Any] = {"type": "text", "text": "x"}
        if index % 2:
            block = {"type": "tool_use", "id": f"t{index}", "name": "f", "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": block}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    yield {"type": "message_stop"}


def gemini_parts() -> Iterator[Any]:
    """Parts of thought, text and calls in turns."""
    kinds: list[dict[str, Any]] = [
        {"text": "x", "thought": True}, {"text": "y"}, {"functionCall": {"name": "f", "args": {}}},
    ]  # fmt: skip
    for index in range(PARTS // 10):
        parts = [kinds[(index + place) % 3] for place in range(10)]
        yield {"candidates": [{"index": 0, "content": {"role": "model", "parts": parts}}]}
    yield {"candidates": [{"index": 0, "content": {"role": "model", "parts": []}, "finishReason": "STOP"}]}


STREAMS = {
    "openai": [openai_calls, openai_turns],
    "anthropic": [anthropic_blocks],
    "gemini": [gemini_parts],
}
ROUTES = [
    pytest.param(vendor, events, face, id=f"{events.__name__}-{face.rpartition('/')[2]}")
    for vendor, several in STREAMS.items()
    for events in several
    for face in FACES
]


@pytest.mark.parametrize(("vendor", "events", "face"), ROUTES)
async def test_a_stream_of_many_parts(
    raven: Any, upstream: MockUpstream, vendor: str, events: Any, face: str
) -> None:
    """It arrives whole, on every face."""
    done = "data: [DONE]\n\n" if vendor == "openai" else ""
    reply = sse(events(), named=vendor == "anthropic")
    assert reply.chunks is not None
    upstream.script(ScriptedReply(headers=reply.headers, chunks=[*reply.chunks, done.encode()]))
    provider = "nvidia" if vendor == "openai" else vendor  # one that does not speak Responses by itself
    table = {"name": "up", "provider": provider, "base_url": upstream.url, "key": {"env": "PATH"}}
    plugins = ("openai", "anthropic", "gemini")
    running = await raven(base=plugins, config={"upstreams": [table]})
    body = {"model": "up/gemini-2.5-pro" if vendor == "gemini" else "up/m", "stream": True, **FACES[face]}
    async with running.client.post(face, json=body) as got:
        assert got.status == 200
        text = await got.read()
    ends = {"chat": b"[DONE]", "messages": b"message_stop", "responses": b"response.completed"}
    assert next(end for word, end in ends.items() if word in face) in text
