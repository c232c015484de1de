"""The shapes of Google's replies, as far as they are read; nothing is decided here.

Source: the reference of `models.generateContent` (v1beta) and of Vertex AI's. Fields whose type varies
(enums come as words or as numbers) are `Any`.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Blob", "Candidate", "Counts", "FunctionCall", "Part", "Problem", "Response"]


class FunctionCall(msgspec.Struct, gc=False):
    """A call. `args` is a JSON object; absent where there are no arguments."""

    name: str = ""
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw()


class Blob(msgspec.Struct, rename="camel", gc=False):
    """Bytes in base64."""

    mime_type: str | None = None
    data: str | None = None


class Part(msgspec.Struct, rename="camel"):
    """One part of an answer: exactly one kind is set, beside `thought` and `thought_signature`."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    executable_code: dict[str, Any] | None = None
    code_execution_result: dict[str, Any] | None = None
    tool_call: dict[str, Any] | None = None
    tool_response: dict[str, Any] | None = None


class Content(msgspec.Struct):
    """The parts of an answer; `{}` where it was held back."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One answer, or what a chunk adds to it."""

    content: Content | None = None
    finish_reason: Any = None  # a word, or its number
    index: int | None = None
    grounding_metadata: dict[str, Any] | None = None
    citation_metadata: dict[str, Any] | None = None
    logprobs_result: dict[str, Any] | None = None


class PromptFeedback(msgspec.Struct, rename="camel"):
    """Why there is no answer."""

    block_reason: Any = None


class Problem(msgspec.Struct):
    """`google.rpc.Status`; `details` are objects of several types, told apart by "@type"."""

    code: Any = None
    message: str | None = None
    status: str | None = None
    details: Any = None


class Counts(msgspec.Struct, rename="camel", gc=False):
    """`usageMetadata`: token counts, cumulative in a stream. The details are read where they are needed."""

    prompt_token_count: Any = None
    candidates_token_count: Any = None
    thoughts_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    cached_content_token_count: Any = None
    prompt_tokens_details: msgspec.Raw = msgspec.Raw()
    candidates_tokens_details: msgspec.Raw = msgspec.Raw()


class Response(msgspec.Struct, rename="camel"):
    """A reply, or one chunk of it."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Counts | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None  # RFC 3339; Vertex AI alone says it
    error: Problem | None = None
