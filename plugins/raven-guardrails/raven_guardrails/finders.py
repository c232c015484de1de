"""What looks for something in a text: the types of guardrails that point at characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import msgspec

from .injection import Injection
from .patterns import BadPattern, Needle, Span, compile_pattern, find_spans, make_needle, quote
from .personal import PersonalData
from .rules import InvalidRule, Patterns, Pii, PromptInjection, Topics

__all__ = ["Finder", "make_finder"]

_SPACES = re.compile(r"\s+")
# Scripts that write no spaces between words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Finder(Protocol):
    """Finds spans in a text; `needles` are what it looks for, whatever it checks beyond that."""

    needles: tuple[Needle, ...]

    def find(self, text: str) -> Iterator[Span]:
        """Give the spans of what is found, in no order."""


class _Matches:
    """Finds whatever matches."""

    def __init__(self, needles: tuple[Needle, ...]) -> None:
        self.needles = needles
        self._compiled = [compile_pattern(one.pattern) for one in needles]

    def find(self, text: str) -> Iterator[Span]:
        for compiled in self._compiled:
            yield from find_spans(compiled, text)


def make_finder(config: msgspec.Struct) -> Finder | None:
    """Make the finder of a type's config; None for types that do not point at characters.

    Raises InvalidRule for a pattern that RE2 does not take.
    """
    if isinstance(config, Topics):
        return _Matches(_needles_of(config))
    if isinstance(config, Pii):
        return PersonalData(config.entities)
    if isinstance(config, Patterns):
        flags = "i" if config.ignore_case else ""
        return _Matches(tuple(_read(one, flags, index) for index, one in enumerate(config.patterns)))
    if isinstance(config, PromptInjection):
        return Injection(config.threshold)
    return None


def _read(pattern: str, flags: str, index: int) -> Needle:
    try:
        compile_pattern(pattern)
        return make_needle(f"(?{flags}:{pattern})")
    except BadPattern as error:
        raise InvalidRule(f"config.patterns[{index}]", f"RE2 does not take it: {error}"[:200]) from None


def _needles_of(config: Topics) -> tuple[Needle, ...]:
    """Write topics as patterns, one for each kind of border."""
    groups: dict[tuple[str, str], list[str]] = {}
    for topic in sorted(set(config.topics), key=len, reverse=True):
        words = [quote(word) for word in _SPACES.split(topic) if word]
        if not words:
            raise InvalidRule("config.topics", "a topic must not be blank")
        text = topic.strip()
        border = (
            r"(?:^|[^\pL\pN_])" if _needs_border(text[0], config) else "",
            r"(?:$|[^\pL\pN_])" if _needs_border(text[-1], config) else "",
        )
        groups.setdefault(border, []).append(r"[\s\x{a0}]{1,8}".join(words))
    try:
        return tuple(make_needle(f"(?i:{'|'.join(bodies)})", *border) for border, bodies in groups.items())
    except BadPattern as error:
        raise InvalidRule("config.topics", f"these are too many or too long: {error}"[:200]) from None


def _needs_border(letter: str, config: Topics) -> bool:
    return config.match == "word" and letter.isalnum() and _UNSPACED.match(letter) is None
