"""What a vendor that serves the Responses API sends, as hub events: streams, and whole replies.

Whole replies are read as streams in which every item comes at once, so both mean the same. An item whose
deltas never came is read when it is done, and one that was told twice counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.dialects import SSEReader
from raven_proxy.errors import UpstreamRefused
from raven_proxy.metering import UNREADABLE
from raven_proxy.refusals import scrub

from .converting import annotation_of, failure_of, family_of, logprobs_of
from .found import Response, StreamEvent, finish_of, kind_of, read_item, read_response, usage_of
from .items import CALLS, Items

__all__ = ["open_reader", "read_alone", "read_reply"]

_decode = msgspec.json.Decoder(StreamEvent).decode
_read_error = msgspec.json.Decoder(dict[str, Any]).decode
_NOTHING: tuple[hub.Event, ...] = ()


def open_reader() -> SSEReader:
    """Begin a stream."""
    state = _State()
    return SSEReader(lambda event: state.read(event.data or b""), state.end, _read_document)


def _read_document(body: bytes) -> Iterable[hub.Event]:
    """Read a response, or an error, that came in the place of a stream."""
    response = read_response(body)
    state = _State()
    return state.read(body) if response.id is None and response.output is None else state.finish(response)


def read_alone(data: bytes | None) -> Iterable[hub.Event]:
    """Read one event's data without those before it; nothing if it cannot be read. For who only counts."""
    try:
        return _State().read(data) if data is not None else _NOTHING
    except UNREADABLE:
        return _NOTHING


def read_reply(body: bytes) -> hub.ChatReply:
    """Read a whole reply. Raises UpstreamRefused for a failed one, msgspec's errors for no response."""
    response = read_response(body)
    if response.id is None and response.output is None:
        raise ValueError("this is no response")
    state = _State()
    events = state.finish(response)
    failure = next((event for event in events if isinstance(event, hub.Failed)), None)
    if failure is not None:
        status = failure.status or 502
        raise UpstreamRefused(scrub(failure.message), status=status, code=failure.code, retryable=False)
    return hub.gather(events)


