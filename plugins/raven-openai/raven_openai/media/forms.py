"""Reading `multipart/form-data` (RFC 7578) as the gateway needs it: a few small fields, and nothing copied.

The parser is python-multipart's, fed once, so that its offsets are the body's. What two parsers could
read differently is refused: what is judged here is what the vendor will find.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange
from raven_proxy.faces import Call

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Field", "Form", "FormCall", "check_form", "put_field", "read_form"]

_MOST_PARTS = 256
_MOST_HEADERS = 8
_MOST_HEADER_BYTES = 64 * 1024  # of all parts together: the parser looks at each
_MOST_FIELD_BYTES = 4096
_FIRST_LINE = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})\r\n")
_NAME = re.compile(rb"""form-data[ \t]*;[ \t]*name=(?:"([^"\\\r\n]*)"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))""", re.I)
_FILE_NAME = re.compile(rb";[ \t]*filename\*?[ \t]*=", re.I)
_PARAMETER = re.compile(rb"""[ \t]*;[ \t]*([a-z*]+)=(?:"(?:[^"\\\r\n]|\\.)*"|[^;" \t\r\n]*)""", re.I)
_CHARSETS = re.compile(r"charset *= *\"?(utf-?8|us-ascii|iso-8859-1)\"? *(?:;|$)", re.I)
_BOUNDARY = re.compile(r";\s*boundary\s*=\s*(?:\"([^\"\\]*)\"|([^\s;\",]+))\s*(?=;|$)", re.I)
_REMEDY = "Send multipart/form-data as RFC 7578 says."


class Field(msgspec.Struct, frozen=True):
    """A small field: its text, where its bytes lie, and where the part's own length is stated, if it is."""

    text: str
    span: tuple[int, int]
    length_span: tuple[int, int] | None = None


class Form(msgspec.Struct, frozen=True):
    """The boundary, and the wanted fields that are there."""

    boundary: str
    fields: dict[str, Field]


class FormCall(Call):
    """A call whose body is a form. `images` is how many are asked for (`n`)."""

    form: Form | None = None
    images: int = 1
    response_format: str = ""


class _Part:
    __slots__ = ("data", "headers")

    def __init__(self) -> None:
        self.headers: list[tuple[tuple[int, int], tuple[int, int]]] = []  # spans of name and value
        self.data: tuple[int, int] = (0, 0)


def read_form(body: bytes, wanted: Collection[str]) -> Form:
    """Find the fields named in `wanted`; parts of other names (files) are stepped over.

    Raises InvalidRequest for anything that is no form to the letter, for a wanted field that stands
    twice, is a file, is over 4 KiB or is not UTF-8. Cost is linear in the body, whatever it holds.
    """
    match = _FIRST_LINE.match(body)
    if match is None:
        raise _refuse("it does not begin with a boundary")
    boundary = match[1]
    parts = _parse(body, boundary)
    end = b"\r\n--" + boundary + b"--"
    if body.count(b"\n--" + boundary) != len(parts) or not body.endswith((end, end + b"\r\n")):
        raise _refuse("its boundary stands where no part begins, or the last one is missing")
    fields: dict[str, Field] = {}
    for part in parts:
        name, is_file, length_span = _describe(body, part)
        if name not in wanted:
            continue
        if name in fields:
            raise InvalidRequest(f"{name}: the field appears more than once; send it once.", param=name)
        if is_file:
            raise InvalidRequest(f"{name}: send plain text, not a file.", param=name)
        fields[name] = Field(_text(body, part, name), part.data, length_span)
    return Form(boundary.decode("ascii"), fields)


def check_form(exchange: Exchange) -> None:
    """Refuse a Content-Type that says something else of a form than the form itself; others pass.

    A vendor that went by another boundary would read other fields than were judged here.
    """
    call = exchange.call
    if not isinstance(call, FormCall):
        return
    kind = exchange.headers.get("content-type", "")
    media_type = kind.partition(";")[0].strip().lower()
    form = call.form
    if form is None:
        if media_type != "application/json":
            raise InvalidRequest("Send Content-Type: application/json.", param="Content-Type")
        return
    found = _BOUNDARY.findall(kind)
    if (
        media_type != "multipart/form-data"
        or kind.lower().count("boundary") != 1
        or [quoted or plain for quoted, plain in found] != [form.boundary]
    ):
        raise InvalidRequest(
            "Send Content-Type: multipart/form-data with the boundary that the body uses.",
            param="Content-Type",
        )


