r"""The ways in which one text can be read, each with a map back to where its characters stand.

A reader sees "4111" where there is "\\u0034111" in a JSON string, full-width digits, or a zero-width space
between two of them. Each view undoes one such way of writing; a match in any of them is a match. Undone are
JSON's escapes (up to three times, as in JSON within JSON), what NFKC makes of single characters, digits of
other scripts, invisible characters, and Cyrillic and Greek letters that look like Latin ones. Not undone:
spaces between letters, leetspeak, other languages, images of text, base64 within prose.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator

import msgspec

__all__ = ["View", "readings_of", "views_of"]

_MOST_ESCAPES = 3
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])')
_PENDING = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# Unicode's confusables (UTS 39), of which the letters that are used for Latin ones.
_LOOKALIKES = dict(
    zip(
        "аАвВеЕѕЅіІјЈкКмМнНоОрРсСтТуУхХԁһԛԝӏαΑΒεΕΖΗιΙκΚΜνΝοΟρΡτΤυΥχΧ",
        "aAbBeEsSiIjJkKmMhHoOpPcCtTyYxXdhqwlaABeEZHiIkKMvNoOpPtTuYxX",
        strict=True,
    )
)
# What is drawn as nothing and is not in the category Cf (format characters).
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)


class View(msgspec.Struct, frozen=True):
    """A text as it reads, and for each of its characters where that began and ended in the base text.

    `starts` is None where nothing had to be undone. `undecided` is where a half-written escape begins in the
    base text, and `half` how many characters it has at the end of this one.
    """

    text: str
    starts: array[int] | None = None
    ends: array[int] | None = None
    undecided: int | None = None
    half: int = 0

    @property
    def decided(self) -> str:
        """Give the text without a half-written escape."""
        return self.text[: len(self.text) - self.half] if self.half else self.text

    def to_base(self, start: int, end: int) -> tuple[int, int]:
        """Give the span of the base text that a span of this view came from."""
        if self.starts is None or self.ends is None:
            return start, end
        if start == end:
            place = self.place(start)
            return place, place
        return self.starts[start], self.ends[end - 1]

    def place(self, index: int) -> int:
        """Give where a character of this view begins in the base text."""
        if self.starts is None or self.ends is None:
            return index
        if index < len(self.starts):
            return self.starts[index]
        return self.ends[-1] if self.ends else 0


def readings_of(text: str) -> Iterator[str]:
    """Give the texts of all views, without the maps, which cost more than the texts."""
    reading = text
    for level in range(_MOST_ESCAPES + 1):
        yield reading
        if not reading.isascii():
            yield reading.translate(_NORMAL)
            yield reading.translate(_LATIN)
        if "\\" not in reading or level == _MOST_ESCAPES:
            return
        reading = _join_halves(_ESCAPE.sub(_undo, reading))


def views_of(text: str) -> list[View]:
    """List the views of a text, itself first; there is nothing else for plain ASCII without backslashes."""
    view = View(text)
    views = [view]
    for _ in range(_MOST_ESCAPES):
        if "\\" not in view.text:
            break
        undone = _unescape(view)
        if undone.text == view.text:
            if undone.undecided is not None:
                views.append(undone)
            break
        view = undone
        views.append(view)
    return [one for view in views for one in _with_plain(view)]


def _unescape(view: View) -> View:
    text = view.text
    pieces: list[str] = []
    starts, ends = array("q"), array("q")
    place = 0

    def keep(until: int) -> None:
        pieces.append(text[place:until])
        starts.extend(map(view.place, range(place, until)))
        ends.extend(view.to_base(i, i + 1)[1] for i in range(place, until))

    for match in _ESCAPE.finditer(text):
        if match.start() < place:
            continue
        keep(match.start())
        letter, end = _read_escape(text, match)
        pieces.append(letter)
        base = view.to_base(match.start(), end)
        starts.append(base[0])
        ends.append(base[1])
        place = end
    keep(len(text))
    half = _HALF.search(text) or _PENDING.search(text)
    if half is None:
        return View("".join(pieces), starts, ends, view.undecided, view.half)
    return View("".join(pieces), starts, ends, view.place(half.start()), len(text) - half.start())


def _undo(match: re.Match[str]) -> str:
    token = match[0]
    return _PLAIN[token[1]] if token[1] != "u" else chr(int(token[2:], 16))


def _join_halves(text: str) -> str:
    """Make characters of pairs of surrogates; what is left of them reads as a replacement character."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _read_escape(text: str, match: re.Match[str]) -> tuple[str, int]:
    token = match[0]
    if token[1] != "u":
        return _PLAIN[token[1]], match.end()
    code = int(token[2:], 16)
    if not 0xD800 <= code < 0xE000:
        return chr(code), match.end()
    low = _ESCAPE.match(text, match.end())
    if code < 0xDC00 and low is not None and low[0][1] == "u" and 0xDC00 <= int(low[0][2:], 16) < 0xE000:
        return chr(0x10000 + ((code - 0xD800) << 10) + int(low[0][2:], 16) - 0xDC00), low.end()
    return "\ufffd", match.end()


class _Table(dict[int, str]):
    """Maps code points to what they read as; filled as they are met."""

    def __init__(self, lookalikes: dict[str, str]) -> None:
        super().__init__()
        self._lookalikes = lookalikes

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if letter in self._lookalikes:
            plain = self._lookalikes[letter]
        elif code < 0x80:
            plain = letter
        elif letter in _INVISIBLE or unicodedata.category(letter) == "Cf":
            plain = ""
        else:
            digit = unicodedata.decimal(letter, None)
            plain = str(digit) if digit is not None else unicodedata.normalize("NFKC", letter)
        self[code] = plain
        return plain


_NORMAL = _Table({})
_LATIN = _Table(_LOOKALIKES)


def _with_plain(view: View) -> list[View]:
    if view.text.isascii():
        return [view]
    views = [view]
    seen = {view.text}
    for table in (_NORMAL, _LATIN):
        text = view.text.translate(table)
        if text not in seen:
            seen.add(text)
            views.append(_translated(view, table, text))
    return views


def _translated(view: View, table: _Table, text: str) -> View:
    starts, ends = array("q"), array("q")
    for index, letter in enumerate(view.text):
        start, end = view.to_base(index, index + 1)
        for _ in table[ord(letter)]:
            starts.append(start)
            ends.append(end)
    return View(text, starts, ends, view.undecided, view.half)
