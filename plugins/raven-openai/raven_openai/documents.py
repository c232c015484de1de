"""The few fields of a vendor's reply that metering reads, whole or as one event of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.refusals import describe, scrub

from . import events

__all__ = ["Choice", "Document", "choices_of", "error_of", "groq_usage", "read", "read_event", "usage_of"]

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_NULL = msgspec.Raw(b"null")


class Choice(msgspec.Struct):
    """One of `choices`; Moonshot puts the usage here."""

    finish_reason: str | None = None
    usage: dict[str, Any] | None = None


class _GroqExtra(msgspec.Struct):
    usage: dict[str, Any] | None = None


class Document(msgspec.Struct):
    """A chat completion, a chunk of one, a list of embeddings, or an error."""

    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    choices: msgspec.Raw = _NULL
    x_groq: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(Document).decode
_decode_choices = msgspec.json.Decoder(list[Choice] | None).decode
_decode_groq = msgspec.json.Decoder(_GroqExtra | None).decode


def read(text: bytes) -> Document | None:
    """Read a JSON document; None if it is not a JSON object."""
    try:
        return _decode(text)
    except _UNREADABLE:
        return None


def read_event(event: bytes) -> Document | None:
    """Read the JSON of an event, which may be spread over several `data:` lines; None if it has none."""
    return read(events.data_of(event))


def choices_of(document: Document) -> list[Choice]:
    """Give the choices, as far as they can be read."""
    try:
        return _decode_choices(document.choices) or []
    except _UNREADABLE:
        return []


def usage_of(document: Document) -> dict[str, Any] | None:
    """Find the usage object, in any of the three places where vendors put it."""
    if isinstance(document.usage, dict):
        return document.usage
    for choice in choices_of(document):
        if choice.usage is not None:
            return choice.usage
    return groq_usage(document.x_groq)


def groq_usage(x_groq: msgspec.Raw) -> dict[str, Any] | None:
    """Find the usage in Groq's own member."""
    try:
        extra = _decode_groq(x_groq)
    except _UNREADABLE:
        return None
    return extra.usage if extra is not None else None


def error_of(document: Document, secret: str) -> str | None:
    """Give the message of an error that came in the place of a reply, scrubbed; None if none did."""
    if isinstance(document.error, dict | str) and document.error:
        said = describe({"error": document.error}).message
    elif document.object == "error":
        said = describe({"message": document.message}).message
    else:
        return None
    return scrub(said, secret)[:2048] or "The provider reported an error."
