"""Anthropic's streams, read into the hub's events.

Blocks come one after the other; pings, unknown events and unknown deltas may stand anywhere. Usage is
cumulative and may come several times. What the reader gives never depends on the reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.refusals import read_error
from raven_proxy.sse import Event

from .citations import read_citation
from .content import FAMILY
from .errors import status_of
from .finish import finish_of
from .replies import Reading, unwrap_custom
from .usage import WireUsage, merge_usage, parse_usage, read_usage

__all__ = ["MessageEvents"]


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: Any = None


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: dict[str, Any] | None = None
    content: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class _Block:
    """The block that is open: its kind, the number of its part, and what it has to hold back."""

    __slots__ = ("citations", "has_input", "kind", "native", "number", "pieces", "size")

    def __init__(self, kind: str, number: int, native: dict[str, Any]) -> None:
        self.kind = kind  # text, thinking, redacted_thinking, call, custom, json, server
        self.number = number
        self.native = native
        self.pieces: list[str] = []
        self.citations: list[dict[str, Any]] = []
        self.size = 0  # characters of text so far
        self.has_input = False


class MessageEvents:
    """The state of one stream."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._blocks: dict[int, _Block] = {}
        self._counts = {"text": 0, "thinking": 0, "call": 0}
        self._usage: WireUsage | None = None
        self._stop_reason: str | None = None
        self._stop_sequence: str | None = None
        self._has_json = False
        self._held: list[hub.Event] = []  # text, until it is known that no JSON comes
        self._is_over = False
        self._handlers: dict[str, Callable[[_Event], Iterable[hub.Event]]] = {
            "message_start": self._start,
            "content_block_start": self._open,
            "content_block_delta": self._extend,
            "content_block_stop": self._close_block,
            "message_delta": self._change,
            "message_stop": self._stop,
            "ping": _ping,
        }

    def read(self, event: Event) -> Iterable[hub.Event]:
        """Take one event of the stream."""
        data = event.data or b""
        if self._is_over or not data or data == b"[DONE]":
            return ()
        if event.name == b"error":
            return _fail(data)
        wire = _decode(data)
        handler = self._handlers.get(wire.type or "")
        if handler is not None:
            return handler(wire)
        return _fail(data) if wire.error is not None else ()

    def end(self) -> Iterator[hub.Event]:
        """Say at the end of the bytes what `message_stop` would have let out, but not that all is well."""
        if not self._is_over:
            yield from self._finish()

    # -- the message -------------------------------------------------------------

    def _start(self, event: _Event) -> Iterable[hub.Event]:
        message = event.message or _Message()
        usage = tier = None
        if message.usage is not None:
            self._usage = parse_usage(message.usage)
            usage, tier = read_usage(self._usage), self._usage.service_tier
        return (hub.Started(id=message.id, model=message.model, usage=usage, service_tier=tier),)

    def _change(self, event: _Event) -> Iterable[hub.Event]:
        if event.delta is not None:
            self._stop_reason = event.delta.stop_reason or self._stop_reason
            self._stop_sequence = event.delta.stop_sequence or self._stop_sequence
        if event.usage is None:
            return ()
        self._usage = merge_usage(self._usage, parse_usage(event.usage))
        usage = read_usage(self._usage)
        return (hub.UsageReported(usage),) if usage is not None else ()

    def _stop(self, event: _Event) -> Iterator[hub.Event]:
        del event
        self._is_over = True
        yield from self._finish()
        yield hub.Ended()

    def _finish(self) -> Iterator[hub.Event]:
        for index in [*self._blocks]:
            yield from self._close_block(_Event(index=index))
        if not self._has_json:
            yield from self._held
        self._held = []
        if self._stop_reason is not None or self._is_over:
            has_calls = self._counts["call"] > 0
            finish = finish_of(self._stop_reason, has_calls=has_calls, has_json=self._has_json)
            yield hub.Finished(finish=finish, native=self._stop_reason, stop_sequence=self._stop_sequence)

    # -- blocks ------------------------------------------------------------------

    def _open(self, event: _Event) -> Iterator[hub.Event]:
        native = event.content_block or {}
        given = str(native.get("type"))
        kind = self._kind_of(given, native)
        counter = {"redacted_thinking": "thinking", "custom": "call", "json": "text"}.get(kind, kind)
        number = self._counts.get(counter, 0)
        if counter in self._counts:
            self._counts[counter] = number + 1
        block = self._blocks[event.index] = _Block(kind, number, native)
        if kind == "text":
            block.citations = [one for one in native.get("citations") or () if isinstance(one, dict)]
            if text := native.get("text"):
                yield from self._say(block, str(text))
        elif kind == "thinking":
            text, signature = str(native.get("thinking") or ""), native.get("signature") or None
            yield hub.ReasoningDelta(text, 0, number, "text", signature, None, "anthropic")
        elif kind == "redacted_thinking":
            data = str(native.get("data") or "")
            yield hub.ReasoningDelta("", 0, number, "encrypted", None, data, "anthropic")
        elif kind in ("call", "custom"):
            name, call_id = str(native.get("name") or ""), str(native.get("id") or "")
            yield hub.ToolCallStarted(number, call_id, name, 0, kind == "custom")
        elif kind == "json":
            self._has_json = True

    def _kind_of(self, given: str, native: dict[str, Any]) -> str:
        if given == "tool_use":
            name = native.get("name")
            if name == self._reading.json_tool and name is not None:
                return "json"
            return "custom" if name in self._reading.custom else "call"
        return given if given in ("text", "thinking", "redacted_thinking") else "server"

    def _extend(self, event: _Event) -> Iterable[hub.Event]:
        delta, block = event.delta, self._blocks.get(event.index)
        if delta is None or block is None:
            return ()
        if delta.text is not None and block.kind == "text":
            return self._say(block, delta.text)
        if delta.partial_json is not None:
            return self._add_input(block, delta.partial_json)
        if delta.thinking is not None:
            return (hub.ReasoningDelta(delta.thinking, 0, block.number, "text", None, None, "anthropic"),)
        if delta.signature is not None:
            return (hub.ReasoningDelta("", 0, block.number, "text", delta.signature, None, "anthropic"),)
        if delta.citation is not None:
            block.citations.append(delta.citation)
        elif delta.content is not None and block.kind == "server":  # a compaction's summary
            found = delta.content
            known = block.native.get("content")
            block.native["content"] = (
                known + found if isinstance(known, str) and isinstance(found, str) else found
            )
        return ()

    def _say(self, block: _Block, text: str) -> Iterable[hub.Event]:
        if not text:
            return ()
        block.size += len(text)
        event = hub.TextDelta(text, 0, block.number)
        if self._reading.json_tool is None:
            return (event,)
        self._held.append(event)
        return ()

    def _add_input(self, block: _Block, text: str) -> Iterable[hub.Event]:
        if not text:
            return ()
        block.has_input = True
        if block.kind == "call":
            return (hub.ToolCallDelta(block.number, text),)
        if block.kind == "json":
            return (hub.TextDelta(text, 0, block.number),)
        block.pieces.append(text)
        return ()

    def _close_block(self, event: _Event) -> Iterable[hub.Event]:
        block = self._blocks.pop(event.index, None)
        if block is None:
            return ()
        if block.kind == "text":
            notes: list[hub.Event] = [
                hub.AnnotationAdded(read_citation(one, block.size), 0, block.number)
                for one in block.citations
            ]
            if self._reading.json_tool is None:
                return notes
            self._held += notes
            return ()
        if block.kind in ("call", "json"):
            if block.has_input:
                return ()
            whole = msgspec.json.encode(block.native.get("input") or {}).decode()
            if block.kind == "call":
                return (hub.ToolCallDelta(block.number, whole),)
            return (hub.TextDelta(whole, 0, block.number),)
        if block.kind == "custom":
            given = "".join(block.pieces) or msgspec.json.encode(block.native.get("input") or {}).decode()
            return (hub.ToolCallDelta(block.number, unwrap_custom(given)),)
        if block.kind == "server":
            if block.pieces:
                block.native["input"] = hub.parse_arguments("".join(block.pieces))
            return (hub.PartMade(hub.ServerTool(native=block.native, dialect=FAMILY)),)
        return ()


def _ping(event: _Event) -> Iterable[hub.Event]:
    del event
    return (hub.Pinged(),)


def _fail(data: bytes) -> Iterable[hub.Event]:
    """Read an error, whatever its shape: by now it can only be told as well as it goes."""
    theirs = read_error(data)
    message = theirs.message or data.decode("utf-8", "replace")[:2048]
    return (hub.Failed(message=message, type=theirs.type, code=theirs.code, status=status_of(theirs.type)),)
