"""The types of a Responses request, as far as a translation reads it.

Loose where OpenAI's own clients are: items of many types share one Struct, and what a type needs is
judged where it is read (`turns`), so that an error can name the item and its remedy.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Asked", "Item", "Part", "ReasoningAsked", "TextAsked", "Tool", "read_asked"]


class Part(msgspec.Struct, gc=False):
    """One part of a message's content, a call's output, or a reasoning item."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | dict[str, Any] | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: dict[str, Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class Tool(msgspec.Struct, gc=False):
    """A tool of any type. In a `namespace` tool `tools` are functions and custom tools."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None
    tools: list[Any] | None = None


class Item(msgspec.Struct, gc=False):
    """One item of `input`; without `type` it is a message, or a reference if it has only an `id`."""

    type: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | dict[str, Any] | None = None
    input: str | None = None
    output: str | list[Part] | dict[str, Any] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    tools: list[Any] | None = None


class FormatAsked(msgspec.Struct, gc=False):
    """`text.format`."""

    type: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextAsked(msgspec.Struct, gc=False):
    """`text`."""

    format: FormatAsked | None = None
    verbosity: str | None = None


class ReasoningAsked(msgspec.Struct, gc=False):
    """`reasoning`."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None  # its older name
    context: str | None = None
    mode: str | None = None


class Asked(msgspec.Struct, gc=False):
    """A request for a response."""

    model: str
    input: str | list[Item] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextAsked | None = None
    reasoning: ReasoningAsked | None = None
    metadata: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    truncation: str | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    max_tool_calls: int | None = None
    stream_options: dict[str, Any] | None = None


read_asked = msgspec.json.Decoder(Asked).decode
