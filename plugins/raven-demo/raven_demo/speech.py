"""What the demo model says, and the pieces in which it says it.

A piece is a token here: up to eight letters or one sign, with the space before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["count", "say", "split", "stop_at"]

_PIECE = re.compile(r"\s*(?:[\w']{1,8}|[^\w\s'])|\s+")
_MAX_ECHO = 2_000  # characters of the question that are said back
_MAX_COUNTED = 200_000  # a longer text is estimated: counting must not hold up the event loop


def say(question: str, variant: int = 0) -> str:
    """Answer a question: friendly, honest about being a demo, and the same each time."""
    asked = question.strip()
    if len(asked) > _MAX_ECHO:
        asked = asked[:_MAX_ECHO] + "…"
    opening = "Hello! I am the demo model of Raven Proxy."
    heard = f"You asked: “{asked}”" if asked else "You asked nothing yet."
    closing = (
        "I am a few lines of Python and know no more than that, but everything around me is real: your "
        "key was checked, and the tokens of this reply are being counted. "
        "Name an upstream in the config to talk to a model that can think."
    )
    numbered = f" (This is variant {variant + 1}.)" if variant else ""
    return f"{opening} {heard}\n\n{closing}{numbered}"


def split(text: str) -> list[str]:
    """Cut a text into its pieces; joined they are the text."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Count the pieces of a text."""
    if len(text) > _MAX_COUNTED:
        return len(text) // 4
    return sum(1 for _ in _PIECE.finditer(text))


def stop_at(text: str, stops: str | Sequence[str] | None) -> str:
    """End a text before the first of `stops` that occurs in it."""
    words = [stops] if isinstance(stops, str) else stops or ()
    ends = [text.index(word) for word in words if word and word in text]
    return text[: min(ends)] if ends else text
