"""Replies of Ollama's `/api/chat` and `/api/generate`: one JSON document, or one a line.

A whole reply is a stream of one line: both are read by the same code. Source: Ollama's API documentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.dialects import Reader
from raven_proxy.errors import UpstreamError
from raven_proxy.exchange import Usage
from raven_proxy.lines import LineReader
from raven_proxy.refusals import scrub

__all__ = ["ChatVendor", "usage_of"]

_NULL = msgspec.Raw(b"null")
_MOST = 10**8


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: msgspec.Raw = _NULL


class _Call(msgspec.Struct):
    function: _Function = _Function()
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    """A piece of a chat (`message`) or of a completion (`response`, `thinking`)."""

    model: str = ""
    created_at: str = ""
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


class ChatVendor:
    """Reads chats and completions."""

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply. Raises UpstreamError for an error under a 200, ValueError for half a reply."""
        events = list(_State().read(body))
        for event in events:
            if isinstance(event, hub.Failed):
                raise UpstreamError(scrub(event.message)[:2048] or "The provider reported an error.")
        if not isinstance(events[-1], hub.Ended):
            raise ValueError("the reply is not done")
        return hub.gather(events)

    def open_reader(self) -> Reader:
        """Begin a stream."""
        return LineReader(_State().read, tuple)


class _State:
    """What is known of a reply so far."""

    __slots__ = ("_calls", "_has_started")

    def __init__(self) -> None:
        self._calls = 0
        self._has_started = False

    def read(self, text: bytes) -> Iterator[hub.Event]:
        """Take one line."""
        line = _decode(text)
        if line.error is not None:
            yield hub.Failed(message=line.error)
            return
        if not self._has_started:
            self._has_started = True
            yield hub.Started(model=line.model, created=_seconds(line.created_at))
        message = line.message
        thinking, content = line.thinking, line.response
        if message is not None:
            thinking, content = message.thinking, message.content
        if thinking:
            yield hub.ReasoningDelta(thinking)
        if content:
            yield hub.TextDelta(content)
        if line.logprobs:
            yield hub.LogprobsAdded({"content": [_logprob(one) for one in line.logprobs], "refusal": None})
        if message is not None and message.tool_calls:
            yield from self._call(line, message.tool_calls)
        if line.done:
            yield from self._finish(line)

    def _call(self, line: _Line, calls: list[_Call]) -> Iterator[hub.Event]:
        for call in calls:
            index = self._calls
            self._calls += 1
            yield hub.ToolCallStarted(index, call.id or _make_id(line, index), call.function.name)
            yield hub.ToolCallDelta(index, _arguments(call.function.arguments))

    def _finish(self, line: _Line) -> Iterator[hub.Event]:
        finish: hub.Finish = "length" if line.done_reason == "length" else "stop"
        if self._calls and finish == "stop":
            finish = "tool_calls"
        yield hub.Finished(finish=finish, native=line.done_reason)
        usage = usage_of(line.prompt_eval_count, line.eval_count)
        if usage is not None:
            yield hub.UsageReported(usage)
        yield hub.Ended()


def usage_of(prompt: int | None, completion: int | None) -> Usage | None:
    """Give the usage; a count that is missing beside the other is zero (Ollama leaves zeros out)."""
    counts = [0 if one is None else one for one in (prompt, completion)]
    if (prompt is None and completion is None) or not all(0 <= one <= _MOST for one in counts):
        return None
    return Usage(prompt_tokens=counts[0], completion_tokens=counts[1], total_tokens=sum(counts))


def _seconds(text: str) -> int:
    """Read an RFC 3339 time with up to nine decimals; 0 where there is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def _make_id(line: _Line, index: int) -> str:
    """Make a call's id. The time of the line, in nanoseconds, tells the calls of one chat apart."""
    seed = f"{line.model} {line.created_at} {index}".encode()
    return f"call_{hashlib.blake2b(seed, digest_size=12).hexdigest()}"


def _arguments(raw: msgspec.Raw) -> str:
    """Give the arguments as JSON text; they come as an object, from some models as text already."""
    found = bytes(raw)
    if found.startswith(b'"'):
        return msgspec.json.decode(found, type=str) or "{}"
    return found.decode() if found.startswith(b"{") else "{}"


def _logprob(one: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": None, "top_logprobs": []} | one
