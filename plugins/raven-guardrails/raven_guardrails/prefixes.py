"""What a text may end with when a match has begun and is not over: a pattern for the beginnings of a pattern.

`prefix_of("ab+c")` matches "", "a", "ab", "abb" and "abc". Anchored to the end of what has come of a stream
it says from where on nothing is decided yet, and that all before it can go out. The syntax is RE2's
(github.com/google/re2/wiki/Syntax); only its structure is read here, RE2 judges the rest.
"""

from __future__ import annotations

import re
from typing import Literal
from unicodedata import normalize

import msgspec

__all__ = ["UnknownSyntax", "halves_of", "prefix_of"]

_DEEPEST = 200  # RE2 itself ends at 1,000, and beginnings nest once per character
_REPEAT = re.compile(r"\{(\d+)(,(\d*))?\}")
_OPENING = re.compile(r"\(\?(?:P?<\w+>|([a-zA-Z\-]*)([:)]))")
_CODE = re.compile(r"\\x(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{2}))")
_ESCAPE = re.compile(
    r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[0-9a-fA-F]+\}|[0-9a-fA-F]{2})|[0-7]{1,3}|.)", re.DOTALL
)


class UnknownSyntax(ValueError):
    """The pattern has something in it that is not understood here."""


class _Node(msgspec.Struct, frozen=True):
    """A piece of a pattern: one character, class or assertion (`atom`), or what holds others."""

    kind: Literal["atom", "row", "choice", "repeat"]
    text: str = ""  # an atom's own text
    halves: str = ""  # what its letter begins with, where that comes in parts
    inner: tuple[_Node, ...] = ()
    most: int | None = None  # of a repeat; None for no end
    suffix: str = ""  # of a repeat, as it was written


def prefix_of(pattern: str) -> str:
    """Give the pattern of all beginnings of a pattern's matches, without capturing groups.

    Raises UnknownSyntax; a pattern that RE2 compiles and this refuses is legal, and rare.
    """
    reader = _Reader(pattern)
    node = reader.read_choice(0, "")
    if reader.place != len(pattern):
        raise UnknownSyntax("unbalanced parenthesis")
    return _beginnings(node)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0

    def read_choice(self, depth: int, flags: str) -> _Node:
        if depth > _DEEPEST:
            raise UnknownSyntax("nested too deeply")
        rows: list[_Node] = []
        row: list[_Node] = []
        pattern = self.pattern
        while self.place < len(pattern) and pattern[self.place] != ")":
            if pattern[self.place] == "|":
                self.place += 1
                rows.append(_Node("row", inner=tuple(row)))
                row = []
                continue
            node, flags = self._read_one(depth, flags)
            if node is not None:
                row.append(self._read_repeats(node))
        rows.append(_Node("row", inner=tuple(row)))
        return rows[0] if len(rows) == 1 else _Node("choice", inner=tuple(rows))

    def _read_one(self, depth: int, flags: str) -> tuple[_Node | None, str]:
        """Read one piece, or flags for all that follows in this group."""
        pattern, start = self.pattern, self.place
        letter = pattern[start]
        if letter == "(":
            return self._read_group(depth, flags)
        if letter == "[":
            self.place = _end_of_class(pattern, start)
        elif letter == "\\":
            match = _ESCAPE.match(pattern, start)
            if match is None or match[0] in ("\\Q", "\\C"):
                raise UnknownSyntax(f"{pattern[start : start + 2]}")
            self.place = match.end()
        else:
            self.place += 1
        return _atom(pattern[start : self.place], flags), flags

    def _read_group(self, depth: int, flags: str) -> tuple[_Node | None, str]:
        inner = flags
        if self.pattern.startswith("(?", self.place):
            match = _OPENING.match(self.pattern, self.place)
            if match is None:
                raise UnknownSyntax("a group that is not known")
            self.place = match.end()
            if match[1]:
                inner = _combine(flags, match[1])
            if match[2] == ")":
                return None, inner
        else:
            self.place += 1
        node = self.read_choice(depth + 1, inner)
        if self.place >= len(self.pattern):
            raise UnknownSyntax("unbalanced parenthesis")
        self.place += 1
        return node, flags

    def _read_repeats(self, node: _Node) -> _Node:
        pattern = self.pattern
        while self.place < len(pattern):
            start = self.place
            most: int | None = None
            match = _REPEAT.match(pattern, start)
            if pattern[start] in "*+":
                self.place += 1
            elif pattern[start] == "?":
                most = 1
                self.place += 1
            elif match is not None:
                self.place = match.end()
                most = int(match[1]) if match[2] is None else int(match[3]) if match[3] else None
            else:
                break
            if pattern[self.place : self.place + 1] == "?":
                self.place += 1
            node = _Node("repeat", inner=(node,), most=most, suffix=pattern[start : self.place])
        return node


