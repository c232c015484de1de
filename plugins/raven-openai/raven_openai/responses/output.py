"""The items of a response's `output`, and its usage, as OpenAI's own types demand them.

Plain constructors of JSON objects: what is in them is decided by `objects` (whole replies) and `writer`
(streams). Shapes: OpenAI's API reference, responses/object.
"""

from __future__ import annotations

from typing import Any

from raven_proxy.exchange import Usage
from raven_proxy.hub import Annotation

__all__ = [
    "annotation_of",
    "call_item",
    "image_item",
    "logprobs_of",
    "message_item",
    "reasoning_item",
    "refusal_part",
    "text_part",
    "usage_of",
]

_CITATIONS = {
    "url_citation": ("url", "title", "start_index", "end_index"),
    "file_citation": ("file_id", "filename", "index"),
    "container_file_citation": ("container_id", "file_id", "filename", "start_index", "end_index"),
    "file_path": ("file_id", "index"),
}


def message_item(id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Make a message of the model's."""
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str, annotations: list[dict[str, Any]], logprobs: list[Any]) -> dict[str, Any]:
    """Make a message's text."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def refusal_part(text: str) -> dict[str, Any]:
    """Make a message's refusal."""
    return {"type": "refusal", "refusal": text}


def reasoning_item(id: str, status: str, texts: list[str], sealed: str | None) -> dict[str, Any]:
    """Make a reasoning item. Visible thinking of any kind is its summary: that is what clients show."""
    summary = [{"type": "summary_text", "text": text} for text in texts]
    item: dict[str, Any] = {"id": id, "type": "reasoning", "status": status, "summary": summary}
    if sealed is not None:
        item["encrypted_content"] = sealed
    return item


def call_item(
    id: str, status: str, call_id: str, name: str, arguments: str, *, custom: bool, namespace: str | None
) -> dict[str, Any]:
    """Make a call of a function or a custom tool. `call_id` pairs it with its output, `id` does not."""
    item: dict[str, Any] = {
        "id": id,
        "type": "custom_tool_call" if custom else "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "input" if custom else "arguments": arguments,
    }
    if namespace is not None:
        item["namespace"] = namespace
    return item


def image_item(id: str, data: str | None, media_type: str | None) -> dict[str, Any]:
    """Make an image that the model drew; `data` is base64."""
    item = {"id": id, "type": "image_generation_call", "status": "completed", "result": data}
    kind = (media_type or "").removeprefix("image/")
    return item | {"output_format": kind} if kind in ("png", "webp", "jpeg", "gif") else item


def annotation_of(annotation: Annotation, length: int) -> dict[str, Any]:
    """Make an annotation of a text of which `length` characters are known.

    A citation whose place is unknown stands at the text's end. The quoted words are kept beside it.
    """
    native = annotation.native or {}
    kind = native.get("type")
    if isinstance(kind, str) and kind in _CITATIONS and all(name in native for name in _CITATIONS[kind]):
        return native
    start = annotation.start if annotation.start is not None else length
    end = annotation.end if annotation.end is not None else max(start, length)
    found: dict[str, Any]
    if annotation.kind == "url" or annotation.url is not None:
        found = {"type": "url_citation", "url": annotation.url or "", "title": annotation.title or ""}
        found |= {"start_index": start, "end_index": end}
    else:
        found = {"type": "file_citation", "file_id": "", "filename": annotation.title or "", "index": end}
    if annotation.cited_text:
        found["cited_text"] = annotation.cited_text
    return found


def logprobs_of(table: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Make a text's log probabilities of a chat's: here no byte list may be missing."""
    found = (table or {}).get("content")
    return [_logprob(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _logprob(one: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    token = str(one.get("token", ""))
    size = one.get("bytes")
    made: dict[str, Any] = {
        "token": token,
        "logprob": one.get("logprob") or 0.0,
        "bytes": size if isinstance(size, list) else list(token.encode("utf-8", "replace")),
    }
    if not depth:
        top = one.get("top_logprobs")
        listed = top if isinstance(top, list) else []
        made["top_logprobs"] = [_logprob(each, 1) for each in listed if isinstance(each, dict)]
    return made


def usage_of(usage: Usage) -> dict[str, Any]:
    """Make the usage object; both details are required, and the total is the sum of both counts."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
