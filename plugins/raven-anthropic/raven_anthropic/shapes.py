"""Anthropic's requests as clients write them: typed, so that any nonsense is a 400, and lenient about more.

Content blocks stay raw until `blocks` reads them one by one, which knows where each of them stands.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Block", "CacheControl", "Request", "Source", "Tool"]


class CacheControl(msgspec.Struct):
    """`cache_control`."""

    ttl: str | None = None


class Source(msgspec.Struct):
    """Where an image's or document's bytes are."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[msgspec.Raw] | None = None


class _Citations(msgspec.Struct):
    enabled: bool | None = None


class Block(msgspec.Struct):
    """Any content block: the fields of all that are understood here."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    tool_name: str | None = None
    content: str | list[msgspec.Raw] | dict[str, Any] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    title: str | None = None
    context: str | None = None
    cache_control: CacheControl | None = None
    citations: _Citations | list[dict[str, Any]] | None = None


class Message(msgspec.Struct):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[msgspec.Raw]


class Tool(msgspec.Struct):
    """A tool; those of another `type` than "custom" are the vendor's own."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    input_examples: list[Any] | None = None


class ToolChoice(msgspec.Struct):
    """`tool_choice`."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """`thinking`; its kinds grow."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class Format(msgspec.Struct):
    """A wish for JSON."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct):
    """`output_config`."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Request(msgspec.Struct):
    """The body, as far as it is understood; what it has besides is found by its members."""

    messages: list[Message]
    max_tokens: int | None = None
    system: str | list[msgspec.Raw] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
