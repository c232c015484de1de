"""Upper-case every word that an exclamation mark follows, in chat replies, whole or streamed.

A word may lie across reads, events and deltas ("He", "llo", "!"): its events are held until it has ended.
"""

import re
from typing import Any

import msgspec

from raven_proxy import Exchange, Stage, hookimpl
from raven_proxy.sse import Event, EventReader, encode_event

SHOUTED = re.compile(r"\w+(?=!)")
OPEN_WORD = re.compile(r"(?<!\w)\w{1,64}\Z")  # a longer one is let go: what is held must be bounded


@hookimpl
def open_stage(exchange: Exchange) -> Stage | None:
    """Take part in chat replies alone: None costs nothing. A whole reply is fed in one piece."""
    if exchange.face.endpoint != "chat/completions":
        return None
    return ShoutedStream() if exchange.stream else ShoutedReply()


class ShoutedReply:
    def feed(self, data: bytes) -> bytes:
        reply = msgspec.json.decode(data)
        for _, message in texts(reply, "message"):
            message["content"] = shout(message["content"])
        return msgspec.json.encode(reply)

    def close(self) -> bytes:
        return b""


class ShoutedStream:
    """A stream of events for one or several choices; an event without a shout passes byte for byte."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self._held: list[tuple[Event, dict[str, Any]]] = []
        self._said: dict[int, str] = {}  # the text of the held events, by choice

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._take(event) for event in self._reader.feed(data)])

    def close(self) -> bytes:
        return self._release() + self._reader.pending

    def _take(self, event: Event) -> bytes:
        chunk = msgspec.json.decode(event.data) if event.data and event.data != b"[DONE]" else {}
        self._held.append((event, chunk))
        for index, delta in texts(chunk, "delta"):
            self._said[index] = self._said.get(index, "") + delta["content"]
        is_open = any(OPEN_WORD.search(said[-65:]) for said in self._said.values())
        return b"" if is_open and event.data != b"[DONE]" else self._release()

    def _release(self) -> bytes:
        loud = {index: shout(said) for index, said in self._said.items()}
        released = b""
        for event, chunk in self._held:
            is_loud = False
            for index, delta in texts(chunk, "delta"):
                old, size = delta["content"], len(delta["content"])
                delta["content"], loud[index] = loud[index][:size], loud[index][size:]
                is_loud |= delta["content"] != old
            released += encode_event(msgspec.json.encode(chunk)) if is_loud else event.raw
        self._held, self._said = [], {}
        return released


def texts(reply: dict[str, Any], part: str) -> list[tuple[int, dict[str, Any]]]:
    """Find the parts of a reply or chunk that hold text, each with the index of its choice."""
    return [(c["index"], c[part]) for c in reply.get("choices", ()) if (c.get(part) or {}).get("content")]


def shout(text: str) -> str:
    """Upper-case what is shouted, letter by letter, so that the text keeps its length."""
    return SHOUTED.sub(lambda m: "".join(c.upper() if len(c.upper()) == 1 else c for c in m[0]), text)
