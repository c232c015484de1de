"""What clients send to chat completions, as Structs: OpenAI's API reference and the extensions in use.

Nothing is judged here beyond types; unknown fields are let by. Extensions: LiteLLM's `thinking`,
`thinking_blocks`, `cache_control` and `reasoning_content`, OpenRouter's `reasoning` and
`reasoning_details`, Google's `extra_content`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy.hub import Effort

__all__ = [
    "AllowedTools",
    "AudioPart",
    "Body",
    "Cache",
    "ContentPart",
    "FilePart",
    "ForcedTool",
    "FunctionCall",
    "ImagePart",
    "ReasoningDetail",
    "RedactedPart",
    "RefusalPart",
    "ResponseFormat",
    "TextPart",
    "ThinkingPart",
    "ToolCallItem",
    "ToolItem",
    "Turn",
]

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class Cache(msgspec.Struct):
    """`cache_control`, as LiteLLM and OpenRouter take it from Anthropic."""

    ttl: str | None = None


class TextPart(msgspec.Struct, tag="text"):
    text: str
    cache_control: Cache | None = None


class _ImageURL(msgspec.Struct):
    url: str
    detail: str | None = None


class ImagePart(msgspec.Struct, tag="image_url"):
    image_url: _ImageURL | str
    cache_control: Cache | None = None


class _InputAudio(msgspec.Struct):
    data: str
    format: str | None = None


class AudioPart(msgspec.Struct, tag="input_audio"):
    input_audio: _InputAudio


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    format: str | None = None  # LiteLLM: the media type


class FilePart(msgspec.Struct, tag="file"):
    file: _File
    cache_control: Cache | None = None


class RefusalPart(msgspec.Struct, tag="refusal"):
    refusal: str


class ThinkingPart(msgspec.Struct, tag="thinking"):
    """Thinking inside the content: Anthropic's block through LiteLLM, or Mistral's list of chunks."""

    thinking: str | list[Any] = ""
    signature: str | None = None


class RedactedPart(msgspec.Struct, tag="redacted_thinking"):
    data: str = ""


ContentPart = TextPart | ImagePart | AudioPart | FilePart | RefusalPart | ThinkingPart | RedactedPart


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str | None = None


class _CustomCall(msgspec.Struct):
    name: str
    input: str = ""


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _ExtraContent(msgspec.Struct):
    google: _Google | None = None


class ToolCallItem(msgspec.Struct):
    id: str
    type: Literal["function", "custom"] | None = None
    function: FunctionCall | None = None
    custom: _CustomCall | None = None
    extra_content: _ExtraContent | None = None
    cache_control: Cache | None = None


class ReasoningDetail(msgspec.Struct):
    """An item of OpenRouter's `reasoning_details`."""

    type: str = "reasoning.text"
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None
    id: str | None = None


class _AudioRef(msgspec.Struct):
    id: str


class Turn(msgspec.Struct):
    """A message; what follows `cache_control` only the assistant's have."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    cache_control: Cache | None = None
    tool_calls: list[ToolCallItem] | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    audio: _AudioRef | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[ReasoningDetail] | None = None
    thinking_blocks: list[ThinkingPart | RedactedPart] | None = None


class _Function(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Cache | None = None


class _Custom(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    format: dict[str, Any] | None = None


class ToolItem(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None
    custom: _Custom | None = None
    cache_control: Cache | None = None


class _Named(msgspec.Struct):
    name: str


class AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[ForcedTool]


class ForcedTool(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: AllowedTools | None = None


class _Schema(msgspec.Struct):
    name: str = "response"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Reasoning(msgspec.Struct):
    """OpenRouter's `reasoning`, and that of Responses."""

    effort: Effort | None = None
    max_tokens: _Count | None = None
    enabled: bool | None = None
    exclude: bool | None = None
    summary: str | None = None


class _Thinking(msgspec.Struct):
    """Anthropic's `thinking`, as LiteLLM, Z.ai, Moonshot and DeepSeek take it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: _Count | None = None


class Body(msgspec.Struct):
    """A chat completion request. What the gateway must know beforehand is judged in `calls`."""

    model: str
    messages: list[Turn]
    stream: bool | None = None
    stream_options: Any = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    n: _Count | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: _Count | None = None
    tools: list[dict[str, Any]] | None = None
    functions: list[_Function] | None = None
    tool_choice: Literal["auto", "none", "required", "any"] | ForcedTool | None = None
    function_call: Literal["auto", "none"] | _Named | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | Literal["default"] | None = None
    reasoning: _Reasoning | None = None
    thinking: _Thinking | None = None
    include_reasoning: bool | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
