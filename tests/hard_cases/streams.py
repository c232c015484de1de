"""Reading a stream as its client would, for the cases about streams."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from raven_proxy.mock import MockUpstream
from raven_proxy.sse import EventReader

from .wire import ask, chat, post

__all__ = ["ASKED", "DONE", "direct", "events", "last_error", "sha"]


DONE = b"data: [DONE]\n\n"
ASKED = {"include_usage": True}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def events(body: bytes) -> list[bytes]:
    """The data of each event."""
    reader = EventReader()
    return [event.data for event in [*reader.feed(body), *reader.close()] if event.data is not None]


def last_error(body: bytes) -> dict[str, Any]:
    """The error that a stream ends with; asserts that no [DONE] is there."""
    assert b"[DONE]" not in body
    error: dict[str, Any] = msgspec.json.decode(events(body)[-1])["error"]
    return error


async def direct(upstream: MockUpstream, model: str) -> bytes:
    """What the provider itself sends for a stream that asks for usage."""
    before = list(upstream.seen)
    body = (await ask(upstream.origin, post(chat(model, stream=True, stream_options=ASKED)))).body
    upstream.seen[:] = before  # not the gateway's doing
    return body
