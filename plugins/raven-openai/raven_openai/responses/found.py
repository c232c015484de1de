"""The types of what vendors that serve the Responses API send, as far as it is read; and their usage.

Loose: several vendors leave out what OpenAI always sends.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.exchange import Usage

__all__ = [
    "Content",
    "Item",
    "Response",
    "StreamEvent",
    "finish_of",
    "read_item",
    "read_response",
    "usage_of",
]

_MOST = 10**8
_NULL = msgspec.Raw(b"null")


class Content(msgspec.Struct, gc=False):
    """One part of a message, a summary, or a reasoning item's text."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None


class Item(msgspec.Struct, gc=False):
    """An item of `output` whose type is one of those that are read; others stay as they are."""

    type: str = ""
    id: str | None = None
    content: list[Content] | None = None
    summary: list[Content] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | dict[str, Any] | None = None
    input: str | None = None
    result: str | None = None
    output_format: str | None = None


class Response(msgspec.Struct, gc=False):
    """A response, whole or in one of the events that carry it."""

    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    incomplete_details: dict[str, Any] | None = None
    service_tier: str | None = None


class StreamEvent(msgspec.Struct, gc=False):
    """Any event of a stream: which members it has follows from its type."""

    type: str = ""
    delta: str | dict[str, Any] | None = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item_id: str | None = None
    logprobs: list[dict[str, Any]] | None = None
    annotation: dict[str, Any] | None = None
    item: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    error: Any = None
    message: str | None = None
    code: Any = None


class _Kind(msgspec.Struct, gc=False):
    type: str = ""


read_item = msgspec.json.Decoder(Item).decode
read_response = msgspec.json.Decoder(Response).decode
_read_kind = msgspec.json.Decoder(_Kind).decode


def kind_of(item: msgspec.Raw) -> str:
    """Give an item's type, whatever else is in it."""
    return _read_kind(item).type


def finish_of(response: Response, *, has_calls: bool) -> str:
    """Give the standard finish reason of a response that is over; one that still runs is no error."""
    status = response.status
    if status == "incomplete":
        reason = (response.incomplete_details or {}).get("reason")
        if reason == "content_filter":
            return "content_filter"
        return "length" if reason in (None, "max_output_tokens", "max_tokens") else "stop"
    if status in ("failed", "cancelled"):
        return "error"
    return "tool_calls" if has_calls else "stop"


def usage_of(table: dict[str, Any] | None) -> Usage | None:
    """Read a usage object; None if it says nothing, or nothing that can be true.

    Details that contradict their count are cut to it.
    """
    if table is None:
        return None
    sent, made = _count(table.get("input_tokens")), _count(table.get("output_tokens"))
    if sent is None or made is None:
        return None
    return Usage(
        prompt_tokens=sent,
        completion_tokens=made,
        total_tokens=sent + made,
        cached_tokens=min(_detail(table, "input_tokens_details", "cached_tokens"), sent),
        cache_write_tokens=min(_detail(table, "input_tokens_details", "cache_write_tokens"), sent),
        reasoning_tokens=min(_detail(table, "output_tokens_details", "reasoning_tokens"), made),
        audio_input_tokens=min(_detail(table, "input_tokens_details", "audio_tokens"), sent),
        audio_output_tokens=min(_detail(table, "output_tokens_details", "audio_tokens"), made),
    )


def _count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None


def _detail(table: dict[str, Any], group: str, name: str) -> int:
    found = table.get(group)
    return (_count(found.get(name)) or 0) if isinstance(found, dict) else 0