class _State:
    """What was told of one response so far. Items are known by their `output_index`."""

    def __init__(self) -> None:
        self._is_begun = False
        self._is_over = False
        self._items = Items()
        self._handlers: dict[str, Callable[[StreamEvent], Iterable[hub.Event]]] = {
            "response.output_text.delta": self._read_text,
            "response.function_call_arguments.delta": self._read_arguments,
            "response.custom_tool_call_input.delta": self._read_arguments,
            "response.reasoning_summary_text.delta": self._read_summary,
            "response.reasoning_text.delta": self._read_thought,
            "response.refusal.delta": self._read_refusal,
            "response.output_text.annotation.added": self._read_annotation,
            "response.output_item.added": self._read_added,
            "response.output_item.done": self._read_done,
            "response.created": self._read_begun,
            "response.queued": self._read_begun,
            "response.in_progress": self._read_begun,
            "response.completed": self._read_terminal,
            "response.incomplete": self._read_terminal,
            "response.failed": self._read_terminal,
            "response.cancelled": self._read_terminal,
            "error": self._read_error,
            "": self._read_error,
            "keepalive": lambda _: (hub.Pinged(),),
        }

    # -- framing -----------------------------------------------------------------------

    def read(self, data: bytes) -> Iterable[hub.Event]:
        if self._is_over or data == b"[DONE]":
            return _NOTHING
        try:
            found = _decode(data)
        except msgspec.ValidationError:
            kind = _read_error(data).get("type")
            if isinstance(kind, str) and kind in self._handlers:
                raise
            return _NOTHING  # an event of a tool that is not read here
        handler = self._handlers.get(found.type)
        return handler(found) if handler is not None else _NOTHING

    def end(self) -> Iterable[hub.Event]:
        return _NOTHING

    # -- lifecycle ---------------------------------------------------------------------

    def _read_begun(self, event: StreamEvent) -> Iterable[hub.Event]:
        return _NOTHING if self._is_begun else self.start(read_response(event.response))

    def start(self, response: Response) -> list[hub.Event]:
        """Begin a response: once, by whichever event carries it first."""
        if self._is_begun:
            return []
        self._is_begun = True
        return [
            hub.Started(
                id=response.id or "",
                model=response.model or "",
                created=int(response.created_at or 0),
                service_tier=response.service_tier,
            )
        ]

    def _read_terminal(self, event: StreamEvent) -> Iterable[hub.Event]:
        return self.finish(read_response(event.response))

    def finish(self, response: Response) -> list[hub.Event]:
        """End a response; its items are read here if nothing was told of any before."""
        self._is_over = True
        events = [] if self._items.is_told else self.start(response)
        if not self._items.is_told:
            for index, raw in enumerate(response.output or ()):
                events += self._items.finish(index, raw)
        usage = usage_of(response.usage)
        if usage is not None:
            events.append(hub.UsageReported(usage))
        if response.status == "failed" or (response.error and response.status is None):
            return [*events, failure_of({"error": response.error}), hub.Ended()]
        finish: Any = finish_of(response, has_calls=bool(self._items.calls))
        native = response.status
        if response.status == "incomplete":
            native = (response.incomplete_details or {}).get("reason") or native
        return [*events, hub.Finished(finish=finish, native=native), hub.Ended()]

    def _read_error(self, event: StreamEvent) -> Iterable[hub.Event]:
        if not event.type and not event.error:
            return _NOTHING
        table = event.error if isinstance(event.error, dict | str) and event.error else None
        said = {"error": table} if table else {"message": event.message, "code": event.code}
        return (failure_of(said),)

    # -- deltas ------------------------------------------------------------------------

    def _read_text(self, event: StreamEvent) -> Iterable[hub.Event]:
        text = event.delta
        if not isinstance(text, str):
            return _NOTHING
        delta = hub.TextDelta(text, 0, self._items.text(event.output_index, event.content_index))
        if event.logprobs:
            return (delta, hub.LogprobsAdded({"content": logprobs_of(event.logprobs)}))
        return (delta,)

    def _read_refusal(self, event: StreamEvent) -> Iterable[hub.Event]:
        self._items.refused.add((event.output_index, event.content_index))
        self._items.is_told = True
        return (hub.RefusalDelta(event.delta),) if isinstance(event.delta, str) else _NOTHING

    def _read_summary(self, event: StreamEvent) -> Iterable[hub.Event]:
        return self._think(event, "summary", event.summary_index)

    def _read_thought(self, event: StreamEvent) -> Iterable[hub.Event]:
        return self._think(event, "text", event.content_index)

    def _think(self, event: StreamEvent, kind: Any, index: int) -> Iterable[hub.Event]:
        if not isinstance(event.delta, str):
            return _NOTHING
        number = self._items.thought(event.output_index, kind, index)
        return (hub.ReasoningDelta(event.delta, 0, number, kind, format=family_of(kind), id=event.item_id),)

    def _read_arguments(self, event: StreamEvent) -> Iterable[hub.Event]:
        index = self._items.calls.get(event.output_index)
        if index is None or not isinstance(event.delta, str) or not event.delta:
            return _NOTHING
        self._items.argued.add(event.output_index)
        return (hub.ToolCallDelta(index, event.delta),)

    def _read_annotation(self, event: StreamEvent) -> Iterable[hub.Event]:
        if event.annotation is None:
            return _NOTHING
        place = (event.output_index, event.content_index)
        self._items.notes[place] = self._items.notes.get(place, 0) + 1
        return (hub.AnnotationAdded(annotation_of(event.annotation), 0, self._items.text(*place)),)

    # -- items -------------------------------------------------------------------------

    def _read_added(self, event: StreamEvent) -> Iterable[hub.Event]:
        self._items.is_told = True
        if kind_of(event.item) not in CALLS:
            return _NOTHING
        return self._items.start_call(event.output_index, read_item(event.item))

    def _read_done(self, event: StreamEvent) -> Iterable[hub.Event]:
        return self._items.finish(event.output_index, event.item)
