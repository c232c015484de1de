"""Reading token counts as vendors report them, and estimating them where they do not.

A count is a whole number from 0 to 10^8; zero stays zero. Anything else (null, text, a negative or
absurd number) is treated as not reported, estimated from bytes, and marked `estimated`. Details that
contradict their total are cut to it, so that no later sum can become negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from raven_proxy.exchange import Usage

__all__ = ["count_text", "read_usage"]

_MOST = 10**8
_MISSING = -1
_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_token_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Together, Moonshot
    ("cache_read_input_tokens",),  # Venice, Vercel
    ("num_cached_tokens",),  # Mistral
)
_CACHE_WRITE = (
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenRouter
    ("cache_creation_input_tokens",),  # Vercel, Doubleword
)
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),  # Perplexity
)
_AUDIO_IN = (("prompt_tokens_details", "audio_tokens"),)
_AUDIO_OUT = (("completion_tokens_details", "audio_tokens"),)

# A model's words, wherever they stand. A quote inside a JSON string is escaped, so a key's name in
# the text itself never matches.
_CHAT_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|arguments|refusal)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"',
    re.DOTALL,
)
_COMPLETION_TEXT = re.compile(rb'"text"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)


def read_usage(
    table: dict[str, Any],
    prompt_estimate: Callable[[], int],
    completion_estimate: Callable[[], int],
    *,
    reasoning_apart: bool = False,
) -> Usage:
    """Read a `usage` object; an empty one gives estimates alone. Never raises.

    With `reasoning_apart` the vendor leaves reasoning out of `completion_tokens` and counts it in
    the total alone: here it is part of the completion, as it is billed.
    """
    total = _count(table.get("total_tokens"))
    prompt, completion = _parts(table, total)
    estimated = prompt is None or completion is None
    prompt_tokens = prompt_estimate() if prompt is None else prompt
    completion_tokens = completion_estimate() if completion is None else completion
    reasoning = _detail(table, _REASONING)
    rest = (total or 0) - prompt_tokens - completion_tokens
    if not estimated and rest > 0 and (reasoning_apart or rest == reasoning):
        completion_tokens += rest
    both = prompt_tokens + completion_tokens
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=both if estimated else max(total or 0, both),
        cached_tokens=min(_detail(table, _CACHED), prompt_tokens),
        cache_write_tokens=min(_detail(table, _CACHE_WRITE), prompt_tokens),
        reasoning_tokens=min(reasoning, completion_tokens),
        audio_input_tokens=min(_detail(table, _AUDIO_IN), prompt_tokens),
        audio_output_tokens=min(_detail(table, _AUDIO_OUT), completion_tokens),
        estimated=estimated,
    )


def _parts(table: dict[str, Any], total: int | None) -> tuple[int | None, int | None]:
    """Give prompt and completion; one that is missing follows from the total. None if it makes no sense."""
    prompt = _reported(table, "prompt_tokens", "input_tokens")
    completion = _reported(table, "completion_tokens", "output_tokens")
    if total is not None:
        if prompt == _MISSING and completion is not None:  # Voyage reports a total alone
            prompt = max(0, total - max(0, completion))
        if completion == _MISSING and prompt is not None:
            completion = max(0, total - prompt)
    return None if prompt == _MISSING else prompt, None if completion == _MISSING else completion


def count_text(text: bytes, *, is_chat: bool) -> int:
    """Count the bytes of a model's words (answer, reasoning, tool arguments) in reply bytes."""
    return sum(map(len, (_CHAT_TEXT if is_chat else _COMPLETION_TEXT).findall(text)))


def _count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None


def _reported(table: dict[str, Any], *names: str) -> int | None:
    """Give the count under the first of `names`; _MISSING if none is there, None if it makes no sense."""
    for name in names:
        value = table.get(name)
        if value is not None:
            return _count(value)
    return _MISSING


def _detail(table: dict[str, Any], places: tuple[tuple[str, ...], ...]) -> int:
    for place in places:
        value: Any = table
        for name in place:
            value = value.get(name) if type(value) is dict else None
        found = _count(value)
        if found:
            return found
    return 0
