"""Streams of Cohere's v2 chat, read into the hub's events.

`message-start (content-start content-delta* content-end | tool-plan-delta* | tool-call-start
tool-call-delta* tool-call-end | citation-start citation-end)* message-end`, then `data: [DONE]`.
Source: Cohere's API reference, v2/chat-stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.sse import Event

from .replies import Citation, Content, Function, Logprob, VendorCall, annotation_of, logprobs_of
from .usage import Spent, finish_of, usage_of

__all__ = ["StreamState"]

_PLAN = -1  # the tool plan, among the indexes of content blocks


class _Message(msgspec.Struct, gc=False):
    content: Content | list[Any] | None = None
    tool_plan: str | None = None
    tool_calls: VendorCall | list[Any] | None = None
    citations: Citation | list[Any] | None = None


class _Delta(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: Spent | None = None
    error: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int | None = 0
    id: str | None = None
    delta: _Delta | None = None
    logprobs: Logprob | None = None
    message: Any = None  # an error's, in the place of an event


_decode = msgspec.json.Decoder(_Event).decode
_NO_MESSAGE = _Message()


class StreamState:
    """What is known of a stream so far. `read` takes its events, `end` the end of its bytes."""

    __slots__ = ("_calls", "_has_started", "_id", "_open", "_texts", "_thoughts", "_waiting")

    def __init__(self) -> None:
        self._id = ""
        self._has_started = False
        self._texts: dict[int, int] = {}  # Cohere's index of a block → ours, counted by kind
        self._thoughts: dict[int, int] = {}
        self._calls: dict[int, int] = {}
        self._open: set[int] = set()  # calls, by Cohere's index, whose arguments have not come yet
        self._waiting: list[hub.Annotation] = []  # citations that came before any text

    def read(self, event: Event) -> Iterator[hub.Event]:
        """Take one event that has data."""
        data = event.data or b""
        if data == b"[DONE]":
            return
        found = _decode(data)
        kind = found.type
        message = (found.delta.message if found.delta is not None else None) or _NO_MESSAGE
        if kind == "message-start":
            self._id = found.id or self._id
        if not self._has_started:
            self._has_started = True
            yield hub.Started(id=self._id)
        if kind in ("content-delta", "content-start"):
            yield from self._read_content(found, message)
        elif kind == "tool-call-delta" or kind == "tool-call-start":
            yield from self._read_call(found, message, starts=kind == "tool-call-start")
        elif kind == "tool-plan-delta":
            if message.tool_plan:
                yield hub.ReasoningDelta(message.tool_plan, 0, self._thought(_PLAN))
        elif kind == "tool-call-end":
            yield from self._close_call(found.index or 0)
        elif kind == "citation-start":
            yield from self._cite(message)
        elif kind == "message-end":
            yield from self._finish(found.delta or _Delta())
        elif kind in ("", "error") and isinstance(found.message, str):
            yield hub.Failed(message=found.message)

    def end(self) -> Iterator[hub.Event]:
        """The bytes ended: `message-end` was the stream's own end, and said so."""
        return iter(())

    def _read_content(self, event: _Event, message: _Message) -> Iterator[hub.Event]:
        content, index = message.content, event.index or 0
        if not isinstance(content, Content):
            return
        if content.thinking:
            yield hub.ReasoningDelta(content.thinking, 0, self._thought(index))
        if content.text or content.type == "text":
            part = self._texts.setdefault(index, len(self._texts))
            if content.text:
                yield hub.TextDelta(content.text, 0, part)
                while self._waiting:
                    yield hub.AnnotationAdded(self._waiting.pop(0), 0, part)
        if event.logprobs is not None:
            yield hub.LogprobsAdded(logprobs_of([event.logprobs]))

    def _thought(self, index: int) -> int:
        return self._thoughts.setdefault(index, len(self._thoughts))

    def _read_call(self, event: _Event, message: _Message, *, starts: bool) -> Iterator[hub.Event]:
        call, index = message.tool_calls, event.index or 0
        if not isinstance(call, VendorCall):
            return
        function = call.function or Function()
        if starts or index not in self._calls:
            number = self._calls[index] = len(self._calls)
            self._open.add(index)
            call_id = call.id or f"call_{self._id}_{number}"
            yield hub.ToolCallStarted(number, call_id, function.name or "")
        if function.arguments:
            self._open.discard(index)
            yield hub.ToolCallDelta(self._calls[index], function.arguments)

    def _close_call(self, index: int) -> Iterator[hub.Event]:
        if index in self._open:
            self._open.discard(index)
            yield hub.ToolCallDelta(self._calls[index], "{}")

    def _cite(self, message: _Message) -> Iterator[hub.Event]:
        citation = message.citations
        if not isinstance(citation, Citation):
            return
        last = max(self._texts.values(), default=None)
        index = citation.content_index
        if citation.is_of_text and index is not None:
            last = self._texts.get(index, last)
        if last is None:
            self._waiting.append(annotation_of(citation))
        else:
            yield hub.AnnotationAdded(annotation_of(citation), 0, last)

    def _finish(self, delta: _Delta) -> Iterator[hub.Event]:
        if delta.error:
            status = 504 if delta.finish_reason == "TIMEOUT" else None
            yield hub.Failed(message=delta.error, code=delta.finish_reason, status=status)
            return
        for index in sorted(self._open):
            yield from self._close_call(index)
        word = delta.finish_reason
        yield hub.Finished(finish=finish_of(word, has_calls=bool(self._calls)), native=word)
        usage = usage_of(delta.usage)
        if usage is not None:
            yield hub.UsageReported(usage)
        yield hub.Ended()
