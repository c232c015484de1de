"""Runs a translation between two dialects: the client's on one side, the vendor's on the other.

    request:  ClientSide.read_request → hub → the vendor's own writer
    reply:    ProviderSide.read_reply → hub → ClientSide.write_reply
    stream:   ProviderSide.open_reader → events → ClientSide.open_writer

Responsible for running the two halves, for what they have in common (errors, usage, estimates,
`X-Raven-Strict`), and for nothing of any vendor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from . import hub
from .dialects import ClientSide, ProviderSide, Reader, Writer
from .errors import GatewayError, InvalidRequest, UpstreamTruncated
from .metering import UNREADABLE, Meter
from .providers import Tally
from .refusals import refuse_event

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = [
    "JSON",
    "SSE",
    "Translation",
    "is_strict",
    "open_translation",
    "read_request",
    "refuse_dropped",
]

JSON = "application/json"
SSE = "text/event-stream"

T = TypeVar("T")


# -- requests ------------------------------------------------------------------------


def read_request(exchange: Exchange, kind: type[T]) -> T:
    """Read the client's request into the hub, once an attempt; the provider may change what it gets.

    Raises InvalidRequest, also where the face's dialect cannot become a `kind`.
    """
    found = exchange.hub_request
    if found is None:
        side = exchange.face.dialect.client_side
        found = exchange.hub_request = side.read_request(exchange) if side is not None else None
    if not isinstance(found, kind):
        where = exchange.candidate.upstream.name if exchange.candidate is not None else "this upstream"
        raise InvalidRequest(
            f"{where} does not serve {exchange.face.path or exchange.face.dialect.name}; "
            "choose another model.",
            param="model",
        )
    return found


def is_strict(exchange: Exchange) -> bool:
    """Say whether the client wants an error where a parameter would be dropped (`X-Raven-Strict: true`)."""
    value = exchange.headers.get("x-raven-strict", "false").strip().lower()
    if value not in {"true", "false"}:
        raise InvalidRequest("X-Raven-Strict: send true or false.", param="X-Raven-Strict")
    return value == "true"


def refuse_dropped(exchange: Exchange, dropped: Iterable[str]) -> None:
    """Under `X-Raven-Strict: true`, raise InvalidRequest that names all of `dropped`, if any."""
    names = list(dropped)
    if not names or not is_strict(exchange):
        return
    where = exchange.candidate.upstream.name if exchange.candidate is not None else "the provider"
    raise InvalidRequest(
        f"{where} does not support: {', '.join(names)}. "
        "Leave it out, or send the request without X-Raven-Strict to have it dropped.",
        code="unsupported_parameter",
        param=names[0],
        metadata={"unsupported_parameters": names},
    )


# -- replies -------------------------------------------------------------------------


class _TallyTap:
    """The meter of a translation as a usage tap: the translator has seen the bytes already."""

    __slots__ = ("close", "written")

    def __init__(self, tally: Callable[[], Tally], written: Callable[[], int] | None) -> None:
        self.close = tally
        self.written = written

    def feed(self, data: bytes) -> None:
        """Look at nothing."""


class Translation:
    """The stage of a translated reply.

    `content_type` is what the client gets. `tap` is its usage tap: the bytes are read once.
    """

    __slots__ = ("close", "content_type", "feed", "tap")

    def __init__(
        self,
        content_type: str,
        feed: Callable[[bytes], bytes],
        close: Callable[[], bytes],
        tally: Callable[[], Tally],
        written: Callable[[], int] | None = None,
    ) -> None:
        self.content_type = content_type
        self.feed = feed
        self.close = close
        self.tap = _TallyTap(tally, written)


def open_translation(exchange: Exchange, side: ProviderSide, *, streamed: bool) -> Translation:
    """Give the stage that makes the client's dialect of a reply; `streamed` is what the vendor sends.

    A client gets what it asked for, a stream or a whole reply, whichever the vendor sends.
    """
    client = exchange.face.dialect.client_side
    if client is None:  # `read_request` would have refused
        raise GatewayError(f"The dialect {exchange.face.dialect.name} cannot be translated.")
    meter = Meter(exchange)
    if streamed and exchange.stream:
        stream = _Stream(exchange, meter, side.open_reader(), client.open_writer(exchange))
        return Translation(SSE, stream.feed, stream.close, meter.tally, meter.count)
    whole = _Whole(exchange, meter, side, client, streamed=streamed)
    return Translation(SSE if exchange.stream else JSON, whole.feed, whole.close, meter.tally)


class _Stream:
    __slots__ = ("_exchange", "_has_written", "_is_over", "_meter", "_reader", "_writer")

    def __init__(self, exchange: Exchange, meter: Meter, reader: Reader, writer: Writer) -> None:
        self._exchange = exchange
        self._meter = meter
        self._reader = reader
        self._writer = writer
        self._is_over = False
        self._has_written = False

    def feed(self, data: bytes) -> bytes:
        return b"" if self._is_over else self._pass(self._reader.feed(data))

    def close(self) -> bytes:
        return b"" if self._is_over else self._pass(self._reader.close())

    def _pass(self, events: Iterable[hub.Event]) -> bytes:
        out: list[bytes] = []
        try:
            for event in events:
                self._meter.note(event)
                if isinstance(event, hub.Failed):
                    out.append(self._fail(event, b"".join(out)))
                    break
                if isinstance(event, hub.Ended):
                    out.append(self._end())
                    break
                out.append(self._writer.write(event))
        except UNREADABLE:
            failure = hub.Failed(message="The provider sent something that cannot be read.")
            self._meter.note(failure)
            out.append(self._fail(failure, b"".join(out)))
        data = b"".join(out)
        self._has_written = self._has_written or bool(data)
        return data

    def _end(self) -> bytes:
        self._is_over = True
        rest = b""
        if self._meter.usage is None:
            self._meter.usage = self._meter.estimate()
            rest = self._writer.write(hub.UsageReported(self._meter.usage))
        return rest + self._writer.write(hub.Ended())

    def _fail(self, failure: hub.Failed, before: bytes) -> bytes:
        """End with an error event, and none of the events that would say that all is well."""
        self._is_over = True
        error = refuse_event(self._exchange, failure)
        render = self._exchange.face.dialect.render_stream_error
        if render is None or not (self._has_written or before):
            raise error  # nothing is out yet: a proper error reply, if the head is not out either
        return render(error, self._exchange.id)


class _Whole:
    __slots__ = ("_client", "_exchange", "_meter", "_parts", "_side", "_streamed")

    def __init__(
        self, exchange: Exchange, meter: Meter, side: ProviderSide, client: ClientSide, *, streamed: bool
    ) -> None:
        self._exchange = exchange
        self._meter = meter
        self._side = side
        self._client = client
        self._streamed = streamed
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        self._parts.append(data)
        return b""

    def close(self) -> bytes:
        body = b"".join(self._parts)
        try:
            is_stream = self._streamed or body.lstrip()[:6].startswith((b"data:", b"event:"))
            reply = self._gather(body) if is_stream else self._side.read_reply(body)
        except UNREADABLE as error:
            raise UpstreamTruncated("The provider's reply cannot be read.") from error
        if not isinstance(reply, hub.ChatReply):
            self._meter.usage, self._meter.is_complete = reply.usage, True
            return self._client.write_reply(reply, self._exchange)
        return self._render(reply)

    def _render(self, reply: hub.ChatReply) -> bytes:
        meter = self._meter
        for event in hub.events_of(reply):
            meter.note(event)
        if reply.usage is None:
            meter.usage = reply.usage = meter.estimate()
        if not self._exchange.stream:
            return self._client.write_reply(reply, self._exchange)
        writer = self._client.open_writer(self._exchange)
        return b"".join([writer.write(event) for event in hub.events_of(reply)])

    def _gather(self, body: bytes) -> hub.ChatReply:
        reader = self._side.open_reader()
        events = [*reader.feed(body), *reader.close()]
        for event in events:
            if isinstance(event, hub.Failed):
                self._meter.note(event)
                raise refuse_event(self._exchange, event)
        if not any(isinstance(event, hub.Ended) for event in events):
            raise UpstreamTruncated("The provider's stream ended before it was complete.")
        return hub.gather(events)
