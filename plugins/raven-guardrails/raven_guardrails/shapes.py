"""Where the texts of a stream are, dialect by dialect: which strings go on from event to event, until when.

A *channel* is a text that comes in pieces; its key is a tuple that begins with the choice, block or item that
it belongs to. What is in no channel is a text by itself, and may well repeat a channel as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import msgspec

from .slots import Slot
from .texts import is_wordless

__all__ = ["EVERYTHING", "PLAIN", "Key", "Reading", "Shape", "shape_of"]

Key = tuple[Hashable, ...]
EVERYTHING: Key = ()
"""The beginning of every key."""
_JSON = frozenset({"arguments", "partial_json", "input", "parameters"})
_WHOLE = frozenset({"name", "title", "url", "stop_sequence"})  # never in pieces


class Piece(msgspec.Struct, frozen=True, eq=False):
    """A string that goes on in later events."""

    key: Key
    slot: Slot
    is_json: bool


class Reading(msgspec.Struct):
    """What one event holds: pieces of channels, and the beginnings of the keys of those that end with it."""

    pieces: list[Piece] = []
    ended: list[Key] = []


class Shape(msgspec.Struct, frozen=True):
    """How a dialect's events are read. `answer` gives the choice whose answer a channel is, or None."""

    read: Callable[[Any, str], Reading]
    answer: Callable[[Key], Hashable | None]
    is_known: bool = True


def shape_of(dialect: str) -> Shape:
    """Give a dialect's shape; one that is not known is looked at in every way."""
    return _SHAPES.get(dialect, _ANY)


