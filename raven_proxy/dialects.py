"""What a dialect gives so that it can be translated: the client's half, the vendor's half.

Protocols, and the framing that vendors with server-sent events share. `translation` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from . import hub
from .sse import Event, EventReader

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["ClientSide", "ProviderSide", "Reader", "SSEReader", "Writer"]


class Reader(Protocol):
    """Makes events of a vendor's stream, whatever the reads look like.

    Both methods may be generators. What they raise (ValueError, KeyError, TypeError, msgspec's errors)
    ends the stream with an error for the client; events that were given before still go out.
    """

    def feed(self, data: bytes) -> Iterable[hub.Event]:
        """Take the next bytes; give the events they complete."""

    def close(self) -> Iterable[hub.Event]:
        """The bytes ended; give what is left. `Ended` only if the dialect's own end was reached."""


class Writer(Protocol):
    """Makes a client's stream of events. It is told neither `Failed` nor anything after it."""

    def write(self, event: hub.Event) -> bytes:
        """Give the frames of one event; b"" where the dialect has none for it.

        `Ended` gives the dialect's terminal frames; the last `UsageReported` has come before it.
        """


class ClientSide(Protocol):
    """What a face's dialect can do with its clients' requests. Stateless."""

    def read_request(self, exchange: Exchange) -> Any:
        """Read `exchange.body` into a request of the hub, for `exchange.candidate`'s model.

        Lists unknown and inexpressible parameters in its `dropped`. Raises InvalidRequest with `param`.
        """

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        """Write a whole reply; `exchange.hub_request` is what was asked."""

    def open_writer(self, exchange: Exchange) -> Writer:
        """Begin a stream."""


class ProviderSide(Protocol):
    """What can be read of a vendor's dialect. Stateless; `open_reader` gives the state machine."""

    def read_reply(self, body: bytes) -> Any:
        """Read a whole reply. Raises ValueError and the like, or GatewayError for an error in a 200."""

    def open_reader(self) -> Reader:
        """Begin a stream."""


class SSEReader:
    """A reader for vendors that stream server-sent events: `read` is told each event that has data.

    `end` is told the end of the bytes. Both may be generators. `whole` reads one JSON document that came in
    the place of a stream, as some vendors send it whatever the content type says.
    """

    __slots__ = ("_end", "_events", "_first", "_read", "_whole")

    def __init__(
        self,
        read: Callable[[Event], Iterable[hub.Event]],
        end: Callable[[], Iterable[hub.Event]],
        whole: Callable[[bytes], Iterable[hub.Event]] | None = None,
    ) -> None:
        self._events = EventReader()
        self._read = read
        self._end = end
        self._whole = whole
        self._first: list[bytes] | None = [] if whole is not None else None  # of what may be a document

    def feed(self, data: bytes) -> Iterable[hub.Event]:
        """Take the next bytes."""
        if self._first is not None:
            self._first.append(data)
            start = b"".join(self._first[:64]).lstrip()[:1]
            if not start or start == b"{":
                return
            data, self._first = b"".join(self._first), None
        for event in self._events.feed(data):
            if event.data is not None:
                yield from self._read(event)

    def close(self) -> Iterable[hub.Event]:
        """The bytes ended; an event whose empty line is missing still counts."""
        if self._first is not None and self._whole is not None:
            document, self._first = b"".join(self._first), None
            if document.strip():
                yield from self._whole(document)
                return
        rest = self._events.close()
        if self._events.pending.strip():
            rest += self._events.feed(b"\n\n")
        for event in rest:
            if event.data is not None:
                yield from self._read(event)
        yield from self._end()
