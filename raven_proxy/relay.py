"""Move a stream from provider to client as it comes.

A relay is the sink of an `UpstreamConnection` and runs inside its `data_received`: no task, queue,
lock or timer per chunk. Until the first byte is out a failure is an error reply; after it, the
dialect's error event and a cut connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, Protocol

from .errors import GatewayError, Overloaded, UpstreamError, UpstreamTimeout, UpstreamTruncated
from .exchange import Exchange, Outcome
from .pipeline import settle
from .sse import EventMeter, WholeEvents
from .watch import Watch

if TYPE_CHECKING:
    from .chain import Chain
    from .server import ClientConnection

__all__ = ["Kind", "Relay", "Source"]

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")

Kind = Literal["events", "lines", "bytes"]
"""What a stream is made of: server-sent events, JSON lines, or whatever else."""


class Source(Protocol):
    """Where a relay's bytes come from, as far as it must hold them back or stop them."""

    def hold(self) -> None:
        """Stop delivering for a while."""

    def resume(self) -> None:
        """Go on delivering."""

    def abort(self) -> None:
        """Stop for good; nothing more is delivered."""


class Relay:
    """Passes a stream on as it comes; `done` resolves to whether the client's connection may live on.

    Until the first byte is written a failure is raised through `done`.
    """

    __slots__ = (
        "_chain",
        "_chunked",
        "_client",
        "_exchange",
        "_head",
        "_held",
        "_is_sse",
        "_kind",
        "_last_written",
        "_max_bytes",
        "_meter",
        "_send_timeout_s",
        "_send_timer",
        "_source",
        "_unsent",
        "_watch",
        "_whole",
        "done",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        source: Source,
        client: ClientConnection,
        chain: Chain,
        head: bytes,
        *,
        chunked: bool,
        kind: Kind,
    ) -> None:
        config = exchange.pipeline.config
        self._exchange = exchange
        self._source = source
        self._client: ClientConnection | None = client
        self._chain = chain
        self._head = head
        self._chunked = chunked
        self._kind = kind
        self._is_sse = is_sse = kind == "events"
        self._max_bytes = config.max_stream_bytes
        self._meter = EventMeter(config.max_event_bytes) if is_sse else None
        self._send_timeout_s = config.send_timeout_s
        self._send_timer: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes that the client had not taken when that timer was set
        self._held = False
        self._last_written = b""
        self._whole = WholeEvents()
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._watch = Watch(
            config.idle_timeout_s,
            config.total_timeout_s,
            self._late,
            config.keepalive_s if is_sse else 0.0,
            self._keep_alive,
        )
        client.watcher = self

    # -- the sink ----------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Pass the next bytes through the chain and on."""
        self._watch.touch()
        try:
            data = self._chain.feed(data)
            if self._exchange.produced_bytes > self._max_bytes:
                raise UpstreamError("The stream is over the size limit.")
            if self._meter is not None and self._meter.exceeds(data):
                raise UpstreamError("One event of the stream is over the size limit.")
        except GatewayError as error:
            self._source.abort()
            self.fail(error)
            return
        if self._is_sse and (self._whole.held or data[-2:] != b"\n\n"):
            data = self._whole.feed(data)
        self._write(data)

    def end(self) -> None:
        """The provider's reply is complete in HTTP; see whether it is in its dialect too."""
        if self.done.done():
            return
        try:
            rest = self._chain.close()
        except GatewayError as error:
            self.fail(error)
            return
        tally = self._chain.settle()
        if tally.error is not None:
            self._exchange.outcome = Outcome.TRUNCATED
            self._exchange.error = UpstreamError(tally.error)
        elif not tally.complete:
            self._write(self._whole.feed(rest))
            self.fail(UpstreamTruncated("The provider's stream ended before it was complete."))
            return
        else:
            self._complete()
        settle(self._exchange)
        self._write(self._whole.close() + rest)
        self._finish_well()

    def fail(self, error: GatewayError) -> None:
        """The reply cannot go on: say so in the client's dialect, and cut."""
        if self.done.done():
            return
        is_metered = self._chain.is_metered
        tally = self._chain.settle()
        if self._head and self._client is not None:  # nothing is out yet: a proper error reply
            self._stop()
            self.done.set_exception(error)
            return
        if self._is_sse and is_metered and tally.complete and isinstance(error, UpstreamTruncated):
            # The dialect's own end had come; what broke off after it is nobody's loss.
            self._complete()
            settle(self._exchange)
            self._write(self._whole.close())
            self._finish_well()
            return
        self._exchange.error = error
        outcome = Outcome.TRUNCATED if isinstance(error, UpstreamError) else Outcome.FAILED
        self._exchange.outcome = outcome if self._client is not None else Outcome.CANCELLED
        settle(self._exchange)
        self._cut(error)
        self._stop()
        self.done.set_result(False)

    # -- the client --------------------------------------------------------------

    def client_paused(self) -> None:
        """The client does not keep up: hold the provider back, and give the client its time."""
        if not self._held and not self.done.done():
            self._held = self._watch.paused = True
            self._source.hold()
            self._await_client()

    def client_drained(self) -> None:
        """The client takes bytes again."""
        if self._held:
            self._held = self._watch.paused = False
            self._stop_send_timer()
            self._watch.touch()
            self._source.resume()

    def leave(self) -> None:
        """The client is gone and nobody needs the rest: stop the provider, settle what came."""
        self._source.abort()
        self._chain.settle()
        if self._client is not None and self._client.transport is not None:
            self._cut(Overloaded("The gateway is shutting down."))  # it is we who leave
        self._stop()
        if not self.done.done():
            self.done.set_result(False)

    def drop_client(self) -> None:
        """The client is gone, but the rest is read for its usage (`on_disconnect = "drain"`)."""
        self.done = asyncio.get_running_loop().create_future()  # the old one was cancelled with its waiter
        if self._client is not None:
            self._client.watcher = None
            self._client = None
        self._head = b""
        if self._held:
            self.client_drained()

    def begin(self) -> None:
        """Send the head now, unless bytes took it along, or a translator's first word may yet be an error."""
        if self._head and not self.done.done() and not self._chain.is_translated:
            self._send(b"")

    # -- inside ------------------------------------------------------------------

    def _cut(self, error: GatewayError) -> None:
        client = self._client
        if client is None or client.transport is None:
            return
        render = self._exchange.face.dialect.render_stream_error
        if self._kind != "bytes" and render is not None:
            frame = render(error, self._exchange.id)
            glue = b"\n\n" if self._is_sse else b"\n"
            self._write(frame if self._at_event_end() else glue + frame)
        client.flush()
        # Without length and without chunks a closed connection would look complete.
        if self._is_sse or self._chunked:
            client.force_close()
        elif client.transport is not None:
            client.transport.abort()

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._last_written = data[-4:]
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def _send(self, data: bytes) -> None:
        client = self._client
        if client is None or client.transport is None:
            return
        data, self._head = self._head + data, b""
        client.send(data)

    def _complete(self) -> None:
        self._exchange.is_complete = True
        self._exchange.outcome = Outcome.COMPLETED if self._client is not None else Outcome.CANCELLED

    def _finish_well(self) -> None:
        client = self._client
        if client is not None and client.transport is not None:
            client.send(self._head + (b"0\r\n\r\n" if self._chunked else b""))
            self._head = b""
            client.flush()
        self._stop()
        if not self.done.done():
            self.done.set_result(True)

    def _late(self, error: UpstreamTimeout) -> None:
        self._source.abort()
        self.fail(error)

    def _await_client(self) -> None:
        if self._client is not None:
            self._unsent = self._client.unsent()
        loop = asyncio.get_running_loop()
        self._send_timer = loop.call_later(self._send_timeout_s, self._look_at_client)

    def _look_at_client(self) -> None:
        client = self._client
        if client is None or client.transport is None:
            return
        if client.unsent() < self._unsent:
            self._await_client()  # slow, but it reads
        else:
            client.transport.abort()  # connection_lost cancels the handler, which calls `leave`

    def _keep_alive(self) -> None:
        if not self._held and self._at_event_end():
            self._write(b": keep-alive\n\n")

    def _at_event_end(self) -> bool:
        ends = _EVENT_ENDS if self._is_sse else b"\n"
        return not self._last_written or self._last_written.endswith(ends)

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _stop(self) -> None:
        self._watch.stop()
        self._stop_send_timer()
        if self._client is not None and self._client.watcher is self:
            self._client.watcher = None