def _pieces(value: Any, key: Key) -> Iterator[Piece]:
    """Take every string in a value as a piece of a channel of its own, by where it stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str):
                if inner and name not in _WHOLE and not is_wordless(name, inner):
                    yield Piece((*key, name), Slot(value, name, inner), name in _JSON)
            elif isinstance(inner, dict | list):
                yield from _pieces(inner, (*key, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, str) and inner:
                yield Piece((*key, "*"), Slot(value, index, inner), is_json=False)
            elif isinstance(inner, dict):
                # Places in a list mean nothing from one event to the next, unless an item says its own.
                own = inner.get("index")
                yield from _pieces(inner, (*key, own if type(own) is int else str(inner.get("type", "*"))))
            elif isinstance(inner, list):
                yield from _pieces(inner, (*key, "*"))


def _choice(item: dict[str, Any], index: int) -> int:
    own = item.get("index")
    return own if type(own) is int else index


def _items(document: Any, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    items = document.get(name) if isinstance(document, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield _choice(item, index), item


def _read_chat(document: Any, _: str) -> Reading:
    reading = Reading()
    for choice, item in _items(document, "choices"):
        reading.pieces += _pieces(item.get("delta"), (choice,))
        if isinstance(text := item.get("text"), str) and text:
            reading.pieces.append(Piece((choice, "text"), Slot(item, "text", text), is_json=False))
        if item.get("finish_reason"):
            reading.ended.append((choice,))
    return reading


def _read_messages(document: Any, _: str) -> Reading:
    if not isinstance(document, dict):
        return _read_any(document, "")
    index, kind = document.get("index"), document.get("type")
    block = document.get("content_block" if kind == "content_block_start" else "delta")
    key = (index if type(index) is int else None,)
    ended: list[Key] = [key] if kind == "content_block_stop" else []
    return Reading(list(_pieces(block, key)), [EVERYTHING] if kind == "message_stop" else ended)


def _read_responses(document: Any, _: str) -> Reading:
    if not isinstance(document, dict):
        return _read_any(document, "")
    kind = str(document.get("type"))
    stem, _, last = kind.rpartition(".")
    names = ("output_index", "item_id", "content_index", "summary_index")
    place = tuple(value if isinstance(value := document.get(name), int | str) else None for name in names)
    delta = document.get("delta")
    if last == "delta" and isinstance(delta, str):
        if not delta or stem in ("response.audio", "response.output_audio"):
            return Reading()
        is_json = stem in ("response.function_call_arguments", "response.mcp_call_arguments")
        return Reading([Piece((*place, stem), Slot(document, "delta", delta), is_json)])
    if last == "done":
        return Reading(ended=[place[:1] if stem == "response.output_item" else (*place, stem)])
    is_over = kind in ("response.completed", "response.incomplete", "response.failed")
    return Reading(ended=[EVERYTHING] if is_over else [])


def _read_gemini(document: Any, _: str) -> Reading:
    reading = Reading()
    for choice, candidate in _items(document, "candidates"):
        content = candidate.get("content")
        for _index, part in _items(content, "parts"):
            if isinstance(text := part.get("text"), str) and text:
                kind = "thought" if part.get("thought") else "text"
                reading.pieces.append(Piece((choice, kind), Slot(part, "text", text), is_json=False))
        if candidate.get("finishReason"):
            reading.ended.append((choice,))
    return reading


def _read_converse(document: Any, name: str) -> Reading:
    index = document.get("contentBlockIndex") if isinstance(document, dict) else None
    if type(index) is not int:
        return Reading(ended=[EVERYTHING] if name == "messageStop" else [])
    pieces = [*_pieces(document.get("start"), (index,)), *_pieces(document.get("delta"), (index,))]
    return Reading(pieces, [(index,)] if name == "contentBlockStop" else [])


def _read_cohere(document: Any, _: str) -> Reading:
    if not isinstance(document, dict):
        return _read_any(document, "")
    index, kind = document.get("index"), str(document.get("type"))
    key = (index if type(index) is int else None,)
    if kind == "message-end":
        return Reading(ended=[EVERYTHING])
    return Reading(list(_pieces(document.get("delta"), key)), [key] if kind.endswith("-end") else [])


def _read_older_cohere(document: Any, _: str) -> Reading:
    kind = document.get("event_type") if isinstance(document, dict) else None
    if kind == "stream-end":
        return Reading(ended=[EVERYTHING])
    if kind in ("text-generation", "tool-calls-chunk"):
        return Reading(list(_pieces(document, (0,))))
    return Reading()


def _read_ollama(document: Any, _: str) -> Reading:
    if not isinstance(document, dict):
        return _read_any(document, "")
    reading = Reading(ended=[EVERYTHING] if document.get("done") else [])
    for holder in (document, document.get("message")):
        for name in ("content", "thinking", "response"):
            if isinstance(holder, dict) and isinstance(text := holder.get(name), str) and text:
                reading.pieces.append(Piece((0, name), Slot(holder, name, text), is_json=False))
    return reading


def _read_any(document: Any, _: str) -> Reading:
    return Reading(list(_pieces(document, ("any",))))


def _read_invoke(document: Any, name: str) -> Reading:
    """Read what a model on Bedrock sends in a form of its own; Claude's is Anthropic's."""
    kind = document.get("type") if isinstance(document, dict) else None
    is_claude = isinstance(kind, str) and kind.startswith(("message_", "content_block_"))
    return _read_messages(document, name) if is_claude else _read_any(document, name)


def _by_choice(*names: str) -> Callable[[Key], Hashable | None]:
    wanted = set(names)
    return lambda key: key[0] if len(key) == 2 and key[1] in wanted else None


def _in_all(*names: str) -> Callable[[Key], Hashable | None]:
    wanted = set(names)
    return lambda key: "all" if key[-1] in wanted and "thinking" not in key else None


def _nothing(_: Key) -> Hashable | None:
    return None


PLAIN = Shape(_read_any, lambda _: "all")
"""Text and nothing around it: its pieces are cut where the network cuts them."""
_ANY = Shape(_read_any, _nothing, is_known=False)
_CHAT = Shape(_read_chat, _by_choice("content", "text"))
_MESSAGES = Shape(_read_messages, lambda key: "all" if key[1:] == ("text",) else None)
_RESPONSES = Shape(_read_responses, _in_all("response.output_text"))
_OLLAMA = Shape(_read_ollama, _in_all("content", "response"))
_SHAPES = {
    "openai.chat": _CHAT,
    "openai.completions": _CHAT,
    "openai.responses": _RESPONSES,
    "openai.responses.item": _RESPONSES,
    "anthropic.messages": _MESSAGES,
    "vertex.anthropic": _MESSAGES,
    "gemini.generate": Shape(_read_gemini, _by_choice("text")),
    "bedrock.converse": Shape(_read_converse, lambda key: "all" if key[1:] == ("text",) else None),
    "bedrock.invoke": Shape(_read_invoke, lambda key: "all" if key[1:] == ("text",) else None),
    "cohere.chat": Shape(
        _read_cohere, lambda key: "all" if key[1:] == ("message", "content", "text") else None
    ),
    "cohere.chat.v1": Shape(_read_older_cohere, _in_all("text")),
    "ollama.chat": _OLLAMA,
    "ollama.generate": _OLLAMA,
}
