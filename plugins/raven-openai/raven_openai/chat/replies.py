"""The hub's chat reply → the JSON of a chat completion; and the pieces that its stream shares with it.

Every field that OpenAI's own types require is there. Beside them: `native_finish_reason`, `images` and
`reasoning_details` (OpenRouter's), `reasoning_content`, and `citations` of what the client itself sent.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

__all__ = [
    "SERVICE_TIERS",
    "completion_id",
    "render_annotation",
    "render_call",
    "render_detail",
    "render_image",
    "render_usage",
    "upstream_model",
    "uses_functions",
    "write_chat_reply",
]

SERVICE_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
"""Those that OpenAI's clients know; strict ones refuse the words of other vendors."""

_FORMATS = {"anthropic": "anthropic-claude-v1", "openai": "openai-responses-v1", "google": "google-gemini-v1"}


def write_chat_reply(reply: hub.ChatReply, exchange: Exchange) -> bytes:
    """Write a whole chat completion."""
    document: dict[str, Any] = {
        "id": reply.id or completion_id(exchange, "chatcmpl-"),
        "object": "chat.completion",
        "created": reply.created or int(time.time()),
        "model": reply.model or upstream_model(exchange),
        "choices": [
            _render_choice(choice, index, functions=uses_functions(exchange))
            for index, choice in enumerate(reply.choices or [hub.Choice()])
        ],
    }
    if reply.usage is not None:
        document["usage"] = render_usage(reply.usage)
    if reply.service_tier in SERVICE_TIERS:
        document["service_tier"] = reply.service_tier
    if reply.system_fingerprint is not None:
        document["system_fingerprint"] = reply.system_fingerprint
    return msgspec.json.encode(document)


def completion_id(exchange: Exchange, prefix: str) -> str:
    """Make an id of the exchange's own."""
    return prefix + exchange.id.partition("_")[2]


def upstream_model(exchange: Exchange) -> str:
    """Give the upstream's name for the model, for vendors that do not repeat it."""
    candidate = exchange.candidate
    return (candidate.model if candidate is not None else None) or exchange.model or ""


def uses_functions(exchange: Exchange) -> bool:
    """Say whether the client asked in the words of before `tools`: `functions`."""
    request = exchange.hub_request
    return isinstance(request, hub.ChatRequest) and request.names.get("tools") == "functions"


def render_usage(usage: Usage) -> dict[str, Any]:
    """Give OpenAI's usage object; cache writes under its newer name."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
        },
    }


def _render_choice(choice: hub.Choice, index: int, *, functions: bool) -> dict[str, Any]:
    message = _render_message(choice.parts)
    finish: str = choice.finish
    if functions and (calls := message.pop("tool_calls", None)):
        message["function_call"] = calls[0].get("function")
        finish = "function_call" if finish == "tool_calls" else finish
    rendered: dict[str, Any] = {
        "index": index,
        "message": message,
        "logprobs": _fill_logprobs(choice.logprobs),
        "finish_reason": finish,
    }
    if choice.native_finish is not None:
        rendered["native_finish_reason"] = choice.native_finish
    return rendered


def _fill_logprobs(logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
    return {"content": None, "refusal": None, **logprobs} if logprobs is not None else None


def _render_message(parts: list[hub.Part]) -> dict[str, Any]:
    text, refusal, thoughts, calls, others = _sort(parts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(text) if text or not (calls or refusal or others) else None,
        "refusal": "".join(refusal) or None,
    }
    if thoughts:
        message["reasoning_content"] = "".join([part.text for part in thoughts])
        details: list[dict[str, Any]] = []
        for part in thoughts:
            details += render_detail(part, len(details))
        if details:
            message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = [render_call(call) for call in calls]
    message |= _render_citations(parts)
    for part in others:
        if isinstance(part, hub.Image):
            images = message.setdefault("images", [])
            images.append(render_image(part, len(images)))
        elif isinstance(part, hub.Audio):
            message["audio"] = {
                "id": part.id or "",
                "data": part.media.data or "",
                "expires_at": part.expires_at or 0,
                "transcript": part.transcript or "",
            }
    return message


def _sort(
    parts: list[hub.Part],
) -> tuple[list[str], list[str], list[hub.Reasoning], list[hub.ToolCall], list[Any]]:
    text: list[str] = []
    refusal: list[str] = []
    thoughts: list[hub.Reasoning] = []
    calls: list[hub.ToolCall] = []
    others: list[Any] = []
    for part in parts:
        if isinstance(part, hub.Text):
            text.append(part.text)
        elif isinstance(part, hub.Reasoning):
            thoughts.append(part)
        elif isinstance(part, hub.ToolCall):
            calls.append(part)
        elif isinstance(part, hub.Refusal):
            refusal.append(part.text)
        elif isinstance(part, hub.Image | hub.Audio):
            others.append(part)
    return text, refusal, thoughts, calls, others


def _render_citations(parts: list[hub.Part]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    begin = 0  # of the part in the joined text
    for part in parts:
        if isinstance(part, hub.Text):
            for annotation in part.annotations:
                name, rendered = render_annotation(annotation, begin, begin + len(part.text))
                found.setdefault(name, []).append(rendered)
            begin += len(part.text)
    return found


def render_annotation(annotation: hub.Annotation, begin: int, end: int) -> tuple[str, dict[str, Any]]:
    """Give the field that holds it and its JSON. `begin` and `end` are the bounds of its text part.

    OpenAI knows citations of pages alone; those of documents stand in `citations`, which is our own.
    """
    start = begin + annotation.start if annotation.start is not None else begin
    stop = begin + annotation.end if annotation.end is not None else end
    if annotation.kind == "url":
        citation = {
            "url": annotation.url or "",
            "title": annotation.title or "",
            "start_index": start,
            "end_index": stop,
        }
        return "annotations", {"type": "url_citation", "url_citation": citation}
    return "citations", {
        "type": "document",
        "title": annotation.title,
        "cited_text": annotation.cited_text,
        "start_index": start,
        "end_index": stop,
    }


def render_call(call: hub.ToolCall) -> dict[str, Any]:
    """Give an item of `tool_calls`; Google's signature goes along, to come back."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    rendered: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None and call.format == "google":
        rendered["extra_content"] = {"google": {"thought_signature": call.signature}}
    return rendered


def render_detail(part: hub.Reasoning, index: int) -> list[dict[str, Any]]:
    """Give the items of OpenRouter's `reasoning_details`; none for thinking that is plain text.

    `index` is the first one's: clients put the pieces of a stream together by it.
    """
    if part.signature is None and part.data is None and part.format is None and part.kind == "text":
        return []
    tail = {"id": part.id, "format": _FORMATS.get(part.format or "", part.format)}
    items: list[dict[str, Any]] = []
    if part.kind == "summary":
        items.append({"type": "reasoning.summary", "summary": part.text, **tail})
    elif part.text or part.signature is not None:
        items.append({"type": "reasoning.text", "text": part.text, "signature": part.signature, **tail})
    if part.data is not None:
        items.append({"type": "reasoning.encrypted", "data": part.data, **tail})
    for place, item in enumerate(items, index):
        item["index"] = place
    return items


def render_image(part: hub.Image, index: int) -> dict[str, Any]:
    """Give an item of OpenRouter's `images`."""
    url = hub.make_data_url(part.media, "image/png")
    return {"type": "image_url", "image_url": {"url": url}, "index": index}
