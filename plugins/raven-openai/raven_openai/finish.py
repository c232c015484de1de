"""Finish reasons: the five words that a client may rely on, and what vendors say instead.

Four of them are OpenAI's (API reference, `finish_reason`), with its older `function_call`; `error` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["FOREIGN_IN_STREAM", "FOREIGN_WORD", "STANDARD", "normalize", "rewrite"]

STANDARD = frozenset({"stop", "length", "tool_calls", "content_filter", "error", "function_call"})

# Words of several vendors, in lower case.
_COMMON = {
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "max_tokens": "length",
    "max_length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "function_calls": "tool_calls",
    "refusal": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "guardrail_intervened": "content_filter",
    "abort": "error",
    "cancelled": "error",
    "malformed_function_call": "error",
}
_WORD = re.compile(rb'("finish_reason"\s*:\s*)"([^"\\]*)"')
# A quote inside a JSON string is escaped, so these never match in a model's text.
FOREIGN_WORD = re.compile(
    rb'"finish_reason"\s*:\s*"(?!(?:stop|length|tool_calls|content_filter|error|function_call)")'
)
# In a stream an empty word is a way to say "not yet", in every chunk but the last.
FOREIGN_IN_STREAM = re.compile(
    rb'"finish_reason"\s*:\s*"(?!(?:stop|length|tool_calls|content_filter|error|function_call|)")'
)
_TOOL_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')


def normalize(word: str, words: Mapping[str, str], text: bytes = b"") -> str:
    """Give the standard word for a vendor's; `words` are the vendor's own, beside the common ones.

    An empty word with tool calls beside it in `text` means `tool_calls`. A word that nobody knows is
    a `stop`: the model ended, and no more is known.
    """
    if word in STANDARD:
        return word
    if not word and _TOOL_CALLS.search(text):
        return "tool_calls"
    found = words.get(word) or _COMMON.get(word.lower())
    if found is not None:
        return found
    # Gemini writes "content_filter: RECITATION".
    return "content_filter" if word.startswith("content_filter") else "stop"


def rewrite(text: bytes, words: Mapping[str, str], *, streamed: bool = False) -> bytes:
    """Put standard words in the place of a vendor's own, in JSON or, `streamed`, in one event.

    The vendor's word is kept beside it as `native_finish_reason`, unless the vendor says that
    itself. Every other byte stays.
    """
    is_native_given = b'"native_finish_reason"' in text

    def replace(match: re.Match[bytes]) -> bytes:
        native = match[2].decode("utf-8", "replace")
        if native in STANDARD or (streamed and not native):
            return match[0]
        changed = match[1] + b'"' + normalize(native, words, text).encode() + b'"'
        return changed if is_native_given else changed + b',"native_finish_reason":"' + match[2] + b'"'

    return _WORD.sub(replace, text)
