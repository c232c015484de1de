"""The hub's events, written as a stream for a client of Anthropic's.

Official clients go by the `event:` lines. `message_start` comes first; then one block at a time, each
opened, filled and closed; `message_delta` with the stop reason and the usage, and `message_stop`, come
at the very end. Calls that a vendor fills in turns wait until the one before them is whole.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

from .citations import write_citation
from .client_replies import message_id, model_name
from .content import FAMILY, Block
from .finish import stop_reason_of
from .signatures import pack_call, pack_reasoning
from .usage import write_usage

__all__ = ["StreamWriter"]

_encode = msgspec.json.Encoder().encode
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}}\n\n'
_TEXT = _DELTA.replace(b"%b", b'{"type":"text_delta","text":%b')
_THINKING = _DELTA.replace(b"%b", b'{"type":"thinking_delta","thinking":%b')
_INPUT = _DELTA.replace(b"%b", b'{"type":"input_json_delta","partial_json":%b')
_SIGNATURE = _DELTA.replace(b"%b", b'{"type":"signature_delta","signature":%b')
_CITATION = _DELTA.replace(b"%b", b'{"type":"citations_delta","citation":%b')
_CLOSE = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'

Key = tuple[str, int]  # the kind of the block that is open, and its number among the vendor's own


def _frame(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **data}))


class StreamWriter:
    """Writes one stream."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_started = False
        self._index = -1  # of the block that is or was open last
        self._open: Key | None = None
        self._opaque = ""  # signature of the thinking, or data of the redacted thinking, that is open
        self._mark: tuple[str, str | None, str | None] = ("signature", None, None)  # field, format, id of it
        self._arguments: list[str] = []  # of the call that is open
        self._later: deque[hub.Event] = deque()  # what has to wait until the open call is whole
        self._waiting: dict[int, list[str]] = {}  # the arguments of the calls that wait
        self._finish: hub.Finished | None = None
        self._usage: Usage | None = None

    def write(self, event: hub.Event) -> bytes:
        """Write one event; b"" for what this dialect has no words for, or not yet."""
        if type(event) is hub.TextDelta and self._open == ("text", event.part) and event.choice == 0:
            return _TEXT % (self._index, _encode(event.text)) if event.text else b""
        if isinstance(event, hub.Started):
            return self._start(event)
        if isinstance(event, hub.UsageReported):
            self._usage = event.usage
            return b""
        if isinstance(event, hub.Pinged):
            return _PING if self._is_started else b": ping\n\n"  # message_start is to be the first event
        if isinstance(event, hub.Finished):
            self._finish = event if event.choice == 0 else self._finish
            return self._flush()
        if isinstance(event, hub.Ended):
            return self._end()
        if getattr(event, "choice", 0) != 0:
            return b""
        return self._start(hub.Started()) + self._route(event)

    # -- the message -------------------------------------------------------------

    def _start(self, event: hub.Started) -> bytes:
        if self._is_started:
            return b""
        self._is_started = True
        usage = event.usage or Usage()
        message: dict[str, Any] = {
            "id": message_id(event.id, self._exchange),
            "type": "message",
            "role": "assistant",
            "model": model_name(event.model, self._exchange),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(usage),
        }
        return _frame("message_start", {"message": message})

    def _end(self) -> bytes:
        out = self._start(hub.Started()) + self._flush()
        finish = self._finish or hub.Finished(finish="stop")
        delta = {
            "stop_reason": stop_reason_of(finish.finish, finish.native, finish.stop_sequence),
            "stop_sequence": finish.stop_sequence,
        }
        out += _frame("message_delta", {"delta": delta, "usage": write_usage(self._usage or Usage())})
        return out + _frame("message_stop", {})

    # -- order -------------------------------------------------------------------

    def _route(self, event: hub.Event) -> bytes:
        """Write an event now, or keep it until the call that is open is whole."""
        if isinstance(event, hub.ToolCallDelta):
            if self._open == ("call", event.index):
                out = self._input(event.arguments)
                return out + self._release() if self._later and self._is_whole() else out
            if event.index in self._waiting:
                self._waiting[event.index].append(event.arguments)
            return b""  # more of a call that is closed is nothing new
        if self._open is not None and self._open[0] == "call" and (self._later or not self._is_whole()):
            self._later.append(event)
            if isinstance(event, hub.ToolCallStarted):
                self._waiting.setdefault(event.index, [])
            return b""
        return self._put(event)

    def _is_whole(self) -> bool:
        """Say whether the open call's arguments are JSON already: then nothing can follow but space."""
        if not self._arguments or not self._arguments[-1].endswith("}"):
            return False
        try:
            msgspec.json.decode("".join(self._arguments), type=msgspec.Raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return True

    def _release(self, *, to_the_end: bool = False) -> bytes:
        """Close the open call and write what waited for it: up to a call that is not whole, or all."""
        out = [self._close()]
        while self._later:
            event = self._later.popleft()
            out.append(self._put(event))
            if isinstance(event, hub.ToolCallStarted):
                out += map(self._input, self._waiting.pop(event.index, ()))
                if not to_the_end and not self._is_whole():
                    break
        return b"".join(out)

    def _flush(self) -> bytes:
        """Nothing more comes: write what waited and close what is open, whole or not."""
        return self._release(to_the_end=True) + self._close()

    # -- blocks ------------------------------------------------------------------

    def _put(self, event: hub.Event) -> bytes:
        if isinstance(event, hub.TextDelta):
            return self._text(event.text, event.part)
        if isinstance(event, hub.RefusalDelta):
            return self._text(event.text, -1)
        if isinstance(event, hub.ReasoningDelta):
            return self._think(event)
        if isinstance(event, hub.ToolCallStarted):
            return self._call(event)
        if isinstance(event, hub.AnnotationAdded):
            opened = b"" if self._is_open("text", event.part) else self._begin_text(event.part)
            return opened + _CITATION % (self._index, _encode(write_citation(event.annotation)))
        if isinstance(event, hub.AudioDelta):
            return self._text(event.transcript, -2)
        if isinstance(event, hub.PartMade):
            return self._made(event.part)
        return b""

    def _text(self, text: str, part: int) -> bytes:
        if not text:
            return b""
        if self._open is not None and self._open == ("text", part):
            return _TEXT % (self._index, _encode(text))
        return self._begin_text(part) + _TEXT % (self._index, _encode(text))

    def _begin_text(self, part: int) -> bytes:
        return self._begin(("text", part), {"type": "text", "text": ""})

    def _think(self, event: hub.ReasoningDelta) -> bytes:
        is_redacted = event.data is not None and not event.text and not self._is_open("thinking", event.part)
        if is_redacted or self._is_open("redacted", event.part):
            out = b""
            if not self._is_open("redacted", event.part):
                out = self._close()
                self._open = ("redacted", event.part)
            self._keep("data", event.data, event)
            return out
        out = b""
        if not self._is_open("thinking", event.part):
            out = self._begin(("thinking", event.part), {"type": "thinking", "thinking": "", "signature": ""})
        self._keep("data", event.data, event)
        self._keep("signature", event.signature, event)
        return out + _THINKING % (self._index, _encode(event.text)) if event.text else out

    def _keep(self, field: str, opaque: str | None, event: hub.ReasoningDelta) -> None:
        """Gather what is opaque; clients take one signature for the whole of it."""
        if opaque is not None:
            self._opaque += opaque
            self._mark = (field, event.format or self._mark[1], event.id or self._mark[2])

    def _call(self, event: hub.ToolCallStarted) -> bytes:
        out = b""
        if event.signature is not None and event.format is not None:
            data = pack_call(event.id, event.signature, event.format)
            out = self._begin(("made", 0), {"type": "redacted_thinking", "data": data})
        block = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
        return out + self._begin(("call", event.index), block)

    def _input(self, arguments: str) -> bytes:
        if not arguments:
            return b""
        self._arguments.append(arguments)
        return _INPUT % (self._index, _encode(arguments))

    def _made(self, part: hub.Image | hub.ServerTool) -> bytes:
        if isinstance(part, hub.Image) or part.dialect != FAMILY:
            return b""  # no block here shows an image that a model made
        if "input" not in part.native:
            return self._begin(("made", 0), part.native) + self._close()
        out = self._begin(("made", 0), {**part.native, "input": {}})
        return out + _INPUT % (self._index, _encode(_encode(part.native["input"]).decode())) + self._close()

    # -- opening and closing -----------------------------------------------------

    def _is_open(self, kind: str, number: int) -> bool:
        return self._open == (kind, number)

    def _begin(self, key: Key, block: Block) -> bytes:
        out = self._close()
        self._open = key
        self._index += 1
        return out + _frame("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        kind, out = self._open[0], b""
        field, issuer, id_ = self._mark
        opaque = pack_reasoning(self._opaque, field=field, format=issuer, id=id_) if self._opaque else ""
        self._open, self._opaque, self._mark, self._arguments = None, "", ("signature", None, None), []
        if kind == "redacted":
            out = self._begin(("made", 0), {"type": "redacted_thinking", "data": opaque})
            self._open = None
        elif kind == "thinking" and opaque:
            out = _SIGNATURE % (self._index, _encode(opaque))
        return out + _CLOSE % self._index
