"""A translated reply as a Responses stream: hub events in, server-sent events out.

Order and fields are OpenAI's: `response.created` and `.in_progress` first, each item added and done, each
part of it too, and one terminal event with the whole response. Every event has the next
`sequence_number`; there is no `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

from .objects import Frame, status_of
from .output import image_item, logprobs_of
from .pieces import CallPiece, Emitter, MessagePiece, ThoughtPiece
from .requests import NAMESPACES

__all__ = ["ResponsesWriter"]


class ResponsesWriter:
    """Writes one stream."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._names: dict[str, tuple[str, str]] = exchange.notes.get(NAMESPACES, {})
        self._emitter = Emitter(exchange.id)
        self._frame: Frame | None = None
        self._message: MessagePiece | None = None  # of these two at most one is open
        self._thought: ThoughtPiece | None = None
        self._calls: dict[int, CallPiece] = {}
        self._status: str = "completed"
        self._details: dict[str, Any] | None = None
        self._error: dict[str, Any] | None = None
        self._usage: Usage | None = None
        self._handlers: dict[type[Any], Callable[[Any], bytes]] = {
            hub.Started: self._start,
            hub.TextDelta: self._write_text,
            hub.RefusalDelta: self._write_refusal,
            hub.ReasoningDelta: self._write_thought,
            hub.ToolCallStarted: self._open_call,
            hub.ToolCallDelta: self._write_arguments,
            hub.AnnotationAdded: self._annotate,
            hub.AudioDelta: self._write_transcript,
            hub.PartMade: self._write_part,
            hub.LogprobsAdded: self._keep_logprobs,
            hub.Finished: self._finish,
            hub.UsageReported: self._keep_usage,
            hub.Pinged: self._ping,
            hub.Ended: self._end,
        }

    def write(self, event: hub.Event) -> bytes:
        """Give the frames of one event; b"" for any choice but the first: a response has one answer."""
        kind = type(event)
        if getattr(event, "choice", 0):
            return b""
        if self._frame is None and kind is not hub.Started:
            return self._start(hub.Started()) + self._handlers[kind](event)
        return self._handlers[kind](event)

    # -- what comes --------------------------------------------------------------------

    def _start(self, event: hub.Started) -> bytes:
        if self._frame is not None:
            return b""
        self._frame = Frame(self._exchange, event.model, event.created, event.service_tier)
        self._usage = event.usage
        whole = b'"response":' + self._frame.render("in_progress", [])
        emit = self._emitter.emit
        return emit("response.created", whole) + emit("response.in_progress", whole)

    def _write_text(self, event: hub.TextDelta) -> bytes:
        if not event.text:
            return b""
        message = self._message
        if message is not None and message.takes("output_text", event.part):
            return message.write(event.text)
        before, message = self._open_message()
        return before + message.begin("output_text", event.part) + message.write(event.text)

    def _write_refusal(self, event: hub.RefusalDelta) -> bytes:
        if not event.text:
            return b""
        before, message = self._open_message()
        if not message.takes("refusal", 0):
            before += message.begin("refusal", 0)
        return before + message.write(event.text)

    def _write_transcript(self, event: hub.AudioDelta) -> bytes:
        return self._write_text(hub.TextDelta(event.transcript))  # nobody can ask for sound here

    def _write_thought(self, event: hub.ReasoningDelta) -> bytes:
        thought = self._thought
        if thought is not None and thought.takes(event):
            return thought.write(event)
        before = self._close_current("completed")
        self._thought = thought = ThoughtPiece(self._emitter, event)
        return before + thought.open() + thought.write(event)

    def _open_call(self, event: hub.ToolCallStarted) -> bytes:
        before = self._close_current("completed")
        namespace, name = self._names.get(event.name, (None, event.name))
        self._calls[event.index] = call = CallPiece(self._emitter, event, name, namespace)
        return before + call.open()

    def _write_arguments(self, event: hub.ToolCallDelta) -> bytes:
        call = self._calls.get(event.index)
        return call.write(event.arguments) if call is not None and event.arguments else b""

    def _annotate(self, event: hub.AnnotationAdded) -> bytes:
        message = self._message
        if message is not None and message.takes("output_text", event.part):
            return message.annotate(event.annotation)
        before, message = self._open_message()
        return before + message.begin("output_text", event.part) + message.annotate(event.annotation)

    def _write_part(self, event: hub.PartMade) -> bytes:
        part = event.part
        if not isinstance(part, hub.Image):
            return b""  # what another vendor's own tools did has no form here
        if part.media.data is None:
            return self._write_text(hub.TextDelta(f"![image]({part.media.url or ''})", part=-1))
        before = self._close_current("completed")
        emitter = self._emitter
        index, name = emitter.next_item("ig")
        place = b'"item_id":"%b","output_index":%d' % (name.encode(), index)
        begun = {"id": name, "type": "image_generation_call", "status": "in_progress", "result": None}
        return b"".join(
            [
                before,
                emitter.add_item(index, begun),
                emitter.emit("response.image_generation_call.in_progress", place),
                emitter.emit("response.image_generation_call.completed", place),
                emitter.finish_item(index, image_item(name, part.media.data, part.media.media_type)),
            ]
        )

    def _keep_logprobs(self, event: hub.LogprobsAdded) -> bytes:
        self._emitter.logprobs += logprobs_of(event.logprobs)
        return b""

    def _keep_usage(self, event: hub.UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _ping(self, _: hub.Pinged) -> bytes:
        return b": keep-alive\n\n"

    def _finish(self, event: hub.Finished) -> bytes:
        self._status, self._details = status_of(event.finish)
        if self._status == "failed":
            self._error = {
                "code": "server_error",
                "message": f"The model stopped: {event.native or 'error'}.",
            }
        return self._close_all()

    def _end(self, _: hub.Ended) -> bytes:
        frame = self._frame
        assert frame is not None  # `write` began it
        rest = self._close_all()
        whole = frame.render(
            self._status,
            self._emitter.done,
            usage=self._usage,
            details=self._details,
            error=self._error,
        )
        return rest + self._emitter.emit(f"response.{self._status}", b'"response":' + whole)

    # -- what is open ------------------------------------------------------------------

    def _open_message(self) -> tuple[bytes, MessagePiece]:
        if self._message is not None:
            return b"", self._message
        before = self._close_current("completed")
        self._message = message = MessagePiece(self._emitter)
        return before + message.open(), message

    def _close_current(self, status: str) -> bytes:
        piece = self._message or self._thought
        self._message = self._thought = None
        return piece.close(status) if piece is not None else b""

    def _close_all(self) -> bytes:
        """Close what is open, in order; only the last item can have been cut short."""
        current = self._message or self._thought
        pieces = [*self._calls.values(), *([current] if current is not None else [])]
        self._message = self._thought = None
        self._calls = {}
        pieces.sort(key=lambda piece: piece.index)
        last = "incomplete" if self._status == "incomplete" else "completed"
        newest = self._emitter.items - 1
        return b"".join([p.close(last if p.index == newest else "completed") for p in pieces])
