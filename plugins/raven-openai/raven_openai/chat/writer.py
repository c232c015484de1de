"""The hub's events → the chunks of a chat completion's stream.

Most of a chunk never changes, so it is rendered once; a token costs the encoding of its text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from raven_openai.calls import StreamCall
from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

from . import replies

__all__ = ["ChatWriter"]

_encode = msgspec.json.Encoder().encode
_TAIL = b',"logprobs":null,"finish_reason":null}]}\n\n'


class _Answer:
    """What must be known of a choice while it is written. `index` is the choice's."""

    __slots__ = ("begin", "counts", "head", "index", "part", "size")

    def __init__(self, index: int, prefix: bytes) -> None:
        self.index = index
        self.head = prefix + b'"choices":[{"index":%d,"delta":' % index
        self.part = self.begin = self.size = 0  # the text part, where it begins, and all text so far
        self.counts: dict[str, int] = {}  # how many items of each list are out: clients join them by index

    def number(self, name: str, more: int = 1) -> int:
        """Give the index of the next item of a list."""
        count = self.counts.get(name, 0)
        self.counts[name] = count + more
        return count


class ChatWriter:
    """Writes one stream; a `dialects.Writer`."""

    __slots__ = (
        "_answers",
        "_custom",
        "_exchange",
        "_first",
        "_functions",
        "_prefix",
        "_thoughts",
        "_usage",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._prefix = b""  # up to the choices
        self._answers: dict[int, _Answer] = {}
        self._first: _Answer | None = None  # choice 0: nearly always the only one
        self._thoughts: dict[int, tuple[int, hub.Reasoning, list[str]]] = {}  # choice → (index, part, texts)
        self._custom: set[tuple[int, int]] = set()  # (choice, index) of calls that carry free text
        self._usage: Usage | None = None
        self._functions = replies.uses_functions(exchange)

    def write(self, event: hub.Event) -> bytes:
        """Give the frames of one event."""
        kind = type(event)
        if kind is hub.TextDelta and not self._thoughts and self._first is not None:
            answer = self._first
            if event.choice == 0 and event.part == answer.part:  # type: ignore[union-attr]
                text = event.text  # type: ignore[union-attr]
                answer.size += len(text)
                return answer.head + b'{"content":' + _encode(text) + b"}" + _TAIL
        write = _WRITERS.get(kind)
        if write is None:
            return b""
        if self._thoughts and kind in _CLOSING:
            return self._close_thought(event.choice) + write(self, event)  # type: ignore[union-attr]
        return write(self, event)

    # -- frames ------------------------------------------------------------------------

    def _begin(self, event: hub.Started) -> bytes:
        exchange = self._exchange
        head: dict[str, Any] = {
            "id": event.id or replies.completion_id(exchange, "chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": event.created or int(time.time()),
            "model": event.model or replies.upstream_model(exchange),
        }
        if event.service_tier in replies.SERVICE_TIERS:
            head["service_tier"] = event.service_tier
        if event.system_fingerprint is not None:
            head["system_fingerprint"] = event.system_fingerprint
        self._prefix = b"data: " + _encode(head)[:-1] + b","
        self._usage = event.usage
        return self._open(0)

    def _open(self, choice: int) -> bytes:
        """Write a choice's first chunk."""
        before = b"" if self._prefix else self._begin(hub.Started())
        if choice in self._answers:
            return before
        answer = self._answers[choice] = _Answer(choice, self._prefix)
        if choice == 0:
            self._first = answer
        return before + answer.head + b'{"role":"assistant","content":"","refusal":null}' + _TAIL

    def _delta(self, choice: int, delta: Any) -> bytes:
        before = b"" if choice in self._answers else self._open(choice)
        return before + self._answers[choice].head + _encode(delta) + _TAIL

    def _add_text(self, event: hub.TextDelta) -> bytes:
        frame = self._delta(event.choice, {"content": event.text})
        answer = self._answers[event.choice]
        if event.part != answer.part:
            answer.part, answer.begin = event.part, answer.size
        answer.size += len(event.text)
        return frame

    def _add_refusal(self, event: hub.RefusalDelta) -> bytes:
        return self._delta(event.choice, {"refusal": event.text})

    def _start_call(self, event: hub.ToolCallStarted) -> bytes:
        call = hub.ToolCall(id=event.id, name=event.name, arguments="", custom=event.custom)
        call.signature, call.format = event.signature, event.format
        rendered = replies.render_call(call)
        if self._functions:
            return (
                self._delta(event.choice, {"function_call": rendered["function"]}) if not event.index else b""
            )
        if event.custom:
            self._custom.add((event.choice, event.index))
        return self._delta(event.choice, {"tool_calls": [{"index": event.index, **rendered}]})

    def _add_arguments(self, event: hub.ToolCallDelta) -> bytes:
        if self._functions:
            delta: Any = {"function_call": {"arguments": event.arguments}}
            return self._delta(event.choice, delta) if not event.index else b""
        if self._custom and (event.choice, event.index) in self._custom:
            call_delta = {"index": event.index, "custom": {"input": event.arguments}}
            return self._delta(event.choice, {"tool_calls": [call_delta]})
        before = b"" if event.choice in self._answers else self._open(event.choice)
        head = self._answers[event.choice].head
        text = _encode(event.arguments)
        call = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % event.index
        return before + head + call + text + b"}}]}" + _TAIL

    def _add_annotation(self, event: hub.AnnotationAdded) -> bytes:
        before = b"" if event.choice in self._answers else self._open(event.choice)
        answer = self._answers[event.choice]
        begin = answer.begin if event.part == answer.part else answer.size
        name, rendered = replies.render_annotation(event.annotation, begin, answer.size)
        return before + self._delta(event.choice, {name: [{"index": answer.number(name), **rendered}]})

    def _add_audio(self, event: hub.AudioDelta) -> bytes:
        given = {"id": event.id, "data": event.data, "transcript": event.transcript}
        audio: dict[str, Any] = {name: value for name, value in given.items() if value}
        if event.expires_at is not None:
            audio["expires_at"] = event.expires_at
        return self._delta(event.choice, {"audio": audio})

    def _add_part(self, event: hub.PartMade) -> bytes:
        if not isinstance(event.part, hub.Image):
            return b""
        before = b"" if event.choice in self._answers else self._open(event.choice)
        number = self._answers[event.choice].number("images")
        return before + self._delta(event.choice, {"images": [replies.render_image(event.part, number)]})

    def _add_logprobs(self, event: hub.LogprobsAdded) -> bytes:
        before = b"" if event.choice in self._answers else self._open(event.choice)
        logprobs = {"content": None, "refusal": None, **event.logprobs}
        head = self._answers[event.choice].head
        return before + head + b'{},"logprobs":' + _encode(logprobs) + b',"finish_reason":null}]}\n\n'

    # -- thinking ------------------------------------------------------------------------

    def _add_thought(self, event: hub.ReasoningDelta) -> bytes:
        """Write the text at once; signatures and the like when the block ends, with all of its text."""
        before = b""
        choice = event.choice
        thought = self._thoughts.get(choice)
        if thought is None or thought[0] != event.part:
            before = self._close_thought(choice) if thought is not None else b""
            thought = self._thoughts[choice] = (event.part, hub.Reasoning(), [])
        _, part, texts = thought
        texts.append(event.text)
        part.kind = event.kind
        part.format = event.format or part.format
        part.id = event.id or part.id
        if event.signature is not None:
            part.signature = (part.signature or "") + event.signature
        if event.data is not None:
            part.data = (part.data or "") + event.data
        if not event.text:
            return before
        if choice not in self._answers:
            before += self._open(choice)
        return (
            before
            + self._answers[choice].head
            + b'{"reasoning_content":'
            + _encode(event.text)
            + b"}"
            + _TAIL
        )

    def _close_thought(self, choice: int) -> bytes:
        if choice not in self._thoughts:
            return b""
        _, part, texts = self._thoughts.pop(choice)
        part.text = "".join(texts)
        before = b"" if choice in self._answers else self._open(choice)
        answer = self._answers[choice]
        details = replies.render_detail(part, answer.counts.get("details", 0))
        answer.number("details", len(details))
        return before + (self._delta(choice, {"reasoning_details": details}) if details else b"")

    # -- the end ---------------------------------------------------------------------------

    def _finish(self, event: hub.Finished) -> bytes:
        before = b"" if event.choice in self._answers else self._open(event.choice)
        finish: str = event.finish
        if self._functions and finish == "tool_calls":
            finish = "function_call"
        tail = b'{},"logprobs":null,"finish_reason":"' + finish.encode() + b'"'
        if event.native is not None:
            tail += b',"native_finish_reason":' + _encode(event.native)
        return before + self._answers[event.choice].head + tail + b"}]}\n\n"

    def _note_usage(self, event: hub.UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _ping(self, event: hub.Pinged) -> bytes:
        del event
        return b": ping\n\n"

    def _end(self, event: hub.Ended) -> bytes:
        del event
        call = self._exchange.call
        out = b"" if self._prefix else self._open(0)
        if self._usage is not None and isinstance(call, StreamCall) and call.include_usage:
            out += self._prefix + b'"choices":[],"usage":' + _encode(replies.render_usage(self._usage))
            out += b"}\n\n"
        return out + b"data: [DONE]\n\n"


_WRITERS: Mapping[type, Callable[[ChatWriter, Any], bytes]] = MappingProxyType(
    {
        hub.Started: ChatWriter._begin,
        hub.TextDelta: ChatWriter._add_text,
        hub.ReasoningDelta: ChatWriter._add_thought,
        hub.RefusalDelta: ChatWriter._add_refusal,
        hub.ToolCallStarted: ChatWriter._start_call,
        hub.ToolCallDelta: ChatWriter._add_arguments,
        hub.AnnotationAdded: ChatWriter._add_annotation,
        hub.AudioDelta: ChatWriter._add_audio,
        hub.PartMade: ChatWriter._add_part,
        hub.LogprobsAdded: ChatWriter._add_logprobs,
        hub.Finished: ChatWriter._finish,
        hub.UsageReported: ChatWriter._note_usage,
        hub.Pinged: ChatWriter._ping,
        hub.Ended: ChatWriter._end,
    }
)
_CLOSING = frozenset(
    {
        hub.TextDelta,
        hub.RefusalDelta,
        hub.ToolCallStarted,
        hub.ToolCallDelta,
        hub.AnnotationAdded,
        hub.AudioDelta,
        hub.PartMade,
        hub.Finished,
    }
)