def put_field(body: bytes, field: Field, text: str) -> bytes:
    """Put another text into a field; every other byte stays, and the body is copied once."""
    value = text.encode()
    changes = [(field.span, value)]
    if field.length_span is not None:
        changes.insert(0, (field.length_span, str(len(value)).encode()))  # a header stands before the data
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    at = 0
    for (start, end), new in changes:
        pieces += (view[at:start], new)
        at = end
    return b"".join([*pieces, view[at:]])


def _parse(body: bytes, boundary: bytes) -> list[_Part]:
    parts: list[_Part] = []
    name = value = (0, 0)
    room = _MOST_HEADER_BYTES

    def begin() -> None:
        if len(parts) >= _MOST_PARTS:
            raise _refuse(f"it has over {_MOST_PARTS} parts")
        parts.append(_Part())

    def field(_: bytes, start: int, end: int) -> None:
        nonlocal name, value
        name, value = (start, end), (end, end)

    def content(_: bytes, start: int, end: int) -> None:
        nonlocal value
        value = (start, end)

    def header_end() -> None:
        nonlocal room
        room -= value[1] - name[0]
        headers = parts[-1].headers
        if len(headers) >= _MOST_HEADERS or room < 0:
            raise _refuse("its parts' headers are too long")
        headers.append((name, value))

    def data(_: bytes, start: int, end: int) -> None:
        part = parts[-1]
        # A line end that turned out to be no boundary comes as a piece of its own.
        part.data = (part.data[0] or start, end)

    callbacks: MultipartCallbacks = {
        "on_part_begin": begin,
        "on_header_field": field,
        "on_header_value": content,
        "on_header_end": header_end,
        "on_part_data": data,
    }
    _feed(body, boundary, callbacks)
    return parts


def _feed(body: bytes, boundary: bytes, callbacks: MultipartCallbacks) -> None:
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _refuse(str(error)[:200].rstrip(".")) from None


def _describe(body: bytes, part: _Part) -> tuple[str, bool, tuple[int, int] | None]:
    """Give a part's name, whether it is a file, and where its Content-Length stands."""
    dispositions: list[bytes] = []
    is_file = False
    length_span = None
    for (name_start, name_end), span in part.headers:
        name = body[name_start:name_end].strip().lower()
        value = body[slice(*span)]
        if name == b"content-disposition":
            dispositions.append(value.strip())
        elif name == b"content-length":
            length_span = span
        elif name == b"content-transfer-encoding" and value.strip().lower() not in {
            b"binary",
            b"8bit",
            b"7bit",
        }:
            is_file = True  # not text as it stands
        elif name == b"content-type" and b"charset" in value.lower():
            is_file = is_file or not _CHARSETS.search(value.decode("latin-1"))
    if len(dispositions) != 1:
        raise _refuse("a part has no Content-Disposition, or two")
    match = _NAME.match(dispositions[0])
    if match is None:
        raise _refuse('a part\'s Content-Disposition is not form-data; name="…"')
    _check_parameters(dispositions[0])
    raw = match[1] if match[1] is not None else match[2]
    is_file = is_file or _FILE_NAME.search(dispositions[0], match.end()) is not None
    return raw.decode("utf-8", "replace"), is_file, length_span


def _check_parameters(disposition: bytes) -> None:
    """Refuse a second name under any spelling: parsers differ in which one they take."""
    names = [match[1].lower() for match in _PARAMETER.finditer(disposition)]
    if names.count(b"name") != 1 or b"name*" in names:
        raise _refuse("a part has two names")


def _text(body: bytes, part: _Part, name: str) -> str:
    start, end = part.data
    if end - start > _MOST_FIELD_BYTES:
        raise InvalidRequest(f"{name}: the field is over {_MOST_FIELD_BYTES} bytes.", param=name)
    try:
        return body[start:end].decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name}: the field is not valid UTF-8.", param=name) from None


def _refuse(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not a valid form: {reason}. {_REMEDY}", param="body")
