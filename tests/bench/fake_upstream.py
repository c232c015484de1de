"""A fake OpenAI that answers at once and costs next to nothing.

Responsible for realistic bytes at known moments, so that what is measured is the proxy in front of it.
Everything it sends is built at start-up. The model name picks the timing of a streamed reply:

- `burst`: every chunk leaves in a `send` of its own, one after the other without a pause
- `paced`: one chunk every 10 ms, as a model writes
- `slow`: one chunk every 250 ms for 20 s, to hold many streams open
- any other name: the whole stream in one `send`

Under `/anthropic` it answers in Anthropic's Messages dialect, the same words with the same timing
(`samples.py`): for the gateway's translations.

Run as a program: `python -m tests.bench.fake_upstream PORT`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from . import samples

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
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
_WHOLE = samples.whole_reply()
_PARTS = {usage: samples.stream_parts(CHUNKS, with_usage=usage) for usage in (False, True)}
_SLOW_PARTS = {usage: samples.stream_parts(_SLOW_CHUNKS, with_usage=usage) for usage in (False, True)}
_AT_ONCE = {usage: b"".join(parts) for usage, parts in _PARTS.items()}
_MESSAGE = samples.whole_message()
_MESSAGE_PARTS = samples.message_parts(CHUNKS)
_MESSAGE_AT_ONCE = b"".join(_MESSAGE_PARTS)


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
            self._transport.write(_MESSAGE if _is_anthropic(request) else _WHOLE)
        else:
            self._stream(request)

    def _stream(self, request: bytes) -> None:
        assert self._transport is not None
        usage = _USAGE.search(request) is not None
        found = _MODEL.search(request)
        model = found[1].rpartition(b"/")[2].removeprefix(b"claude-") if found else b""
        self._pace = _PACE_S.get(model, 0.0)
        if not self._pace and model != b"burst":
            self._transport.write(_MESSAGE_AT_ONCE if _is_anthropic(request) else _AT_ONCE[usage])
            return
        self._parts = (_SLOW_PARTS if model == b"slow" else _PARTS)[usage]
        if _is_anthropic(request):
            self._parts = _MESSAGE_PARTS
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


def _is_anthropic(request: bytes) -> bool:
    return request.startswith(b"POST /anthropic/")


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
