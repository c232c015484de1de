"""One connection of the mock upstream: requests come in, replies are played byte for byte.

Responsible for the socket and for who closed it when; the parsing is in `reader.py`, and what is
answered is the owner's to say.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol, cast

from .faults import error_reply
from .reader import RequestReader
from .scripts import Framing, ScriptedReply, Seen

__all__ = ["Connection"]


class Owner(Protocol):
    """What a connection needs of the upstream that it belongs to."""

    def enter(self, connection: Connection) -> int:
        """Take the new connection, start its task; return its number."""

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed."""

    def record(self, seen: Seen) -> None:
        """Keep a request that came in."""

    def failed(self, error: Exception) -> None:
        """Keep an error that was met while answering."""

    async def reply_to(self, seen: Seen) -> ScriptedReply:
        """Say what is to be answered."""


class Connection(asyncio.Protocol):
    """One client connection: its requests are recorded as they end and answered in turn."""

    def __init__(self, owner: Owner) -> None:
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._queue: asyncio.Queue[Seen | None] = asyncio.Queue()
        self._unanswered: deque[Seen] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False  # by us
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Each write waits for the kernel to have it all: `ended_at` is exact, and memory flat.
        self._transport.set_write_buffer_limits(high=1, low=0)  # asyncio.sslproto never resumes from high=0
        self._reader = RequestReader(self._owner.enter(self), self._continue)

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refused:
            return
        for seen in self._reader.feed(data):
            self._owner.record(seen)
            self._unanswered.append(seen)
            self._queue.put_nowait(seen)
        if self._reader.broken:
            self._refused = True
            self._queue.put_nowait(None)

    def eof_received(self) -> None:
        self._client_left()

    def connection_lost(self, _error: Exception | None) -> None:
        self._client_left()
        self._owner.leave(self)
        self.gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def drop(self, *, reset: bool = False) -> None:
        """Close at once; not the client's doing."""
        self._closing = True
        if reset:
            # On a duplicate: the transport's own socket object is not to be touched.
            with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        if self.task:
            self.task.cancel()

    def _continue(self) -> None:
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _client_left(self) -> None:
        if self._closing:
            return
        if not self._refused and (unfinished := self._reader.unfinished()):
            self._owner.record(unfinished)
            self._unanswered.append(unfinished)
        for seen in self._unanswered:
            seen.closed_early, seen.closed_at = True, time.time()
        if self._unanswered:
            self.drop()
        else:
            self._finish()

    def _finish(self) -> None:
        """Close once what was written is sent."""
        self._closing = True
        self._transport.close()
        if self.task:
            self.task.cancel()

    async def answer_all(self) -> None:
        """Answer request after request until one of the two sides closes."""
        try:
            while (seen := await self._queue.get()) is not None:
                reply = await self._owner.reply_to(seen)
                await self._play(reply, seen)
                await self._end(reply, seen)
        except Exception as error:
            self._owner.failed(error)
            self.drop(reset=True)
        else:
            self._refuse()

    def _refuse(self) -> None:
        if unfinished := self._reader.unfinished():
            self._owner.record(unfinished)
        reply = error_reply(400, f"No HTTP/1.1 request: {self._reader.broken}")
        self._transport.write(reply.head() + reply.payload)
        self._finish()

    async def _play(self, reply: ScriptedReply, seen: Seen) -> None:
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        if reply.wire_framing != "raw":
            seen.reply_status = reply.status
        for piece in _wire(reply, seen):
            if self._transport.is_closing():
                # The socket failed under an earlier write: connection_lost is due, and cancels us.
                await self.gone.wait()
            if isinstance(piece, bytes):
                self._transport.write(piece)
                if not self._writable.is_set():
                    await self._writable.wait()
            else:
                await asyncio.sleep(piece)

    async def _end(self, reply: ScriptedReply, seen: Seen) -> None:
        if reply.end == "hang":
            await asyncio.Event().wait()
        if reply.end == "reset":
            # A reset overtakes what is still unread: let the client have it first.
            await asyncio.sleep(0.02)
        seen.ended_at = time.time()
        self._unanswered.popleft()
        if reply.end == "reset":
            self.drop(reset=True)
        elif reply.end == "stale":
            await self._queue.get()
            self._finish()
        elif reply.end != "keep-alive" or reply.wire_framing == "close" or not _keeps_alive(seen):
            self._finish()


def _wire(reply: ScriptedReply, seen: Seen) -> Iterator[bytes | float]:
    """The reply as writes and pauses; a whole one is one write, so that no reader sees it in halves."""
    framing = reply.wire_framing
    head = b"" if framing == "raw" else reply.preface + reply.head()
    if framing != "raw" and (seen.method == "HEAD" or reply.status in {204, 304}):
        yield head
        return
    finished = framing == "chunked" and reply.end not in {"cut", "reset", "hang"}
    last = b"0\r\n\r\n" if finished else b""
    if reply.chunks is None:
        yield head + _framed(reply.body, framing) + last
        return
    yield head
    for chunk in reply.chunks:
        yield _framed(chunk, framing) if isinstance(chunk, bytes) else chunk
    while reply.repeat:
        yield 0.0  # chunks without a pause are not to starve the loop
        for chunk in reply.chunks:
            yield _framed(chunk, framing) if isinstance(chunk, bytes) else chunk
    yield last


def _framed(data: bytes, framing: Framing) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" and data else data


def _keeps_alive(seen: Seen) -> bool:
    return seen.version == "1.1" and "close" not in seen.headers.get("connection", "").lower()
