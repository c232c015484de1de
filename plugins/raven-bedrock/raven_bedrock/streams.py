"""Reads ConverseStream into the hub's events: a state machine without I/O.

A stream ends with `metadata` (usage), which comes after `messageStop`; its bytes may also end there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.dialects import Reader, SSEReader
from raven_proxy.sse import Event

from .citations import join_base64, read_citation, read_redacted
from .eventstream import Decoder, Headers
from .replies import DIALECT, Context, make_image, read_finish, read_reply, read_stop_sequence
from .wire import BlockDelta, BlockStart, BlockStop, Delta, Metadata, Stop, read_fault, status_of

__all__ = ["ConverseSide", "FrameReader"]

_DECODERS: dict[str, Callable[[bytes], Any]] = {
    name: msgspec.json.Decoder(kind).decode
    for name, kind in (
        ("contentBlockDelta", BlockDelta),
        ("contentBlockStart", BlockStart),
        ("contentBlockStop", BlockStop),
        ("messageStop", Stop),
        ("metadata", Metadata),
    )
}
_decode_union = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ConverseSide:
    """Converse as a vendor's dialect. `sse` is for streams that something on the way has unpacked."""

    def __init__(self, context: Context | None = None, *, sse: bool = False) -> None:
        self._context = context or Context()
        self._sse = sse

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply."""
        return read_reply(body, self._context)

    def open_reader(self) -> Reader:
        """Begin a stream."""
        events = _Events(self._context)
        if self._sse:
            return SSEReader(events.read_union, events.close)
        return FrameReader(events.read, events.close)


class FrameReader:
    """A reader for event streams: `read` is told each event's name and payload; faults are told here."""

    __slots__ = ("_decoder", "_end", "_is_over", "_read")

    def __init__(
        self, read: Callable[[str, bytes], Iterable[hub.Event]], end: Callable[[], Iterable[hub.Event]]
    ) -> None:
        self._decoder = Decoder()
        self._read = read
        self._end = end
        self._is_over = False

    def feed(self, data: bytes) -> Iterator[hub.Event]:
        """Take the next bytes. Raises ValueError where they are corrupt."""
        if self._is_over:
            return
        for message in self._decoder.feed(data):
            if message.headers.kind != "event":
                self._is_over = True
                yield read_failure(message.headers, message.payload)
                return
            yield from self._read(message.headers.name, message.payload)

    def close(self) -> Iterator[hub.Event]:
        """The bytes ended; half a message is not an end."""
        if not self._is_over and not self._decoder.has_rest:
            yield from self._end()


def read_failure(headers: Headers, payload: bytes) -> hub.Failed:
    """Read an exception that came as a frame."""
    return hub.Failed(
        message=read_fault(headers, payload), type=headers.name or None, status=status_of(headers.name)
    )


