"""The parts of a Responses stream that are open for a while: messages, thoughts, calls.

Each knows its place (`item_id`, `output_index`, …) and what was written to it, and gives the frames that
open it, add to it and close it. Frames of single tokens are made of bytes that were rendered before.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.hub import Annotation, Reasoning, ReasoningDelta, ToolCallStarted

from .objects import item_id
from .output import annotation_of, call_item, message_item, reasoning_item, refusal_part, text_part
from .thoughts import belongs_to, name_of, wrap

__all__ = ["CallPiece", "Emitter", "MessagePiece", "ThoughtPiece"]

_encode = msgspec.json.encode


class Emitter:
    """Numbers events and items, and keeps the items that are done, in order, for the last event.

    `logprobs` wait for the text that they belong to.
    """

    __slots__ = ("_heads", "_request_id", "_sequence", "done", "items", "logprobs")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._sequence = 0
        self._heads: dict[str, bytes] = {}
        self.items = 0
        self.done: list[Any] = []
        self.logprobs: list[dict[str, Any]] = []

    def emit(self, kind: str, rest: bytes) -> bytes:
        """Frame one event; `rest` are its other members, without braces."""
        head = self._heads.get(kind)
        if head is None:
            name = kind.encode()
            head = self._heads[kind] = b'event: %b\ndata: {"type":"%b","sequence_number":' % (name, name)
        number = self._sequence
        self._sequence = number + 1
        return b"%b%d,%b}\n\n" % (head, number, rest)

    def next_item(self, prefix: str) -> tuple[int, str]:
        """Give the next item's index and a name for it."""
        index = self.items
        self.items = index + 1
        self.done.append(None)
        return index, item_id(prefix, self._request_id, index)

    def name_call(self, index: int) -> str:
        """Name a call that its vendor left without an id."""
        return item_id("call", self._request_id, index)

    def add_item(self, index: int, item: dict[str, Any]) -> bytes:
        """Say that an item begins."""
        return self.emit(
            "response.output_item.added", b'"output_index":%d,"item":%b' % (index, _encode(item))
        )

    def finish_item(self, index: int, item: dict[str, Any]) -> bytes:
        """Say that an item is done."""
        raw = _encode(item)
        self.done[index] = msgspec.Raw(raw)
        return self.emit("response.output_item.done", b'"output_index":%d,"item":%b' % (index, raw))


class MessagePiece:
    """A message of the model's, with one content part open at a time."""

    __slots__ = ("_content", "_emitter", "_id", "_kind", "_notes", "_part", "_pieces", "_place", "index")

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self.index, self._id = emitter.next_item("msg")
        self._content: list[dict[str, Any]] = []
        self._kind = ""  # "output_text" or "refusal" while a part is open
        self._part = 0
        self._pieces: list[str] = []
        self._notes: list[dict[str, Any]] = []
        self._place = b""

    def open(self) -> bytes:
        return self._emitter.add_item(self.index, message_item(self._id, "in_progress", []))

    def takes(self, kind: str, part: int) -> bool:
        """Say whether the open part is this one."""
        return self._kind == kind and self._part == part

    def begin(self, kind: str, part: int) -> bytes:
        """Open a content part, after closing the one that is open."""
        before = self._end_part()
        self._kind, self._part, self._pieces, self._notes = kind, part, [], []
        self._place = b'"item_id":%b,"output_index":%d,"content_index":%d,' % (
            _encode(self._id),
            self.index,
            len(self._content),
        )
        new = refusal_part("") if kind == "refusal" else text_part("", [], [])
        return before + self._emitter.emit(
            "response.content_part.added", self._place + b'"part":' + _encode(new)
        )

    def write(self, text: str) -> bytes:
        self._pieces.append(text)
        if self._kind == "refusal":
            return self._emitter.emit("response.refusal.delta", self._place + b'"delta":' + _encode(text))
        return self._emitter.emit(
            "response.output_text.delta", b'%b"delta":%b,"logprobs":[]' % (self._place, _encode(text))
        )

    def annotate(self, annotation: Annotation) -> bytes:
        note = annotation_of(annotation, sum(map(len, self._pieces)))
        self._notes.append(note)
        rest = b'%b"annotation_index":%d,"annotation":%b' % (self._place, len(self._notes) - 1, _encode(note))
        return self._emitter.emit("response.output_text.annotation.added", rest)

    def close(self, status: str) -> bytes:
        before = self._end_part()
        return before + self._emitter.finish_item(self.index, message_item(self._id, status, self._content))

    def _end_part(self) -> bytes:
        if not self._kind:
            return b""
        emit, text = self._emitter.emit, "".join(self._pieces)
        if self._kind == "refusal":
            part = refusal_part(text)
            said = emit("response.refusal.done", self._place + b'"refusal":' + _encode(text))
        else:
            logprobs, self._emitter.logprobs = self._emitter.logprobs, []
            part = text_part(text, self._notes, logprobs)
            rest = b'%b"text":%b,"logprobs":%b' % (self._place, _encode(text), _encode(logprobs))
            said = emit("response.output_text.done", rest)
        self._content.append(part)
        self._kind = ""
        return said + emit("response.content_part.done", self._place + b'"part":' + _encode(part))


