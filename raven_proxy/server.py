"""The listening side: aiohttp's low-level server with the limits that it lacks.

What aiohttp's protocol leaves open and is closed here: a header phase without a limit of its own,
malformed requests that are logged and echoed with their bytes (and so with keys), a banner, and a
writer that can be watched without a task. Requests are judged in `gateway`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any, Protocol, cast

import structlog
from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from .errors import GatewayError, InvalidRequest, envelope
from .headers import REASONS
from .sink import SinkReader

__all__ = ["SENT", "SENT_AND_CLOSE", "ClientConnection", "Server", "Watcher"]

_log = structlog.get_logger("raven_proxy.server")
_KEEP_ALIVE_S = 75.0  # nginx's own idle time: who closes first loses a race


class Watcher(Protocol):
    """Told when a client does not keep up, and when it does again."""

    def client_paused(self) -> None:
        """The client's buffer is full."""

    def client_drained(self) -> None:
        """The client's buffer has room."""


class Sent:
    """Stands where aiohttp wants a response: the bytes are already on their way."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the head was written."""

    async def write_eof(self) -> None:
        """Do nothing: the body was written."""


SENT = Sent(keep_alive=True)
SENT_AND_CLOSE = Sent(keep_alive=False)


class ClientConnection(web.RequestHandler):
    """One client connection."""

    __slots__ = ("_header_timeout_s", "_header_timer", "_outbox", "_server", "watcher")

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop, header_timeout_s: float) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=_KEEP_ALIVE_S,
            access_log=None,  # type: ignore[arg-type]  # None is what turns it off
            auto_decompress=False,
            lingering_time=5.0,
        )
        self._header_timeout_s = header_timeout_s
        self._header_timer: asyncio.TimerHandle | None = None
        self._server = manager
        self._outbox: list[bytes] = []
        self.watcher: Watcher | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the limit for the first request's head."""
        super().connection_made(transport)
        self._header_timer = self._loop.call_later(self._header_timeout_s, self._head_too_slow)

    def force_close(self) -> None:
        """Close, after what was said."""
        self.flush()
        super().force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timer, and what nobody will read."""
        self._stop_header_timer()
        self._outbox.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that has begun and is not complete runs under a limit of its own."""
        super().data_received(data)
        if self._messages or self._current_request is not None:
            if self._header_timer is not None:
                self._stop_header_timer()
        elif self._header_timer is None and data and self._waiter is not None:
            self._header_timer = self._loop.call_later(self._header_timeout_s, self._head_too_slow)

    def send(self, data: bytes) -> None:
        """Write `data` at the end of this turn of the event loop, with what else comes in it.

        Reading from every provider that is ready before writing to any client halves the wake-ups
        of their readers: with streams 10 ms apart it saves a third of the kernel's time per chunk.
        """
        if not self._outbox:
            self._server.flush_soon(self)
        self._outbox.append(data)

    async def drain(self) -> None:
        """Wait until the client has taken enough. Raises ConnectionError when it is gone."""
        await self._drain_helper()

    def interrupt(self) -> None:
        """Cancel what is served here while the connection can still say so."""
        if self._task_handler is not None and self._current_request is not None:
            self._task_handler.cancel()

    def flush(self) -> None:
        """Write what `send` was given, now."""
        if self._outbox:
            data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
            self._outbox.clear()
            if self.transport is not None:
                self.transport.write(data)

    def take(self, content: StreamReader) -> bytes:
        """Give a request's body that is all here; the reader's own way costs ten times as much."""
        if content is EMPTY_PAYLOAD:
            return b""
        content.__class__ = SinkReader
        body = cast("SinkReader", content).take()
        if self._reading_paused:  # the reader's flow control had stepped in, and ends here
            self.resume_reading()
        return body

    def unsent(self) -> int:
        """Count the bytes that the client has not taken, those in the kernel included."""
        transport = self.transport
        if transport is None:
            return 0
        size = transport.get_write_buffer_size()
        with contextlib.suppress(OSError, AttributeError):  # not every kernel or transport tells
            sock = transport.get_extra_info("socket")
            size += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return size

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on after the reader's flow control; each body's end asks for it, mostly in vain."""
        if resume_parser or self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """Tell whoever feeds this client."""
        super().pause_writing()
        if self.watcher is not None:
            self.watcher.client_paused()

    def resume_writing(self) -> None:
        """Wake whoever feeds this client."""
        super().resume_writing()
        if self.watcher is not None:
            self.watcher.client_drained()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer with constant words: a malformed request's bytes may hold a key."""
        del request, message
        error = GatewayError("The gateway could not process this request.")
        if status < 500:
            error = InvalidRequest("The request is not valid HTTP.")
        elif exc is not None:
            _log.error("reply failed", exc_info=exc)
        request_id = "req_" + token_hex(12)
        body = envelope(error, request_id)
        head = (
            f"HTTP/1.1 {error.status} {REASONS[error.status]}\r\ncontent-type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-ID: {request_id}\r\nConnection: close\r\n\r\n"
        )
        self.send(head.encode() + body)
        self.flush()
        return cast("web.StreamResponse", SENT_AND_CLOSE)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Say nothing: what goes wrong inside an exchange is logged by the gateway, redacted."""

    def _head_too_slow(self) -> None:
        self._header_timer = None
        if self._current_request is None and not self._messages:
            self.force_close()

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class Server(web.Server):
    """Makes a `ClientConnection` for each accepted socket."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[Any]], *, header_timeout_s: float
    ) -> None:
        # A client that leaves cancels its handler: that is how its upstream call ends.
        super().__init__(handler, handler_cancellation=True)
        self.header_timeout_s = header_timeout_s
        self._unflushed: list[ClientConnection] = []

    def flush_soon(self, client: ClientConnection) -> None:
        """Flush `client` in the loop's next turn, before it waits for anything."""
        if not self._unflushed:
            self._loop.call_soon(self._flush_all)
        self._unflushed.append(client)

    def _flush_all(self) -> None:
        clients, self._unflushed = self._unflushed, []
        for client in clients:
            client.flush()

    def __call__(self) -> web.RequestHandler:
        """Build the protocol of one connection."""
        return ClientConnection(self, loop=self._loop, header_timeout_s=self.header_timeout_s)
