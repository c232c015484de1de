"""What a Gemini model's name tells: its generation, and what that generation takes.

Names that say nothing (tuned models, endpoints) are taken for the generation of 2.5.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

__all__ = ["Traits", "judge"]

_VERSION = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?![\d.])")
_WITHOUT_THINKING = ("-image", "-tts", "-live", "computer-use")


class Traits(msgspec.Struct, frozen=True):
    """What a model takes.

    `thinking` says how it is asked for: "budget" in tokens (2.5), "level" as a word (3), "none" not at all.
    `json_schema` are plain JSON schemas, where others take Google's subset of OpenAPI's. `system` is whether
    there is a place for instructions.
    """

    is_pro: bool
    is_lite: bool
    version: tuple[int, int]
    thinking: Literal["none", "budget", "level"]
    json_schema: bool
    system: bool

    @property
    def is_third(self) -> bool:
        """Generation 3 or later: calls have ids and signatures, and results may hold images."""
        return self.version >= (3, 0)


def judge(model: str) -> Traits:
    """Read a model's name ("gemini-2.5-flash", "models/gemini-3-pro-preview", "gemma-3-27b-it")."""
    name = model.lower().rpartition("/")[2]
    match = _VERSION.search(name)
    if match is not None:
        version = (int(match[1]), int(match[2] or 0))
    else:
        version = (3, 0) if name.startswith("gemini-") and name.endswith("-latest") else (2, 5)
    is_gemma = name.startswith("gemma")
    thinking: Literal["none", "budget", "level"] = "level" if version >= (3, 0) else "budget"
    if version < (2, 5) or is_gemma or any(word in name for word in _WITHOUT_THINKING):
        thinking = "none"
    return Traits(
        is_pro="pro" in name,
        is_lite="lite" in name,
        version=version,
        thinking=thinking,
        json_schema=version >= (2, 5) and not is_gemma,
        system=not is_gemma,
    )
