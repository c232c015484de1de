"""What images, sound and moderation cost, as vendors report it, and estimates where they do not.

OpenAI reports tokens (`input_tokens`, `output_tokens`) or a duration (`{"type": "duration", "seconds"}`);
images are counted besides. Nothing here reads replies; `taps` does.
"""

from __future__ import annotations

import re
from typing import Any

from raven_openai.usage import read_usage
from raven_proxy.exchange import Usage
from raven_proxy.providers import estimate_tokens

__all__ = ["count_images", "guess_recording", "guess_speech", "read_table", "seconds_of_subtitles"]

_MOST_SECONDS = 10**7
_COUNTS = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "total_tokens")
_CUE_END = re.compile(rb"-->[ \t]*(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})")


def read_table(table: Any, *, images: int = 0) -> Usage | None:
    """Read a `usage` object; None if it says nothing of tokens or seconds. Never raises."""
    if not isinstance(table, dict):
        return None
    if table.get("type") == "duration":
        seconds = _seconds(table.get("seconds"))
        return None if seconds is None else Usage(seconds=seconds, images=images)
    if not any(type(table.get(name)) in {int, float} for name in _COUNTS):
        return None
    usage = read_usage(table, lambda: 0, lambda: 0)
    usage.images = images
    details = table.get("input_token_details")  # of recordings; elsewhere the word is `input_tokens_details`
    sound = details.get("audio_tokens") if isinstance(details, dict) else None
    if type(sound) is int and sound > 0:
        usage.audio_input_tokens = min(sound, usage.prompt_tokens)
    seconds = _seconds(table.get("prompt_audio_seconds"))  # Mistral
    usage.seconds = seconds or 0.0
    return usage


def count_images(images: int) -> Usage:
    """Count images that are billed by the piece: no tokens were reported, and none are guessed."""
    return Usage(images=images)


def guess_speech(text: str) -> Usage:
    """Estimate what speaking `text` costs: its own tokens. The sound's length is not guessed."""
    tokens = estimate_tokens(len(text.encode("utf-8", "replace")))
    return Usage(prompt_tokens=tokens, total_tokens=tokens, estimated=True)


def guess_recording(written: int, seconds: Any = None) -> Usage:
    """Estimate a transcript's cost from the bytes of its text, and the sound's length where it is said."""
    tokens = estimate_tokens(written)
    return Usage(
        completion_tokens=tokens, total_tokens=tokens, seconds=_seconds(seconds) or 0.0, estimated=True
    )


def seconds_of_subtitles(tail: bytes) -> float:
    """Find when the last cue of SubRip or WebVTT text ends, in seconds; 0.0 where there is none."""
    cues: list[tuple[bytes, bytes, bytes, bytes]] = _CUE_END.findall(tail)
    if not cues:
        return 0.0
    hours, minutes, seconds, fraction = cues[-1]
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, b"0")) / 1000


def _seconds(value: Any) -> float | None:
    if type(value) is str and len(value) < 32:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in {int, float} or not 0 <= value <= _MOST_SECONDS:
        return None
    return float(value)