def _combine(flags: str, more: str) -> str:
    """Lay flags over flags: `i` and then `-i` is none."""
    on, off = set(flags.partition("-")[0]), set(flags.partition("-")[2])
    new_on, _, new_off = more.partition("-")
    on, off = (on | set(new_on)) - set(new_off), (off | set(new_off)) - set(new_on)
    return "".join(sorted(on)) + ("-" + "".join(sorted(off)) if off else "")


def halves_of(letter: str) -> list[str]:
    """List what stands at the end of a text until the rest of a letter comes: "e" of an "é" in two parts."""
    parts = normalize("NFD", letter)
    return [normalize("NFC", parts[:end]) for end in range(1, len(parts))]


def _halves(text: str) -> str:
    if text[0] == "[":
        return "" if text.isascii() and "\\x" not in text else r"|\pL"  # any letter: rare, and it only waits
    if (code := _CODE.fullmatch(text)) is not None and int(code[1] or code[2], 16) <= 0x10FFFF:
        text = chr(int(code[1] or code[2], 16))
    return "".join(f"|{half}" for half in halves_of(text)) if len(text) == 1 and not text.isascii() else ""


def _atom(text: str, flags: str) -> _Node:
    halves = _halves(text)
    if not flags:
        return _Node("atom", text, halves=halves)
    return _Node("atom", f"(?{flags}:{text})", halves=f"|(?{flags}:{halves[1:]})" if halves else "")


def _end_of_class(pattern: str, start: int) -> int:
    place = start + 1
    if pattern[place : place + 1] == "^":
        place += 1
    is_first = True
    while place < len(pattern):
        if pattern.startswith("[:", place) and (end := pattern.find(":]", place + 2)) > 0:
            place = end + 2
        elif pattern[place] == "\\":
            match = _ESCAPE.match(pattern, place)
            place = match.end() if match is not None else place + 2
        elif pattern[place] == "]" and not is_first:
            return place + 1
        else:
            place += 1
        is_first = False
    raise UnknownSyntax("unbalanced bracket")


def _whole(node: _Node) -> str:
    if node.kind == "atom":
        return node.text
    if node.kind == "repeat":
        return f"(?:{_whole(node.inner[0])}){node.suffix}"
    if node.kind == "choice":
        return f"(?:{'|'.join(map(_whole, node.inner))})"
    return "".join(map(_whole, node.inner))


def _beginnings(node: _Node) -> str:
    if node.kind == "atom":
        return f"(?:{node.text}{node.halves})?"
    if node.kind == "choice":
        return f"(?:{'|'.join(map(_beginnings, node.inner))})"
    if node.kind == "repeat":
        return _beginnings_of_repeat(node)
    if not node.inner:
        return ""
    result = _beginnings(node.inner[-1])
    for item in reversed(node.inner[:-1]):
        if item.kind == "atom":
            result = f"(?:{item.text}{result}{item.halves})?"
        else:
            result = f"(?:{_whole(item)}{result}|{_beginnings(item)})"
    return result


def _beginnings_of_repeat(node: _Node) -> str:
    (inner,) = node.inner
    if node.most is None:
        return f"(?:{_whole(inner)})*{_beginnings(inner)}"
    if node.most <= 1:
        return _beginnings(inner) if node.most else ""
    return f"(?:{_whole(inner)}){{0,{node.most - 1}}}{_beginnings(inner)}"
