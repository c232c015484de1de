"""Reading `usageMetadata`: Google counts thoughts and tool prompts apart, the gateway within.

`promptTokenCount` has the cached tokens in it; `candidatesTokenCount` has no thoughts in it, and
`toolUsePromptTokenCount` (what a search or the code's output added) stands beside the prompt.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.exchange import Usage

from .wire import Counts

__all__ = ["read_usage"]

_MOST = 10**8
_AUDIO = ("AUDIO", 4)  # the word, or its number


def read_usage(counts: Counts) -> Usage | None:
    """Read the counts; None while they report nothing (Vertex AI sends a traffic type alone at first)."""
    prompt = _count(counts.prompt_token_count)
    if counts.tool_use_prompt_token_count is not None:
        prompt += _count(counts.tool_use_prompt_token_count)
    thoughts = _count(counts.thoughts_token_count)
    completion = _count(counts.candidates_token_count) + thoughts
    if not prompt and not completion:
        return None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=min(_count(counts.cached_content_token_count), prompt),
        reasoning_tokens=thoughts,
        audio_input_tokens=min(_audio(counts.prompt_tokens_details), prompt),
        audio_output_tokens=min(_audio(counts.candidates_tokens_details), completion),
    )


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value <= _MOST else 0


def _audio(details: msgspec.Raw) -> int:
    text = bytes(details)
    if b"AUDIO" not in text and b"4" not in text:  # most have none
        return 0
    rows = msgspec.json.decode(text)
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return sum(_count(row.get("tokenCount")) for row in rows if row.get("modality") in _AUDIO)
