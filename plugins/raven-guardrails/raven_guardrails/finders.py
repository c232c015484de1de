"""What looks for something in a text: the types of guardrails that point at characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol
from unicodedata import normalize
from weakref import WeakValueDictionary

import msgspec

from .injection import Injection
from .patterns import (
    MOST_FOUND,
    BadPattern,
    Needle,
    Span,
    compile_pattern,
    find_spans,
    make_needle,
    quote,
    size_of,
)
from .personal import PersonalData
from .prefixes import halves_of
from .rules import InvalidRule, Patterns, Pii, PromptInjection, Topics

__all__ = ["Finder", "make_finder"]

_MOST_OF_OTHERS = 1000  # matches: one of somebody else's patterns may look at the whole text for each
_MOST_STEPS = 1100  # of one pattern: a plain text has one for each character
_MOST_TOGETHER = 4000  # of a guardrail's: each may cost some nanoseconds for each byte of a text
_MOST_COMPILED = 80_000  # instructions: a class of all letters has a thousand
_CHARACTERS_A_STEP = 8  # topics are cheap to look for, and not to compile
_Tree = dict[str, "_Tree"]
_SPACE = r"[\s\x{a0}]{1,8}"
_SPACES = re.compile(r"\s+")
# Scripts that write no spaces between words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Finder(Protocol):
    """Finds spans in a text; `needles` are what it looks for, whatever it checks beyond that.

    `size` is what it takes of all that an organisation's guardrails may have together.
    """

    needles: tuple[Needle, ...]
    size: int

    def find(self, text: str) -> Iterator[Span]:
        """Give the spans of what is found, in no order."""


class _Matches:
    """Finds whatever matches, at most `most` times a text."""

    def __init__(self, needles: tuple[Needle, ...], most: int = MOST_FOUND, size: int = 0) -> None:
        self.needles = needles
        self.size = size
        self._most = max(most // max(len(needles), 1), 10)
        self._compiled = [compile_pattern(one.pattern) for one in needles]

    def find(self, text: str) -> Iterator[Span]:
        for compiled in self._compiled:
            yield from find_spans(compiled, text, self._most)


def _make_finder(config: Topics | Pii | Patterns | PromptInjection) -> Finder:
    if isinstance(config, Topics):
        size = sum(map(len, config.topics)) // _CHARACTERS_A_STEP
        return _Matches(_needles_of(config), size=size)
    if isinstance(config, Pii):
        return PersonalData(config.entities)
    if isinstance(config, Patterns):
        flags = "i" if config.ignore_case else ""
        patterns = [normalize("NFC", one) for one in config.patterns]  # as one view of each text is
        sizes = [_measure(f"(?{flags}:{one})", one, index) for index, one in enumerate(patterns)]
        if (size := sum(own for own, _ in sizes)) > _MOST_TOGETHER:
            what = f"together they have {size:,} steps, and may have {_MOST_TOGETHER:,}"
            raise InvalidRule("config.patterns", what)
        if sum(whole for _, whole in sizes) > _MOST_COMPILED:
            raise InvalidRule("config.patterns", "together they have too many classes of letters")
        needles = tuple(_read(one, flags, index) for index, one in enumerate(patterns))
        return _Matches(needles, _MOST_OF_OTHERS, size)
    return Injection(config.threshold)


_MADE: WeakValueDictionary[Topics | Pii | Patterns | PromptInjection, Finder] = WeakValueDictionary()
"""Those that a guardrail has: compiled once for all that are alike, and gone with the last of them."""


def make_finder(config: msgspec.Struct) -> Finder | None:
    """Make the finder of a type's config; None for types that do not point at characters.

    Raises InvalidRule for a pattern that RE2 does not take, or that could cost too much.
    """
    if not isinstance(config, Topics | Pii | Patterns | PromptInjection):
        return None
    finder = _MADE.get(config)
    if finder is None:
        finder = _MADE[config] = _make_finder(config)
    return finder


def _measure(pattern: str, own: str, index: int) -> tuple[int, int]:
    """Give a pattern's size, and that of its program. Raises InvalidRule."""
    place = f"config.patterns[{index}]"
    try:
        _ = size_of(own)  # alone: a parenthesis must not close one of ours
        size = size_of(pattern)
        compiled = compile_pattern(own)
    except BadPattern as error:
        raise InvalidRule(place, f"RE2 does not take it: {error}"[:200]) from None
    if size > _MOST_STEPS:
        raise InvalidRule(place, f"it has {size:,} steps, and may have {_MOST_STEPS:,}: repeat less often")
    if compiled.fullmatch("") is not None:
        raise InvalidRule(place, "it matches where nothing is")
    return size, int(compiled.programsize)


def _read(pattern: str, flags: str, index: int) -> Needle:
    try:
        needle = make_needle(f"(?{flags}:{pattern})")
        if needle.beginnings is not None and size_of(needle.beginnings) > _MOST_TOGETHER:
            return Needle(needle.body)
        return needle
    except BadPattern as error:
        raise InvalidRule(f"config.patterns[{index}]", f"RE2 does not take it: {error}"[:200]) from None


def _needles_of(config: Topics) -> tuple[Needle, ...]:
    """Write topics as patterns, one for each kind of border."""
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for topic in sorted({normalize("NFKC", topic) for topic in config.topics}, key=len, reverse=True):
        words = [word.lower() for word in _SPACES.split(topic) if word]
        if not words:
            raise InvalidRule("config.topics", "a topic must not be blank")
        text = topic.strip()
        border = (
            r"(?:^|[^\pL\pN_])" if _needs_border(text[0], config) else "",
            r"(?:$|[^\pL\pN_])" if _needs_border(text[-1], config) else "",
        )
        groups.setdefault(border, []).append(words)
    try:
        return tuple(_make_topics(rows, *border) for border, rows in groups.items())
    except BadPattern as error:
        raise InvalidRule("config.topics", f"these are too many or too long: {error}"[:200]) from None


def _make_topics(topics: list[list[str]], before: str, after: str) -> Needle:
    body = "|".join(_SPACE.join(map(quote, words)) for words in topics)
    # By their letters, not as what `prefix_of` makes of them one by one: a thousand topics begin alike.
    tree: _Tree = {}
    for words in topics:
        branch = tree
        for atom in _atoms(words):
            branch = branch.setdefault(atom, {})
    return make_needle(f"(?i:{body})", before, after, f"(?i:{_beginnings(tree)})")


def _atoms(words: list[str]) -> Iterator[str]:
    for number, word in enumerate(words):
        if number:
            yield _SPACE
        yield from map(quote, word)


def _beginnings(tree: _Tree) -> str:
    if not tree:
        return ""
    choices = [atom + _beginnings(branch) for atom, branch in tree.items()]
    halves = {half for atom in tree if len(atom) == 1 for half in halves_of(atom)}
    return f"(?:{'|'.join([*choices, *sorted(halves)])})?"


def _needs_border(letter: str, config: Topics) -> bool:
    return config.match == "word" and letter.isalnum() and _UNSPACED.match(letter) is None
