"""The parts of a `multipart/form-data` body as passages (RFC 7578): fields, names of files, files of text.

Read with the parser that the faces for images and sound use, fed once, so that its offsets are the body's.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from raven_proxy import InvalidRequest

from .charsets import charset_of, encode_text, read_text
from .slots import Passage, Slot

__all__ = ["Form", "read_form"]

_BOUNDARY = re.compile(r";\s*boundary\s*=\s*(?:\"([^\"\\]*)\"|([^\s;\",]+))", re.IGNORECASE)
_PLAIN = frozenset({b"binary", b"8bit", b"7bit"})
_DISPOSITION = b"content-disposition"
_BYTES = dict.fromkeys(range(0xDC80, 0xDD00), "x")  # what is no UTF-8


class Form:
    """The texts of a form's body, each with its span and its charset."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._texts: dict[int, str] = {}
        self._spans: list[tuple[int, int, str | None, str]] = []  # start, end, charset, the text as it came
        self.has_lengths = False

    def add(self, start: int, end: int, text: str, charset: str | None = "utf-8") -> None:
        """Add one text that stands at a span of the body. Without a charset it cannot be written there."""
        self._texts[len(self._spans)] = text
        self._spans.append((start, end, charset, text))

    def passages(self) -> list[Passage]:
        """Give the texts to judge; what is written to them is in `encode`."""
        return [(Slot(self._texts, index, text),) for index, text in list(self._texts.items())]

    def encode(self) -> bytes:
        """Give the body with its texts of now. Raises InvalidRequest where a part says its length."""
        if self.has_lengths:
            raise InvalidRequest("Send the parts of the form without Content-Length.", param="body")
        pieces: list[bytes] = []
        place = 0
        for index, (start, end, charset, before) in sorted(enumerate(self._spans), key=lambda one: one[1]):
            if self._texts[index] == before:
                continue
            if charset is None:
                raise InvalidRequest("In the name of a part nothing can be redacted.", param="body")
            pieces += (self._body[place:start], encode_text(self._texts[index], charset))
            place = end
        return b"".join([*pieces, self._body[place:]])


def read_form(body: bytes, content_type: str) -> Form:
    """Read a form. Raises InvalidRequest for what cannot be judged, since it could not be kept out either."""
    match = _BOUNDARY.search(content_type)
    boundary = (match[1] or match[2] or "") if match is not None else ""
    form = Form(body)
    reader = _Reader(body, form)
    try:
        parser = MultipartParser(boundary.encode("latin-1"), reader.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeEncodeError, ValueError):
        raise InvalidRequest("The body is not a form that can be read.", param="body") from None
    return form


def _readable(disposition: str) -> str:
    """Give a part's names as people read them."""
    return unquote(disposition, errors="surrogateescape")


def _is_same(plain: str, readable: str) -> bool:
    """Say whether a part's names stay what they are if they are written as people read them."""
    bare = readable.translate(_BYTES)
    return readable.count('"') == plain.count('"') and bare.isprintable() and "\\" not in readable


class _Reader:
    def __init__(self, body: bytes, form: Form) -> None:
        self._body = body
        self._form = form
        self._begin()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._value,
            "on_header_end": self._end_header,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._name = self._span = (0, 0)
        self._part: tuple[int, int] | None = None
        self._is_file = False
        self._kind = ""

    def _field(self, _: bytes, start: int, end: int) -> None:
        self._name, self._span = (start, end), (end, end)

    def _value(self, _: bytes, start: int, end: int) -> None:
        self._span = (start, end)

    def _end_header(self) -> None:
        name = self._body[slice(*self._name)].strip().lower()
        value = self._body[slice(*self._span)]
        if name == _DISPOSITION:
            self._is_file = b"filename" in value.lower()
            plain = value.decode("utf-8", "surrogateescape")
            readable = _readable(plain)
            if _is_same(plain, readable):
                self._form.add(*self._span, readable)
            else:
                self._form.add(*self._span, plain)
                self._form.add(*self._span, readable, None)
        elif name == b"content-type":
            self._kind = value.decode("latin-1")
        elif name == b"content-length":
            self._form.has_lengths = True
        elif name == b"content-transfer-encoding" and value.strip().lower() not in _PLAIN:
            raise InvalidRequest("Send the parts of the form without a transfer encoding.", param="body")

    def _data(self, _: bytes, start: int, end: int) -> None:
        # A line end that turned out to be no boundary comes as a piece of its own.
        self._part = (self._part[0] if self._part is not None else start, end)

    def _end(self) -> None:
        if self._part is None:
            return
        data = self._body[slice(*self._part)]
        text = read_text(data, self._kind)
        if text is not None:
            self._form.add(*self._part, text, charset_of(data))
        elif not self._is_file:
            raise InvalidRequest("A field of the form is not valid UTF-8.", param="body")
