"""Cohere's v1 chat, for metering alone: its raw path passes untouched and nothing is translated to it.

A stream is one JSON document a line, and `stream-end` holds the whole reply once more.
Source: Cohere's API reference, v1/chat and v1/chat-stream.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from raven_proxy import hub
from raven_proxy.dialects import Reader
from raven_proxy.errors import UpstreamError
from raven_proxy.lines import LineReader
from raven_proxy.refusals import scrub

from .usage import Spent, finish_of, usage_of

__all__ = ["OlderChat"]


class _Reply(msgspec.Struct):
    text: str | None = None
    generation_id: str | None = None
    finish_reason: str | None = None
    meta: Spent | None = None
    tool_calls: list[msgspec.Raw] | None = None
    message: str | None = None  # an error's, in the place of a reply


class _Event(msgspec.Struct):
    event_type: str = ""
    generation_id: str | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    response: _Reply | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_event = msgspec.json.Decoder(_Event).decode


class OlderChat:
    """Reads text, finish reason and usage: the provider's half of v1."""

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply. Raises UpstreamError for an error under a status of 200."""
        reply = _decode_reply(body)
        if reply.text is None and reply.message:
            raise UpstreamError(scrub(reply.message)[:2048])
        choice = hub.Choice(
            parts=[hub.Text(text=reply.text or "")],
            finish=finish_of(reply.finish_reason, has_calls=bool(reply.tool_calls)),
            native_finish=reply.finish_reason,
        )
        return hub.ChatReply(id=reply.generation_id or "", choices=[choice], usage=usage_of(reply.meta))

    def open_reader(self) -> Reader:
        """Begin a stream."""
        return LineReader(_read_line, lambda: ())


def _read_line(line: bytes) -> Iterator[hub.Event]:
    event = _decode_event(line)
    if event.event_type == "stream-start":
        yield hub.Started(id=event.generation_id or "")
    elif event.event_type == "text-generation" and event.text:
        yield hub.TextDelta(event.text)
    elif event.event_type == "stream-end":
        if event.error:
            yield hub.Failed(message=event.error, code=event.finish_reason)
            return
        reply = event.response or _Reply()
        has_calls = bool(reply.tool_calls)
        word = event.finish_reason
        yield hub.Finished(finish=finish_of(word, has_calls=has_calls), native=word)
        usage = usage_of(reply.meta)
        if usage is not None:
            yield hub.UsageReported(usage)
        yield hub.Ended()
