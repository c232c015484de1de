"""Google's words for why an answer ended, in the gateway's five."""

from __future__ import annotations

from typing import Any

from raven_proxy.hub import Finish

__all__ = ["finish_word", "normalize"]

# Candidate.FinishReason of google.ai.generativelanguage.v1beta: with enum-encoding=int numbers come.
_NUMBERS = (
    "FINISH_REASON_UNSPECIFIED STOP MAX_TOKENS SAFETY RECITATION OTHER LANGUAGE BLOCKLIST PROHIBITED_CONTENT "
    "SPII MALFORMED_FUNCTION_CALL IMAGE_SAFETY UNEXPECTED_TOOL_CALL"
).split()
_FILTERED = (
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
    "IMAGE_RECITATION MODEL_ARMOR"
).split()
_BROKEN = (
    "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE "
    "MALFORMED_RESPONSE NO_IMAGE IMAGE_OTHER"
).split()
_WORDS: dict[str, Finish] = {
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
    **dict.fromkeys(_BROKEN, "error"),
}


def finish_word(reason: Any) -> str | None:
    """Give the word of a `finishReason`, which may be a number; None where there is none."""
    if type(reason) is int:
        return _NUMBERS[reason] if 0 <= reason < len(_NUMBERS) else str(reason)
    return reason if type(reason) is str and reason else None


def normalize(word: str | None, *, has_calls: bool) -> Finish:
    """Map a finish word; STOP, OTHER and unknown ones are a stop, or tool calls where there are any."""
    found = _WORDS.get(word or "")
    if found is None:
        return "tool_calls" if has_calls else "stop"
    return found
