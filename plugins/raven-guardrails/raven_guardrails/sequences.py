"""What of a text is one character with the one before it, and what only decorates a letter (UAX 15)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["JOINING", "compose", "find_sequences", "has_decoration", "has_tags", "is_simple", "undecorate"]

# Where characters stand that may be one with the character before them; other blocks have none.
_BLOCKS = ((0x300, 0x3100), (0xA600, 0xAC00), (0xFB00, 0xFF00),
           (0x10100, 0x12000), (0x16A00, 0x17000), (0x1BC00, 0x1F000))  # fmt: skip
_RARE = re.compile("[\U00010100-\U0001efff]")
# What strikes letters through or decorates them, where it makes no other letter of them.
_DECORATION = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]")
_TAG = re.compile("[\U000e0020-\U000e007e]")  # they spell ASCII
_EITHER = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\U000e0020-\U000e007e]")


def _list_joining() -> Iterator[int]:
    """List what may be one character with the one before it: marks, vowels, parts of Hangul."""
    yield from (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
    for code in (code for block in _BLOCKS for code in range(*block)):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<":
            yield int(parts[1], 16)
        if unicodedata.combining(chr(code)):
            yield code


def _sequences(codes: Iterable[int]) -> re.Pattern[str]:
    joining = "".join(map(chr, sorted(codes)))
    return re.compile(f"(?:[^{joining}]|\\A)[{joining}]+")


JOINING = frozenset(_list_joining())
"""The code points of what may be one character with the one before it."""
_ALL_SEQUENCES = _sequences(JOINING)  # ten times as slow as the other one
_SEQUENCES = _sequences(code for code in JOINING if code <= 0xFFFF)


def compose(text: str) -> str:
    """Make one character of those that are one (NFC)."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def find_sequences(text: str) -> Iterator[re.Match[str]]:
    """Find each character with all that may be one with it; between these nothing composes."""
    return (_SEQUENCES if _RARE.search(text) is None else _ALL_SEQUENCES).finditer(text)


def is_simple(text: str) -> bool:
    """Say that nothing in a text decorates letters or spells them: one look for what most texts lack."""
    return _EITHER.search(text) is None


def has_tags(text: str) -> bool:
    """Say whether there are tags, which spell letters."""
    return _TAG.search(text) is not None


def has_decoration(text: str) -> bool:
    """Say whether marks decorate letters in a text that is composed."""
    return _DECORATION.search(text) is not None


def undecorate(text: str) -> str:
    """Leave out what decorates letters."""
    return _DECORATION.sub("", text)
