"""Counts what raw InvokeModel replies used, whatever model answered.

Bedrock says it itself: in headers of whole replies, and in the last event of a stream
(`amazon-bedrock-invocationMetrics`). Claude's own words tell how it finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec

from raven_proxy import hub
from raven_proxy.dialects import Reader
from raven_proxy.exchange import Usage
from raven_proxy.hub.replies import Finish

from .eventstream import Headers, Message
from .invoke import unwrap
from .streams import FrameReader

__all__ = ["InvokeSide"]

_HEADER = "x-amzn-bedrock-"
_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class _Metrics(msgspec.Struct, rename="camel"):
    input_token_count: int = 0
    output_token_count: int = 0
    cache_read_input_token_count: int = 0
    cache_write_input_token_count: int = 0


class _MessageUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Body(msgspec.Struct):
    """Anthropic's reply or event, and Amazon's metrics; every member may be missing or something else's."""

    type: str = ""
    stop_reason: str | None = None
    usage: _MessageUsage | None = None
    delta: _Delta | None = None
    metrics: _Metrics | None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")


class InvokeSide:
    """InvokeModel as far as it is metered. `headers` are the reply's."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read usage and finish of a whole reply. Raises msgspec's errors where it is no JSON."""
        msgspec.json.decode(body, type=msgspec.Raw)
        found = _read(body)
        usage = _from_headers(self._headers) or (_from_message(found.usage) if found.usage else None)
        finish = _FINISH.get(found.stop_reason or "", "stop")
        choice = hub.Choice(finish=finish, native_finish=found.stop_reason)
        return hub.ChatReply(created=int(time.time()), choices=[choice], usage=usage)

    def open_reader(self) -> Reader:
        """Begin a stream."""
        events = _Events()
        return FrameReader(events.read, events.close)


class _Events:
    __slots__ = ("_is_over", "_usage")

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._is_over = False

    def read(self, name: str, payload: bytes) -> Iterable[hub.Event]:
        """Read one frame."""
        event = _read(unwrap(Message(Headers("event", name), payload)))
        if event.delta is not None:
            text = event.delta.text or event.delta.thinking or event.delta.partial_json
            if text:
                yield hub.TextDelta(text)
            if event.delta.stop_reason is not None:
                word = event.delta.stop_reason
                yield hub.Finished(finish=_FINISH.get(word, "stop"), native=word)
        if event.metrics is not None:
            self._is_over = True
            yield hub.UsageReported(_from_metrics(event.metrics))
            yield hub.Ended()
        elif event.type == "message_stop":
            self._is_over = True
            yield hub.Ended()

    def close(self) -> Iterable[hub.Event]:
        """The frames ended: each is whole, and a fault would have been told."""
        return () if self._is_over else (hub.Ended(),)


def _read(body: bytes) -> _Body:
    """Read what is there; another vendor's shapes mean nothing here."""
    try:
        return msgspec.json.decode(body, type=_Body)
    except msgspec.ValidationError:
        return _Body()


def _from_headers(headers: Mapping[str, str]) -> Usage | None:
    def count(name: str) -> int:
        value = headers.get(f"{_HEADER}{name}-token-count", "")
        return int(value) if value.isdecimal() else 0

    if f"{_HEADER}input-token-count" not in headers:
        return None
    return _usage(count("input"), count("output"), count("cache-read-input"), count("cache-write-input"))


def _from_metrics(metrics: _Metrics) -> Usage:
    return _usage(
        metrics.input_token_count,
        metrics.output_token_count,
        metrics.cache_read_input_token_count,
        metrics.cache_write_input_token_count,
    )


def _from_message(usage: _MessageUsage) -> Usage:
    return _usage(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_read_input_tokens or 0,
        usage.cache_creation_input_tokens or 0,
    )


def _usage(fresh: int, completion: int, read: int, written: int) -> Usage:
    prompt = fresh + read + written
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=read,
        cache_write_tokens=written,
    )