class _Block:
    """A content block that is open. `kind` is "text", "reasoning", "call", "json", "server", "image"."""

    __slots__ = ("annotations", "head", "index", "kind", "pieces", "size")

    def __init__(self, kind: str, index: int = 0, head: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.index = index  # among the client's calls, texts or thoughts
        self.head = head  # a server tool's beginning
        self.pieces: list[Any] = []
        self.annotations: list[dict[str, Any]] = []
        self.size = 0  # characters so far


class _Events:
    """Makes the hub's events of ConverseStream's."""

    __slots__ = ("_answer", "_blocks", "_calls", "_context", "_has_stopped", "_held", "_is_over", "_reads",
                 "_texts", "_thoughts")  # fmt: skip

    def __init__(self, context: Context) -> None:
        self._context = context
        self._blocks: dict[int, _Block] = {}
        self._calls = self._texts = self._thoughts = 0
        self._answer = False  # the tool that stands for a JSON schema was called
        self._held: list[hub.Event] = []  # text, while it is not clear whether that tool will be called
        self._has_stopped = self._is_over = False
        self._reads: dict[str, Callable[[Any], Iterable[hub.Event]]] = {
            "contentBlockDelta": self._read_delta,
            "contentBlockStart": self._read_start,
            "contentBlockStop": self._read_stop,
            "messageStop": self._read_message_stop,
            "metadata": self._read_metadata,
        }

    def read(self, name: str, payload: bytes) -> Iterable[hub.Event]:
        """Read one event; unknown ones are skipped."""
        read = self._reads.get(name)
        if read is not None:
            return read(_DECODERS[name](payload))
        if name == "messageStart":
            return (hub.Started(id=self._context.id, model=self._context.model, created=int(time.time())),)
        return ()

    def read_union(self, event: Event) -> Iterable[hub.Event]:
        """Read one event that was unpacked: an object with the event's name as its only key."""
        for name, value in _decode_union(event.data or b"{}").items():
            if name.endswith("Exception"):
                yield read_failure(Headers("exception", name), bytes(value))
                return
            yield from self.read(name, bytes(value))

    def close(self) -> Iterable[hub.Event]:
        """The bytes ended."""
        return (hub.Ended(),) if self._has_stopped and not self._is_over else ()

    # -- blocks ------------------------------------------------------------------

    def _read_start(self, event: BlockStart) -> Iterable[hub.Event]:
        start, index = event.start, event.content_block_index
        if start is None:
            return
        if (call := start.tool_use) is not None:
            if call.type == "server_tool_use":
                self._blocks[index] = _Block("server", head={"toolUse": msgspec.to_builtins(call)})
            elif self._context.json_tool is not None and call.name == self._context.json_tool:
                self._blocks[index] = _Block("json", self._texts)
                self._texts += 1
                self._answer = True
            else:
                self._blocks[index] = _Block("call", self._calls)
                self._calls += 1
                yield hub.ToolCallStarted(self._calls - 1, call.tool_use_id, call.name)
        elif start.tool_result is not None:
            self._blocks[index] = _Block("server", head={"toolResult": start.tool_result})
        elif start.image is not None:
            self._blocks[index] = _Block("image", head={"format": start.image.format})

    def _read_delta(self, event: BlockDelta) -> Iterable[hub.Event]:
        delta = event.delta
        block = self._blocks.get(event.content_block_index)
        if block is None:
            block = self._blocks[event.content_block_index] = self._open(delta)
        text = delta.text
        if text is not None:
            block.size += len(text)
            if not text:
                return ()
            found = hub.TextDelta(text, 0, block.index)
            if self._context.json_tool is None:
                return (found,)
            self._held.append(found)
            return ()
        if delta.tool_use is not None:
            return self._grow_call(block, delta.tool_use.input)
        if delta.reasoning_content is not None:
            return self._grow_reasoning(block, delta)
        if delta.citation is not None:
            block.annotations.append(delta.citation)
        elif delta.tool_result is not None:
            block.pieces += delta.tool_result
        elif delta.image is not None:
            source = delta.image.source
            block.pieces += [source.bytes] if source is not None and source.bytes else []
        return ()

    def _open(self, delta: Delta) -> _Block:
        """Open a block that had no start: text, reasoning, or something that is not known here."""
        if delta.reasoning_content is not None:
            self._thoughts += 1
            return _Block("reasoning", self._thoughts - 1)
        if delta.text is not None or delta.citation is not None:
            self._texts += 1
            return _Block("text", self._texts - 1)
        if delta.tool_use is not None:
            raise ValueError("a call's arguments came before its name")
        return _Block("image" if delta.image is not None else "server", head={})

    def _grow_call(self, block: _Block, piece: str) -> Iterable[hub.Event]:
        if block.kind == "server":
            block.pieces.append(piece)
            return ()
        block.size += len(piece)
        if not piece:
            return ()
        if block.kind == "json":
            return (hub.TextDelta(piece, 0, block.index),)
        return (hub.ToolCallDelta(block.index, piece),)

    def _grow_reasoning(self, block: _Block, delta: Delta) -> Iterable[hub.Event]:
        piece = delta.reasoning_content
        assert piece is not None
        if piece.redacted_content is not None:  # may be cut anywhere, so it is told at the block's end
            block.pieces.append(piece.redacted_content)
            return ()
        if not piece.text and not piece.signature:
            return ()
        form = self._context.reasoning_format if piece.signature else None
        return (hub.ReasoningDelta(piece.text or "", 0, block.index, signature=piece.signature, format=form),)

    def _read_stop(self, event: BlockStop) -> Iterable[hub.Event]:
        block = self._blocks.pop(event.content_block_index, None)
        return self._finish(block) if block is not None else ()

    def _finish(self, block: _Block) -> Iterable[hub.Event]:
        if block.kind == "call" and not block.size:
            yield hub.ToolCallDelta(block.index, "{}")
        elif block.kind == "json" and not block.size:
            yield hub.TextDelta("{}", 0, block.index)
        elif block.kind == "text":
            for citation in block.annotations:
                found = read_citation(citation, block.size, self._context.titles)
                yield hub.AnnotationAdded(found, 0, block.index)
        elif block.kind == "reasoning" and block.pieces:
            data, form = read_redacted(join_base64(block.pieces), self._context.reasoning_format)
            yield hub.ReasoningDelta("", 0, block.index, kind="encrypted", data=data, format=form)
        elif block.kind == "image" and block.pieces:
            yield hub.PartMade(make_image((block.head or {}).get("format"), block.pieces))
        elif block.kind == "server" and block.head:
            yield hub.PartMade(hub.ServerTool(native=_server_tool(block), dialect=DIALECT))

    # -- the end -----------------------------------------------------------------

    def _read_message_stop(self, event: Stop) -> Iterable[hub.Event]:
        for block in self._blocks.values():
            yield from self._finish(block)
        self._blocks.clear()
        if not self._answer:
            yield from self._held
        self._has_stopped = True
        yield hub.Finished(
            finish=read_finish(event.stop_reason, has_calls=self._calls > 0),
            native=event.stop_reason,
            stop_sequence=read_stop_sequence(event.additional_model_response_fields),
        )

    def _read_metadata(self, event: Metadata) -> Iterable[hub.Event]:
        if event.usage is not None:
            yield hub.UsageReported(event.usage.usage())
        if self._has_stopped and not self._is_over:
            self._is_over = True
            yield hub.Ended()


def _server_tool(block: _Block) -> dict[str, Any]:
    head = block.head or {}
    if "toolUse" not in head:
        return {name: {**value, "content": block.pieces} for name, value in head.items()}
    text = "".join(block.pieces)
    try:
        found = msgspec.json.decode(text) if text else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = {"text": text}
    return {"toolUse": {**head["toolUse"], "input": found}}
