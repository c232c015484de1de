"""A fake OpenAI that answers at once and costs next to nothing.

Responsible for realistic bytes at known moments, so that what is measured is the proxy in front of it.
Everything it sends is built at start-up. The model name picks the timing of a streamed reply:

- `burst`: every chunk leaves in a `send` of its own, one after the other without a pause
- `paced`: one chunk every 10 ms, as a model writes
- `slow`: one chunk every 250 ms for 20 s, to hold many streams open
- any other name: the whole stream in one `send`

Run as a program: `fake_upstream.py PORT`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import msgspec
import uvloop

__all__ = ["CHUNKS", "FakeUpstream", "main"]

CHUNKS = 50
"""Frames in a stream, from the role to the finish reason; the usage frame and `[DONE]` come on top."""

_SLOW_CHUNKS = 80
_PACE_S = {b"paced": 0.010, b"slow": 0.250}
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_MODEL = re.compile(rb'"model"\s*:\s*"([^"]*)"')
_COUNTS = {"prompt_tokens": 19, "completion_tokens": 48, "total_tokens": 67}
_HEADERS = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 02 Jun 2025 08:30:00 GMT\r\nopenai-organization: bench\r\n"
    b"openai-processing-ms: 212\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-request-id: req_5d1f0c2f4b7a4d7c9a3e8b6f2c1d0e9a\r\n"
)


def _whole_reply() -> bytes:
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


def _stream_parts(chunks: int, with_usage: bool) -> list[bytes]:
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


_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
_WHOLE = _whole_reply()
_PARTS = {usage: _stream_parts(CHUNKS, usage) for usage in (False, True)}
_SLOW_PARTS = {usage: _stream_parts(_SLOW_CHUNKS, usage) for usage in (False, True)}
_AT_ONCE = {usage: b"".join(parts) for usage, parts in _PARTS.items()}


class FakeUpstream(asyncio.Protocol):
    """One keep-alive connection: a request in, its scripted reply out."""

    __slots__ = ("_due", "_loop", "_pace", "_parts", "_received", "_sent", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.Handle | None = None
        self._received = b""
        self._parts: list[bytes] = []
        self._sent = 0
        self._due = self._pace = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete, however its bytes were split."""
        self._received = received = self._received + data if self._received else data
        while (size := _request_size(received)) > 0:
            request, received = received[:size], received[size:]
            self._received = received
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        if request.startswith(b"GET"):
            self._transport.write(_OK)
        elif _STREAM.search(request) is None:
            self._transport.write(_WHOLE)
        else:
            self._stream(request)

    def _stream(self, request: bytes) -> None:
        assert self._transport is not None
        usage = _USAGE.search(request) is not None
        found = _MODEL.search(request)
        model = found[1].rpartition(b"/")[2] if found else b""
        self._pace = _PACE_S.get(model, 0.0)
        if not self._pace and model != b"burst":
            self._transport.write(_AT_ONCE[usage])
            return
        self._parts = (_SLOW_PARTS if model == b"slow" else _PARTS)[usage]
        self._sent = 0
        self._due = self._loop.time()
        self._send_next()

    def _send_next(self) -> None:
        """Send one part and plan the next, against the clock so that delays do not add up."""
        if self._transport is None:
            return
        self._transport.write(self._parts[self._sent])
        self._sent += 1
        if self._sent == len(self._parts):
            self._timer = None
        elif self._pace:
            self._due += self._pace
            self._timer = self._loop.call_at(self._due, self._send_next)
        else:
            self._timer = self._loop.call_soon(self._send_next)


def _request_size(received: bytes) -> int:
    """Say how many bytes the first request in `received` takes, 0 while it is incomplete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = _LENGTH.search(received, 0, end)
    if length is not None:
        size = end + 4 + int(length[1])
        return size if len(received) >= size else 0
    if _CHUNKED.search(received, 0, end) is not None:
        last = received.find(b"\r\n0\r\n\r\n", end + 2)
        return last + 7 if last >= 0 else 0
    return end + 4


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeUpstream(loop), "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Listen on the port given as the only argument until killed."""
    uvloop.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