class ThoughtPiece:
    """A reasoning item; its visible text is one summary part, or several where OpenAI tells them apart."""

    __slots__ = ("_emitter", "_id", "_is_open", "_part", "_pieces", "_place", "_texts", "_thought", "index")

    def __init__(self, emitter: Emitter, first: ReasoningDelta) -> None:
        self._emitter = emitter
        self._thought = Reasoning(kind=first.kind, format=first.format, id=first.id)
        self.index, own = emitter.next_item("rs")
        self._id = name_of(self._thought) or own
        self._part = first.part
        self._texts: list[str] = []
        self._pieces: list[str] = []
        self._is_open = False  # a summary part
        self._place = b""

    def open(self) -> bytes:
        return self._emitter.add_item(self.index, reasoning_item(self._id, "in_progress", [], None))

    def takes(self, event: ReasoningDelta) -> bool:
        """Say whether more belongs to this item."""
        if event.part == self._part:
            return True
        return belongs_to(Reasoning(format=event.format, id=event.id), self._thought)

    def write(self, event: ReasoningDelta) -> bytes:
        thought, out = self._thought, b""
        if event.part != self._part:
            out = self._end_part()
            self._part = event.part
        if event.kind != "encrypted" or thought.kind == "encrypted":
            thought.kind = event.kind
        thought.format = event.format or thought.format
        thought.id = event.id or thought.id
        if event.signature is not None:
            thought.signature = (thought.signature or "") + event.signature
        if event.data is not None:
            thought.data = (thought.data or "") + event.data
        if not event.text:
            return out
        if not self._is_open:
            out += self._begin_part()
        self._pieces.append(event.text)
        return out + self._emitter.emit(
            "response.reasoning_summary_text.delta", self._place + b'"delta":' + _encode(event.text)
        )

    def close(self, status: str) -> bytes:
        before = self._end_part()
        item = reasoning_item(self._id, status, self._texts, wrap(self._thought))
        return before + self._emitter.finish_item(self.index, item)

    def _begin_part(self) -> bytes:
        self._is_open, self._pieces = True, []
        self._place = b'"item_id":%b,"output_index":%d,"summary_index":%d,' % (
            _encode(self._id),
            self.index,
            len(self._texts),
        )
        part = b'"part":{"type":"summary_text","text":""}'
        return self._emitter.emit("response.reasoning_summary_part.added", self._place + part)

    def _end_part(self) -> bytes:
        if not self._is_open:
            return b""
        self._is_open = False
        text = "".join(self._pieces)
        self._texts.append(text)
        emit, said = self._emitter.emit, _encode(text)
        part = b'"part":{"type":"summary_text","text":%b}' % said
        return emit("response.reasoning_summary_text.done", self._place + b'"text":' + said) + emit(
            "response.reasoning_summary_part.done", self._place + part
        )


class CallPiece:
    """A call of a function or custom tool. Several may be open: some vendors mix their arguments."""

    __slots__ = (
        "_call_id",
        "_custom",
        "_emitter",
        "_id",
        "_name",
        "_namespace",
        "_pieces",
        "_place",
        "index",
    )

    def __init__(self, emitter: Emitter, event: ToolCallStarted, name: str, namespace: str | None) -> None:
        self._emitter = emitter
        self._custom = event.custom
        self._name = name
        self._namespace = namespace
        self._call_id = event.id or emitter.name_call(event.index)
        self.index, self._id = emitter.next_item("ctc" if event.custom else "fc")
        self._place = b'"item_id":%b,"output_index":%d,' % (_encode(self._id), self.index)
        self._pieces: list[str] = []

    def open(self) -> bytes:
        return self._emitter.add_item(self.index, self._make("in_progress", ""))

    def write(self, arguments: str) -> bytes:
        self._pieces.append(arguments)
        kind = "custom_tool_call_input" if self._custom else "function_call_arguments"
        return self._emitter.emit(f"response.{kind}.delta", self._place + b'"delta":' + _encode(arguments))

    def close(self, status: str) -> bytes:
        text = "".join(self._pieces)
        if self._custom:
            kind, rest = "response.custom_tool_call_input.done", b'"input":' + _encode(text)
        else:
            kind, rest = "response.function_call_arguments.done", b'"arguments":' + _encode(text)
        done = self._emitter.emit(kind, self._place + rest)
        return done + self._emitter.finish_item(self.index, self._make(status, text))

    def _make(self, status: str, arguments: str) -> dict[str, Any]:
        return call_item(
            self._id,
            status,
            self._call_id,
            self._name,
            arguments,
            custom=self._custom,
            namespace=self._namespace,
        )
