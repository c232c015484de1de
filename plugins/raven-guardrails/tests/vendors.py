"""Streams as vendors send them, with a text cut into pieces, and what a client reads of them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import crc32
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

encode = msgspec.json.encode
EVENTS = "text/event-stream"
MESSAGES = "application/vnd.amazon.eventstream"
LINES = "application/x-ndjson"


def sse(*documents: Any, named: bool = False, end: bytes = b"\n\n") -> bytes:
    frames = []
    for one in documents:
        data = one if isinstance(one, bytes) else encode(one)
        head = b"event: " + one["type"].encode() + end[: len(end) // 2] if named else b""
        frames.append(head + b"data: " + data + end)
    return b"".join(frames)


def frame(name: str, payload: Any) -> bytes:
    headers = b""
    for key, value in (
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    data = encode(payload)
    prelude = (len(headers) + len(data) + 16).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + headers + data
    return message + crc32(message).to_bytes(4, "big")


# -- chat and completions ----------------------------------------------------------------


def chat(pieces: Sequence[str], make: Callable[[str], Any] = lambda t: {"content": t}) -> bytes:
    def chunk(delta: Any, reason: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }

    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    first = chunk({"role": "assistant", "content": ""})
    deltas = [chunk(make(piece)) for piece in pieces]
    return sse(first, *deltas, chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}, b"[DONE]")


def chat_tool(pieces: Sequence[str]) -> bytes:
    return chat(pieces, lambda t: {"tool_calls": [{"index": 0, "function": {"arguments": t}}]})


def chat_reasoning(pieces: Sequence[str]) -> bytes:
    return chat(pieces, lambda t: {"reasoning_content": t})


def completions(pieces: Sequence[str]) -> bytes:
    def chunk(text: str, reason: str | None = None) -> Any:
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
        return {"id": "c1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}

    return sse(*map(chunk, pieces), chunk("", "stop"), b"[DONE]")


# -- responses -----------------------------------------------------------------------------


def responses(pieces: Sequence[str]) -> bytes:
    text = "".join(pieces)
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    return _responses(
        item,
        {"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0,
         "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
           "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", "item_id": "msg_1", "output_index": 0, "content_index": 0,
         "text": text},
        {"type": "response.content_part.done", "item_id": "msg_1", "output_index": 0, "content_index": 0,
         "part": part},
    )  # fmt: skip


def responses_tool(pieces: Sequence[str]) -> bytes:
    text = "".join(pieces)
    item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": text,
            "status": "completed"}  # fmt: skip
    return _responses(
        item,
        *({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0,
           "delta": piece} for piece in pieces),
        {"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 0,
         "arguments": text},
    )  # fmt: skip


def _responses(item: Any, *middle: Any) -> bytes:
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [],
                "status": "in_progress", "instructions": "Never say falcon."}  # fmt: skip
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    events = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0,
         "item": {**item, "content": [], "arguments": ""}},
        *middle,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed",
         "response": {**response, "status": "completed", "output": [item], "usage": usage}},
    ]  # fmt: skip
    return sse(*({**event, "sequence_number": n} for n, event in enumerate(events)), named=True)


# -- messages --------------------------------------------------------------------------------


def messages_events(pieces: Sequence[str], *, tool: bool = False) -> list[Any]:
    block = (
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}} if tool else {"type": "text", "text": ""}
    )
    kind = ("input_json_delta", "partial_json") if tool else ("text_delta", "text")
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
               "stop_reason": None, "usage": usage}  # fmt: skip
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": kind[0], kind[1]: p}}
            for p in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]


def messages(pieces: Sequence[str]) -> bytes:
    return sse(*messages_events(pieces), named=True)


def messages_tool(pieces: Sequence[str]) -> bytes:
    return sse(*messages_events(pieces, tool=True), named=True)


# -- Gemini, Bedrock, Cohere, Ollama ---------------------------------------------------------


def gemini_chunks(pieces: Sequence[str]) -> list[Any]:
    def chunk(text: str, **more: Any) -> Any:
        candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, **more}
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}

    return [*map(chunk, pieces), chunk("", finishReason="STOP")]


def gemini(pieces: Sequence[str]) -> bytes:
    return sse(*gemini_chunks(pieces), end=b"\r\n\r\n")


def gemini_array(pieces: Sequence[str]) -> bytes:
    return b"[" + b"\n,\r\n".join(map(encode, gemini_chunks(pieces))) + b"]"


def converse(pieces: Sequence[str], *, tool: bool = False) -> bytes:
    start = {"start": {"toolUse": {"toolUseId": "t1", "name": "f"}}, "contentBlockIndex": 0, "p": "abc"}
    deltas = [
        {"contentBlockIndex": 0, "delta": {"toolUse": {"input": one}} if tool else {"text": one}, "p": "abcd"}
        for one in pieces
    ]
    usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}
    return b"".join(
        [
            frame("messageStart", {"role": "assistant", "p": "ab"}),
            frame("contentBlockStart", start) if tool else b"",
            *(frame("contentBlockDelta", one) for one in deltas),
            frame("contentBlockStop", {"contentBlockIndex": 0, "p": "abcdef"}),
            frame("messageStop", {"stopReason": "end_turn", "p": "a"}),
            frame("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}),
        ]
    )


def converse_tool(pieces: Sequence[str]) -> bytes:
    return converse(pieces, tool=True)


def invoke(pieces: Sequence[str]) -> bytes:
    events = messages_events(pieces)
    return b"".join(frame("chunk", {"bytes": b64encode(encode(one)).decode(), "p": "abc"}) for one in events)


def invoke_other(pieces: Sequence[str]) -> bytes:
    events = [{"generation": one, "stop_reason": None} for one in pieces]
    return b"".join(frame("chunk", {"bytes": b64encode(encode(one)).decode(), "p": "abc"}) for one in events)


def cohere(pieces: Sequence[str]) -> bytes:
    def delta(text: str, **more: str) -> Any:
        return {"message": {"content": {**more, "text": text}}}

    usage = {"tokens": {"input_tokens": 3, "output_tokens": 4}}
    return sse(
        {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "content-start", "index": 0, "delta": delta("", type="text")},
        *({"type": "content-delta", "index": 0, "delta": delta(one)} for one in pieces),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}},
        named=True,
    )


def cohere_tool(pieces: Sequence[str]) -> bytes:
    def calls(value: Any) -> Any:
        return {"message": {"tool_calls": value}}

    first = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    return sse(
        {"type": "tool-call-start", "index": 0, "delta": calls(first)},
        *(
            {"type": "tool-call-delta", "index": 0, "delta": calls({"function": {"arguments": p}})}
            for p in pieces
        ),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
        named=True,
    )


def older_cohere(pieces: Sequence[str]) -> bytes:
    events = [
        {"event_type": "stream-start", "generation_id": "1", "is_finished": False},
        *({"event_type": "text-generation", "text": one, "is_finished": False} for one in pieces),
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "is_finished": True,
         "response": {"text": "".join(pieces)}},
    ]  # fmt: skip
    return b"".join(encode(one) + b"\n" for one in events)


def ollama(pieces: Sequence[str]) -> bytes:
    lines = [
        {"model": "m", "message": {"role": "assistant", "content": one}, "done": False} for one in pieces
    ]
    message = {"role": "assistant", "content": ""}
    last = {"model": "m", "message": message, "done": True, "done_reason": "stop", "eval_count": 4}
    return b"".join(encode(one) + b"\n" for one in [*lines, last])


def generate(pieces: Sequence[str]) -> bytes:
    lines = [{"model": "m", "response": one, "done": False} for one in pieces]
    last = {"model": "m", "response": "", "done": True, "eval_count": 4}
    return b"".join(encode(one) + b"\n" for one in [*lines, last])


def unknown(pieces: Sequence[str]) -> bytes:
    return sse(*({"kind": "new", "deep": [{"said": one}]} for one in pieces), b"over")


def plain(pieces: Sequence[str]) -> bytes:
    return "".join(pieces).encode()


STREAMS: dict[str, tuple[str, str, Callable[[Sequence[str]], bytes]]] = {
    "chat": ("openai.chat", EVENTS, chat),
    "chat reasoning": ("openai.chat", EVENTS, chat_reasoning),
    "completions": ("openai.completions", EVENTS, completions),
    "responses": ("openai.responses", EVENTS, responses),
    "messages": ("anthropic.messages", EVENTS, messages),
    "gemini": ("gemini.generate", EVENTS, gemini),
    "gemini array": ("gemini.generate", "application/json", gemini_array),
    "converse": ("bedrock.converse", MESSAGES, converse),
    "invoke": ("bedrock.invoke", MESSAGES, invoke),
    "invoke other": ("bedrock.invoke", MESSAGES, invoke_other),
    "cohere": ("cohere.chat", EVENTS, cohere),
    "cohere v1": ("cohere.chat.v1", "application/stream+json", older_cohere),
    "ollama": ("ollama.chat", LINES, ollama),
    "ollama generate": ("ollama.generate", LINES, generate),
    "unknown": ("new.dialect", EVENTS, unknown),
    "plain": ("openai.audio.transcriptions", "text/plain; charset=utf-8", plain),
}
TOOLS: dict[str, tuple[str, str, Callable[[Sequence[str]], bytes]]] = {
    "chat": ("openai.chat", EVENTS, chat_tool),
    "responses": ("openai.responses", EVENTS, responses_tool),
    "messages": ("anthropic.messages", EVENTS, messages_tool),
    "converse": ("bedrock.converse", MESSAGES, converse_tool),
    "cohere": ("cohere.chat", EVENTS, cohere_tool),
}


# -- what a client reads ---------------------------------------------------------------------


def documents(data: bytes, kind: str) -> Iterator[Any]:
    """Give every document of a stream; text that is no JSON as it is."""
    if kind == MESSAGES:
        while data:
            total, size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
            assert crc32(data[: total - 4]).to_bytes(4, "big") == data[total - 4 : total]
            assert crc32(data[:8]).to_bytes(4, "big") == data[8:12]
            payload = msgspec.json.decode(data[12 + size : total - 4])
            yield msgspec.json.decode(b64decode(payload["bytes"])) if "bytes" in payload else payload
            data = data[total:]
        return
    if kind == "application/json":
        yield from msgspec.json.decode(data)
        return
    for line in data.decode().splitlines() if kind != "text/plain; charset=utf-8" else [data.decode()]:
        text = line.removeprefix("data: ")
        try:
            yield msgspec.json.decode(text)
        except msgspec.DecodeError:
            yield text


def spelled(data: bytes, kind: str) -> list[str]:
    """Join the strings that stand at one place of a stream's documents, and each of them alone."""
    texts: dict[Any, str] = {}
    alone: list[str] = []

    def walk(value: Any, place: tuple[Any, ...]) -> None:
        if isinstance(value, str):
            texts[place] = texts.get(place, "") + value
            alone.append(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name not in ("instructions", "model"):
                    walk(inner, (*place, name))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, (*place, index))

    for document in documents(data, kind):
        kind_of = document.get("type") if isinstance(document, dict) else None
        walk(document, (kind_of,))
    return [*texts.values(), *alone]
