r"""The ways in which one text can be read, each with a map back to where its characters stand.

A reader sees "4111" where there is "\\u0034111" in a JSON string, full-width digits, or a zero-width space
between two of them. Each view undoes one such way of writing; a match in any of them is a match. Undone are
JSON's escapes (up to three times, as in JSON within JSON), what NFKC changes (also marks that stand behind
their letter, and the parts of Hangul), digits of other scripts, tags that spell ASCII, bytes of Latin-1,
invisible characters, what strikes letters through, and letters that look like Latin ones. Not undone:
spaces between letters, leetspeak, other languages, images of text, base64 within prose.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Mapping

import msgspec

from .charsets import read_latin
from .sequences import compose, find_sequences, has_decoration, has_tags, is_simple, undecorate

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
# White letters on black circles and squares.
_LOOKALIKES |= {chr(first + n): chr(0x41 + n) for first in (0x1F150, 0x1F170) for n in range(26)}
# What is drawn as nothing (Default_Ignorable_Code_Point) and is not in the category Cf (format characters),
# and zeros, which every other byte of UTF-16 is.
_INVISIBLE = frozenset(
    map(
        chr,
        (0, 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2065, 0x3164, 0xFFA0,
         *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000)),
    )
)  # fmt: skip


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
    reading = read_latin(text)
    for level in range(_MOST_ESCAPES + 1):
        yield reading
        if not _is_plain(reading):
            simple = is_simple(reading)
            for table in _tables_of(reading, simple):
                yield (composed := compose(reading.translate(table)))
                if not simple and table is _LATIN and has_decoration(composed):
                    yield undecorate(composed)
        if "\\" not in reading or level == _MOST_ESCAPES:
            return
        reading = _join_halves(_ESCAPE.sub(_undo, reading))


def views_of(text: str) -> list[View]:
    """List the views of a text, itself first; there is nothing else for plain ASCII without backslashes."""
    view = View(read_latin(text))
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

    def __init__(self, lookalikes: Mapping[str, str]) -> None:
        super().__init__()
        self._lookalikes = lookalikes

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if letter in self._lookalikes:
            plain = self._lookalikes[letter]
        elif 0 < code < 0x80:
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
_SPELLED = _Table({chr(code): chr(code - 0xE0000) for code in range(0xE0020, 0xE007F)})


def _is_plain(text: str) -> bool:
    return text.isascii() and "\0" not in text


def _tables_of(text: str, simple: bool) -> tuple[_Table, ...]:
    return (_NORMAL, _LATIN) if simple or not has_tags(text) else (_NORMAL, _LATIN, _SPELLED)


def _with_plain(view: View) -> list[View]:
    if _is_plain(view.text):
        return [view]
    views = [view]
    seen = {view.text}
    simple = is_simple(view.text)
    for table in _tables_of(view.text, simple):
        text = view.text.translate(table)
        composed = compose(text)
        is_decorated = not simple and table is _LATIN and has_decoration(composed)
        if composed in seen and not is_decorated:
            continue
        translated = _translated(view, table, text)
        if composed != text:
            translated = _composed(translated)
        if composed not in seen:
            seen.add(composed)
            views.append(translated)
        if is_decorated:
            views.append(_bare(translated))
    return views


def _bare(view: View) -> View:
    """Leave out what decorates letters."""
    assert view.starts is not None
    assert view.ends is not None
    kept = [index for index, letter in enumerate(view.text) if undecorate(letter)]
    starts = array("q", [view.starts[index] for index in kept])
    ends = array("q", [view.ends[index] for index in kept])
    text = "".join([view.text[index] for index in kept])
    return View(text, starts, ends, view.undecided, view.half)


def _translated(view: View, table: _Table, text: str) -> View:
    starts, ends = array("q"), array("q")
    for index, letter in enumerate(view.text):
        start, end = view.to_base(index, index + 1)
        for _ in table[ord(letter)]:
            starts.append(start)
            ends.append(end)
    return View(text, starts, ends, view.undecided, view.half)


def _composed(view: View) -> View:
    """Compose a view's sequences; what comes of one stands for all of it.

    Between sequences nothing composes: together they are what `compose` makes of the text.
    """
    starts, ends = array("q"), array("q")
    pieces: list[str] = []
    assert view.starts is not None
    assert view.ends is not None
    place = 0
    for match in find_sequences(view.text):
        letters = unicodedata.normalize("NFC", match[0])
        pieces += (view.text[place : match.start()], letters)
        starts += view.starts[place : match.start()]
        ends += view.ends[place : match.start()]
        starts.extend([view.starts[match.start()]] * len(letters))
        ends.extend([view.ends[match.end() - 1]] * len(letters))
        place = match.end()
    starts += view.starts[place:]
    ends += view.ends[place:]
    return View("".join([*pieces, view.text[place:]]), starts, ends, view.undecided, view.half)
