"""Anthropic's half of a translation: what its vendors send, whole and streamed.

For every vendor whose replies are Messages; how they are framed (Bedrock's event stream) is theirs.
"""

from __future__ import annotations

from raven_proxy.dialects import Reader
from raven_proxy.errors import UpstreamError
from raven_proxy.hub import ChatReply, Ended, Failed, gather
from raven_proxy.refusals import scrub

from . import replies, sniffing
from .replies import Reading

__all__ = ["PROVIDER_SIDE", "AnthropicSide"]


class AnthropicSide:
    """Reads Messages; `reading` says what the request made special (`requests.Written.reading`)."""

    def __init__(self, reading: Reading | None = None) -> None:
        self._reading = reading or Reading()

    def read_reply(self, body: bytes) -> ChatReply:
        """Read a whole message. Raises ValueError for what is none, UpstreamError for an error in a 200.

        A stream that nobody announced as one is read as one.
        """
        if body.lstrip()[:6] in (b"event:", b"data: "):
            return self._gather(body)
        return replies.read_reply(body, self._reading)

    def open_reader(self) -> Reader:
        """Begin a stream."""
        return sniffing.open_reader(self._reading)

    def _gather(self, body: bytes) -> ChatReply:
        reader = self.open_reader()
        events = [*reader.feed(body), *reader.close()]
        for event in events:
            if isinstance(event, Failed):
                raise UpstreamError(scrub(event.message)[:2048], status=event.status or 502)
        if not any(isinstance(event, Ended) for event in events):
            raise ValueError("the stream ended before it was complete")
        return gather(events)


PROVIDER_SIDE = AnthropicSide()
"""Reads what answers a request that needed nothing special, such as one that passed untouched."""
