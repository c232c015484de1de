"""Counts what a reply says in the hub's terms: usage, finish reason, error, and the model's words.

For translated replies, and for those that pass untouched in a dialect whose reader is known.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from . import hub
from .errors import UpstreamError
from .exchange import Usage
from .providers import Tally, UsageTap, estimate_prompt, estimate_tokens
from .refusals import scrub

if TYPE_CHECKING:
    from .dialects import Reader
    from .exchange import Exchange

__all__ = ["UNREADABLE", "EventTap", "Meter", "OpaqueTap", "WholeTap"]

UNREADABLE = (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What a reader may raise for bytes that it cannot make sense of."""

_MOST_OPAQUE = 4 * 2**20  # bytes of a reply of unknown shape that are looked at

_WRITTEN = (hub.TextDelta, hub.ReasoningDelta, hub.RefusalDelta)


class Meter:
    """Counts what goes by; `tally` says what it was."""

    __slots__ = ("_exchange", "asked", "error", "finish", "is_complete", "usage", "written")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.usage: Usage | None = None
        self.asked: Usage | None = None  # what the vendor said of the prompt when it began
        self.finish: str | None = None
        self.error: str | None = None
        self.is_complete = False
        self.written = 0  # bytes of the model's words

    def note(self, event: hub.Event) -> None:
        kind = type(event)
        if kind in _WRITTEN:
            self.written += len(event.text.encode("utf-8", "replace"))  # type: ignore[union-attr]
        elif isinstance(event, hub.ToolCallDelta):
            self.written += len(event.arguments)
        elif isinstance(event, hub.UsageReported):
            self.usage = event.usage
        elif isinstance(event, hub.Finished):
            self.finish = event.finish
        elif isinstance(event, hub.Ended):
            self.is_complete = True
        elif isinstance(event, hub.Started):
            self.asked = event.usage
        elif isinstance(event, hub.Failed):
            credential = self._exchange.credential
            secret = credential.value if credential is not None else ""
            self.error = scrub(event.message, secret)[:2048] or "The provider reported an error."

    def count(self) -> int:
        """Give the bytes of the model's words so far."""
        return self.written

    def estimate(self) -> Usage:
        """Estimate what nobody reported."""
        if self.error is not None and not self.written:
            return Usage(estimated=True)
        found = Usage() if self.asked is None else msgspec.structs.replace(self.asked)
        found.prompt_tokens = found.prompt_tokens or estimate_prompt(self._exchange.body)
        found.completion_tokens = estimate_tokens(self.written)
        found.total_tokens = found.prompt_tokens + found.completion_tokens
        found.reasoning_tokens = min(found.reasoning_tokens, found.completion_tokens)
        found.estimated = True
        return found

    def tally(self) -> Tally:
        return Tally(self.usage or self.estimate(), self.finish, self.is_complete, self.error)


class EventTap:
    """Meters a stream that passes untouched, with its dialect's own reader."""

    __slots__ = ("_meter", "_reader")

    def __init__(self, exchange: Exchange, reader: Reader) -> None:
        self._meter = Meter(exchange)
        self._reader = reader

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""
        for event in self._reader.feed(data):
            self._meter.note(event)

    def written(self) -> int:
        """Count the bytes of the model's words so far."""
        return self._meter.written

    def close(self) -> Tally:
        """Say what was seen. A last event that broke off ends nothing."""
        with suppress(*UNREADABLE):
            for event in self._reader.close():
                self._meter.note(event)
        return self._meter.tally()


class WholeTap:
    """Meters a whole reply that passes untouched."""

    __slots__ = ("_meter", "_parts", "_read")

    def __init__(self, exchange: Exchange, read_reply: Callable[[bytes], Any]) -> None:
        self._meter = Meter(exchange)
        self._read = read_reply
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Keep the next bytes."""
        self._parts.append(data)

    def close(self) -> Tally:
        """Read the reply; one that cannot be read is not complete."""
        meter = self._meter
        body = b"".join(self._parts)
        try:
            reply = self._read(body)
        except UpstreamError as error:  # an error under a status of 200
            meter.error, meter.is_complete = error.message, True
            return meter.tally()
        except UNREADABLE:
            meter.is_complete = _is_json(body)
            return meter.tally()
        if isinstance(reply, hub.ChatReply):
            for event in hub.events_of(reply):
                meter.note(event)
        else:
            meter.usage, meter.is_complete = reply.usage, True
        return meter.tally()


class OpaqueTap:
    """Meters a reply of an endpoint that nobody knows, with a reader that may or may not understand it.

    Only usage that the provider reported counts, and nothing about the reply can be wrong.
    """

    __slots__ = ("_size", "_tap")

    def __init__(self, tap: UsageTap) -> None:
        self._tap: UsageTap | None = tap
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Look at the next bytes; a long reply is not looked at any more."""
        self._size += len(data)
        if self._size > _MOST_OPAQUE:
            self._tap = None
        if self._tap is not None:
            self._tap.feed(data)

    def close(self) -> Tally:
        """Say what was reported, if anything was."""
        tally = self._tap.close() if self._tap is not None else Tally()
        is_reported = tally.usage is not None and not tally.usage.estimated
        return Tally(tally.usage, tally.finish_reason) if is_reported else Tally()


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
