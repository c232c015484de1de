"""One connection to a provider: bytes in, a reply's head and body out.

Rests on aiohttp's C response parser and hands the body to a sink inside `data_received`: no
task is woken and nothing is queued per chunk. Who is called and when to retry is not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from .errors import UpstreamError, UpstreamTimeout, UpstreamTruncated
from .sink import Sink, SinkReader

__all__ = ["StaleConnection", "UpstreamConnection"]

_READ_BUFFER = 2**16


class StaleConnection(UpstreamError):
    """A kept-alive connection was closed by the provider before a byte of the reply came."""


class UpstreamConnection(BaseProtocol):
    """One keep-alive connection; at most one exchange at a time.

    `on_idle(connection)` is called when it may be used again, `on_closed(connection)` once at
    its end, whatever the reason.
    """

    __slots__ = (
        "_head",
        "_held",
        "_may_reuse",
        "_on_closed",
        "_on_idle",
        "_payload",
        "_sink",
        "idle_since",
        "message",
        "reused",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_idle: Callable[[UpstreamConnection], None],
        on_closed: Callable[[UpstreamConnection], None],
    ) -> None:
        super().__init__(loop, None)
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._head: asyncio.Future[RawResponseMessage] | None = None
        self._payload: StreamReader | None = None
        self._sink: Sink | None = None
        self._may_reuse = True
        self._held = False
        self.message: RawResponseMessage | None = None
        self.reused = False
        self.idle_since = 0.0

    # -- what the gateway calls ------------------------------------------------

    async def send(
        self, head: bytes, body: bytes, *, expects_body: bool, timeout_s: float
    ) -> RawResponseMessage:
        """Send a request and wait for the head of its final reply (1xx are passed over).

        Raises StaleConnection, UpstreamTimeout, UpstreamTruncated or UpstreamError; the connection
        is closed then, as it is when the waiting task is cancelled.
        """
        if self.transport is None:
            raise StaleConnection("The provider closed the connection.")
        self._parser = HttpResponseParser(
            self,
            self._loop,
            _READ_BUFFER,
            response_with_body=expects_body,
            read_until_eof=True,
            auto_decompress=False,
        )
        self.message = None
        self._payload = None
        future: asyncio.Future[RawResponseMessage] = self._loop.create_future()
        self._head = future
        # In the loop's next turn, with those of other exchanges: providers wake once for several.
        if len(body) < _READ_BUFFER:
            self._loop.call_soon(self._write, head + body)
        else:
            self._loop.call_soon(self._write, head)
            self._loop.call_soon(self._write, body)
        timer = self._loop.call_later(timeout_s, self._time_out)
        try:
            return await future
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._head = None
            del future  # with an error in it, it and this frame would hold each other, and the body

    def attach(self, sink: Sink) -> None:
        """Deliver the body to `sink`, beginning with what has arrived; may call `end` at once."""
        payload = self._payload
        if payload is not None and payload is not EMPTY_PAYLOAD:
            payload.__class__ = SinkReader
        self._sink = sink
        self._pump()
        if self._reading_paused:  # the reader's own flow control had stepped in, and ends here
            self.resume_reading()
            if self._held:
                self._pause_transport_reading()

    def take(self) -> bytes | None:
        """Give the whole body if it came with the head, as most do; None means `attach` a sink."""
        payload = self._payload
        if payload is None or not payload.is_eof():
            return None
        body = b""
        if payload is not EMPTY_PAYLOAD:
            payload.__class__ = SinkReader
            body = cast("SinkReader", payload).take()
        self._release()
        return body

    def abort(self) -> None:
        """Drop the connection and whatever it was doing, at once; the sink hears nothing more."""
        self._payload = None
        self._drop()

    def disown(self) -> None:
        """Tell nobody when it closes: who opened it gave up before it could be counted."""
        self._on_closed = lambda _connection: None

    def hold(self) -> None:
        """Stop reading from the provider: the client does not keep up."""
        self._held = True
        self._pause_transport_reading()

    def resume(self) -> None:
        """Read again after `hold`."""
        self._held = False
        self._resume_transport_reading()

    # -- what the event loop calls ---------------------------------------------

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on after the reader's flow control; each body's end asks for it, mostly in vain."""
        if resume_parser or self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Parse what came and pass it on."""
        if self._parser is None:
            if data:  # nobody asked: an answer to something else, or a farewell
                self.abort()
            return
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except Exception as error:
            self._break_off(f"The provider's reply is not valid HTTP ({type(error).__name__}).")
            return
        if self._head is not None and data:
            self.reused = False  # an answer has begun: whatever follows, the request is not sent again
        if messages or upgraded:
            self._take(messages, upgraded=upgraded)
        if self._sink is not None:
            self._pump()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what was under way: only a reply delimited by the close may end well."""
        silent = self.message is None
        if self._parser is not None and exc is None and not silent:
            try:
                self._parser.feed_eof()
            except Exception:
                exc = ConnectionError("incomplete")
        self._parser = None
        self._may_reuse = False
        super().connection_lost(exc)
        if self._head is not None and not self._head.done():
            kind = StaleConnection if self.reused and silent else UpstreamTruncated
            self._head.set_exception(kind("The provider closed the connection before it answered."))
        elif self._sink is not None:
            if exc is None and self._payload is not None and self._payload.is_eof():
                self._pump()
            else:
                self._fail(UpstreamTruncated("The provider's reply broke off."))
        elif self._payload is not None and not self._payload.is_eof():
            # Nobody has attached yet; `attach` will find the exception.
            self._payload.set_exception(UpstreamTruncated("The provider's reply broke off."))
        self._on_closed(self)

    # -- inside ----------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _take(self, messages: list[tuple[RawResponseMessage, StreamReader]], *, upgraded: bool) -> None:
        for message, payload in messages:
            if 100 <= message.code < 200 and message.code != 101:
                continue
            if self.message is not None or upgraded or message.code == 101:
                self._break_off("The provider sent a reply that nobody asked for.")
                return
            self.message = message
            self._payload = EMPTY_PAYLOAD if message.code in (204, 304) else payload
            if message.should_close:
                self._may_reuse = False
            if self._head is not None and not self._head.done():
                self._head.set_result(message)

    def _pump(self) -> None:
        payload, sink = self._payload, self._sink
        if payload is None or sink is None:
            return
        if type(payload) is SinkReader and (data := payload.take()):
            sink.feed(data)
            if self._sink is None:  # the sink had enough, and aborted
                return
        if payload.is_eof():
            self._sink = None
            self._release()
            sink.end()
        elif (broken := payload.exception()) is not None:
            error = broken if isinstance(broken, UpstreamError) else None
            self._fail(
                error or UpstreamTruncated(f"The provider's reply broke off ({type(broken).__name__}).")
            )

    def _release(self) -> None:
        self._parser = None
        self._payload = None
        transport = self.transport
        if transport is None:
            return
        if self._may_reuse and not transport.is_closing() and not transport.get_write_buffer_size():
            self.reused = True
            if self._held:  # the reply was here before its client had drained
                self.resume()
            self._on_idle(self)
        elif transport.get_write_buffer_size():
            transport.abort()  # answered before it had read the request: it may never read the rest
        else:
            transport.close()

    def _break_off(self, reason: str) -> None:
        payload = self._payload
        if payload is not None and payload.is_eof():
            self._may_reuse = False  # the reply is whole; what followed is not
            return
        self._fail(UpstreamError(reason))

    def _fail(self, error: UpstreamError) -> None:
        sink = self._sink
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        elif sink is None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)
        self._drop()
        if sink is not None:
            self._payload = None  # it knows this connection: they would hold each other
            sink.fail(error)

    def _drop(self) -> None:
        self._sink = None
        self._may_reuse = False
        if self.transport is not None:
            self.transport.abort()

    def _time_out(self) -> None:
        self._fail(UpstreamTimeout("The provider did not answer in time."))
