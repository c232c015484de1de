"""RE2 as the guardrails use it: compiled quietly, within bounds of memory, and asked for spans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import re2  # type: ignore[import-untyped]  # it has no types

from .prefixes import UnknownSyntax, prefix_of

__all__ = [
    "MOST_FOUND",
    "BadPattern",
    "Compiled",
    "Needle",
    "Span",
    "any_of",
    "compile_pattern",
    "find_spans",
    "make_needle",
    "quote",
    "size_of",
    "tail_of",
]  # fmt: skip

_LONGEST = 256 * 1024  # characters of beginnings
_MAX_MEM = 8 * 2**20  # bytes that RE2 may use for a pattern and its automata; it refuses what needs more
_MAX_MEM_TOGETHER = 64 * 2**20  # for all patterns of an organisation as one
MOST_FOUND = 10_000
"""Matches in one text that are told apart; what comes behind them counts as one more."""
_MAX_MEM_TO_MEASURE = 2**20
_CODE = re.compile(r"\\x\{([0-9a-fA-F]{1,6})\}")
Span = tuple[int, int]
Compiled = Any
"""A pattern as RE2 compiled it: `search(text, place)` gives a match or None."""


class BadPattern(ValueError):
    """A pattern that RE2 does not take."""


class Needle(msgspec.Struct, frozen=True):
    """What is looked for: `body`, between what has to stand before and after it.

    `before` and `after` are a border each: an end of the text, or one character. `beginnings` matches every
    beginning of `body`, all of it included, since what comes next may be no border; None where that cannot be
    told: a stream then holds back as much as it may.
    """

    body: str
    before: str = ""
    after: str = ""
    beginnings: str | None = None

    @property
    def pattern(self) -> str:
        """Give the whole pattern; its first group is what is found."""
        return f"{self.before}({self.body}){self.after}"


def make_needle(body: str, before: str = "", after: str = "", beginnings: str | None = None) -> Needle:
    """Make a needle; `beginnings` if they are known already. Raises BadPattern for what RE2 does not take."""
    compile_pattern(body)  # alone: a parenthesis must not close one of ours
    try:
        beginnings = beginnings or prefix_of(body)
        if len(beginnings) > _LONGEST:
            return Needle(body, before, after)
        compile_pattern(f"{before}({beginnings})\\z")
    except (UnknownSyntax, BadPattern):
        return Needle(body, before, after)
    return Needle(body, before, after, beginnings)


def tail_of(needles: Sequence[Needle]) -> Compiled | None:
    """Compile what matches at a text's end where a match may have begun: the group that took part says where.

    None where that cannot be told of all of them.
    """
    if any(one.beginnings is None for one in needles):
        return None
    # At one place the first choice wins: without a border it begins sooner.
    choices = [f"{one.before}({one.beginnings})" for one in sorted(needles, key=lambda one: len(one.before))]
    return any_of(choices, r"\z")


def quote(text: str) -> str:
    """Write a text as a pattern for itself."""
    return str(re2.escape(text))


def compile_pattern(pattern: str, max_mem: int = _MAX_MEM, *, latin: bool = False) -> Compiled:
    """Compile. Raises BadPattern with RE2's reason."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = max_mem
    if latin:
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(pattern.encode("latin-1") if latin else pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be compiled"
        raise BadPattern(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
    finally:
        re2.purge()  # it remembers as many as a hundred, each with its megabytes


def any_of(patterns: Iterable[str], suffix: str = "") -> Compiled | None:
    """Compile what matches where any of them does; None if that would be too large, or there are none."""
    choices = [f"(?:{pattern})" for pattern in patterns]
    if not choices:
        return None
    try:
        return compile_pattern(f"(?:{'|'.join(choices)}){suffix}", _MAX_MEM_TOGETHER)
    except BadPattern:
        return None


def size_of(pattern: str) -> int:
    """Give how many states a pattern can be in at once, at most: what each byte of a text may cost.

    It is RE2's program for Latin-1. That for UTF-8 has hundreds of steps for one class of letters, of which
    a byte is in one alone. Raises BadPattern.
    """
    narrow = _CODE.sub(lambda match: f"\\x{min(int(match[1], 16), 0xFF):02x}", pattern)
    narrow = "".join([letter if letter <= "\xff" else "\xff" for letter in narrow])
    return int(compile_pattern(narrow, _MAX_MEM_TO_MEASURE, latin=True).programsize)


def find_spans(compiled: Compiled, text: str, most: int = MOST_FOUND) -> Iterator[Span]:
    """Give the spans of the first group, one after the other. Matches of nothing are left out.

    After `most` searches the rest of the text counts as found: a pattern may look at all of it each time.
    """
    # Encoded once: the library's own searches in a str encode all of it each time.
    data = text.encode("utf-8", "replace")
    is_ascii = len(data) == len(text)
    place = counted = characters = 0
    for _ in range(most):
        match = compiled.search(data, place) if place <= len(data) else None
        if match is None:
            return
        start, end = match.span(1)
        if end > start:
            if is_ascii:
                yield start, end
            else:
                first = characters + len(data[counted:start].decode())
                counted, characters = end, first + len(data[start:end].decode())
                yield first, characters
        # From the group's end, not the match's: what borders on one match may border on the next.
        place = max(end, place + 1, match.start() + 1)
        while place < len(data) and data[place] & 0xC0 == 0x80:
            place += 1
    if place < len(data):
        yield (place if is_ascii else characters + len(data[counted:place].decode())), len(text)
