"""What the fake upstream says: realistic replies of OpenAI and Anthropic, ready to be sent."""

from __future__ import annotations

import msgspec

__all__ = ["message_parts", "stream_parts", "whole_message", "whole_reply"]

_COUNTS = {"prompt_tokens": 19, "completion_tokens": 48, "total_tokens": 67}
_ANTHROPIC_COUNTS = {
    "input_tokens": 19,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 48,
    "service_tier": "standard",
}
_HEADERS = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 02 Jun 2025 08:30:00 GMT\r\nopenai-organization: bench\r\n"
    b"openai-processing-ms: 212\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-request-id: req_5d1f0c2f4b7a4d7c9a3e8b6f2c1d0e9a\r\n"
)


def whole_reply() -> bytes:
    """Build the reply to a request that does not stream, about 600 bytes of body."""
    message = {"role": "assistant", "content": "Ravens remember. " * 12, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    reply = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1748853000}
    body = msgspec.json.encode(
        {**reply, "model": "gpt-4o-mini-2024-07-18", "choices": [choice], "usage": _COUNTS}
    )
    return _HEADERS + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _frame(choices: list[object], usage: object) -> bytes:
    """Encode one `chat.completion.chunk` event; `usage` is left out where it is UNSET."""
    event = {
        "id": "chatcmpl-BdEjK3mN7pQrStUvWxYz01234567",
        "object": "chat.completion.chunk",
        "created": 1748853000,
        "model": "gpt-4o-mini-2024-07-18",
        "system_fingerprint": "fp_34a54ae93c",
        "choices": choices,
    }
    if usage is not msgspec.UNSET:
        event["usage"] = usage
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def stream_parts(chunks: int, *, with_usage: bool) -> list[bytes]:
    """Build a stream as the list of sends it consists of, HTTP framing included.

    The head leaves with the first frame. Usage, `[DONE]` and the end leave with the last one.
    With usage asked for, every other frame says `"usage":null`, as OpenAI does.
    """
    null = None if with_usage else msgspec.UNSET
    deltas: list[object] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": f" word{n:02d}"} for n in range(chunks - 2)]
    frames = [
        _frame([{"index": 0, "delta": d, "logprobs": None, "finish_reason": None}], null) for d in deltas
    ]
    frames.append(_frame([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], null))
    parts = [b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames]
    tail = [_frame([], _COUNTS)] if with_usage else []
    parts[-1] += b"".join(b"%x\r\n%s\r\n" % (len(f), f) for f in [*tail, b"data: [DONE]\n\n"])
    parts[-1] += b"0\r\n\r\n"
    head = b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    parts[0] = _HEADERS + head + parts[0]
    return parts


def _message(content: list[object], stop_reason: str | None) -> dict[str, object]:
    return {
        "id": "msg_01BenchBenchBenchBenchBe",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": _ANTHROPIC_COUNTS,
    }


def whole_message() -> bytes:
    """Build Anthropic's reply to a request that does not stream, with the words of `whole_reply`."""
    body = msgspec.json.encode(_message([{"type": "text", "text": "Ravens remember. " * 12}], "end_turn"))
    return _HEADERS + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def message_parts(chunks: int) -> list[bytes]:
    """Build Anthropic's stream of the same words as `stream_parts`, as the list of its sends."""
    words: list[dict[str, object]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" word{n:02d}"}}
        for n in range(chunks - 2)
    ]
    first: list[dict[str, object]] = [
        {"type": "message_start", "message": _message([], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    last: list[dict[str, object]] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 48}},
        {"type": "message_stop"},
    ]
    groups = [first, *([word] for word in words), last]
    frames = [b"".join(_event(event) for event in group) for group in groups]
    parts = [b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames]
    head = b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    parts[0] = _HEADERS + head + parts[0]
    parts[-1] += b"0\r\n\r\n"
    return parts


def _event(event: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), msgspec.json.encode(event))
