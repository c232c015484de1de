"""Change one field of a JSON object and leave every other byte alone.

`scan` finds where each top-level member's value lies and refuses what cannot be judged the same
way by everybody: duplicate keys, NaN, lone surrogates, broken UTF-8, a BOM, excessive depth.
"""

from __future__ import annotations

import json  # noqa: TID251 - the one decoder that tells of each pair; it gives nothing back
import re
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec

from .errors import InvalidRequest

__all__ = ["Spans", "find_lone_surrogate", "put", "remove", "scan"]

Spans = dict[str, tuple[int, int]]
"""Top-level member name → (start, end) of its value in the body."""

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_EMPTY = (b"[]", b"{}")
_LARGE = 256 * 1024  # bytes; less cannot hold so many objects that it matters
_MOST_OBJECTS = 100_000
_MOST_MEMBERS = 250_000
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAME = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_AFTER = re.compile(rb"[ \t\r\n]*[,}]")
_POSITION = re.compile(r"\(byte (\d+)\)")
_LONE_SURROGATE = re.compile(rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F])")


def scan(body: bytes) -> Spans:
    """Map the members of the JSON object `body` to the byte spans of their values.

    Raises InvalidRequest (400) that names the position or the repeated key, nested ones included. Cost is
    one pass of the C decoder, one match per member, and for what is nested one more decode and encode.
    """
    if len(body) > _LARGE:
        _check_size(body)
    if not body.isascii():
        _check_utf8(body)
    try:
        members = _MEMBERS.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body must be a JSON object: {error}.", param="body") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_describe(error, body), param="body") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", param="body") from None
    spans: Spans = {}
    end = 0
    for name, value in members.items():
        text = bytes(value)
        if text[:1] in b"[{" and text not in _EMPTY:
            _check_nested(name, text)
        start = end + len(name) + 4
        end = start + len(text)
        spans[name] = (start, end)
    # Official clients write no insignificant byte at the top level: sums place the members there. A repeated,
    # escaped or non-ASCII key, or any white space, makes the body longer than the sum.
    return spans if end + 1 == len(body) else _locate(body, members)


def _check_nested(name: str, text: bytes) -> None:
    """Refuse a key that appears twice in one object of a member's value.

    What comes out of decoder and encoder as it went in has none: so most clients write. For the others
    a decoder with a hook looks at each object; it takes three times as long.
    """
    try:
        with suppress(msgspec.DecodeError):  # a number that no decoder can hold is the provider's to judge
            if _ENCODE(_DECODE(text)) == text:
                return
        _PAIRS.decode(text.decode())
    except _Repeated as error:
        raise InvalidRequest(
            f"{name}: the key {error.args[0]!r} appears more than once in one object.", param=name
        ) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", param=name) from None


class _Repeated(Exception):
    pass


def _look_at(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise _Repeated(next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))


_PAIRS = json.JSONDecoder(object_pairs_hook=_look_at, parse_int=str, parse_float=str)


def _check_size(body: bytes) -> None:
    """Refuse what would hold everybody up: a judgement of a million objects takes seconds."""
    for what, token, most in (("objects", b"{", _MOST_OBJECTS), ("members", b'":', _MOST_MEMBERS)):
        if body.count(token) > most:
            raise InvalidRequest(f"The body holds more than {most:,} {what}.", param="body")


def _locate(body: bytes, members: dict[str, msgspec.Raw]) -> Spans:
    spans: Spans = {}
    match = _NAME.match(body)
    while match is not None:
        token = match[1]
        name = _unescape(token) if b"\\" in token else token.decode()
        value = members[name]
        start = match.end()
        # The decoder keeps a repeated key's last value: its first occurrence then differs, or is
        # the same text and is found in `spans`.
        end = start + len(memoryview(value))
        # Nor may it only begin alike: `"n":12,"n":1`.
        if body.find(value, start, end) != start or name in spans or not _AFTER.match(body, end):
            raise InvalidRequest(f"The key {name!r} appears more than once.", param=name)
        spans[name] = (start, end)
        match = _NAME.match(body, end)
    return spans


def _unescape(token: bytes) -> str:
    return msgspec.json.decode(b'"' + token + b'"', type=str)


def put(body: bytes, spans: Spans, name: str, value: Any) -> bytes:
    """Set the top-level member `name`; every other byte stays.

    A new member goes to the end of the object.
    """
    encoded = value if isinstance(value, bytes) else msgspec.json.encode(value)
    if name in spans:
        start, end = spans[name]
        return body[:start] + encoded + body[end:]
    close = body.rindex(b"}")
    comma = b"," if spans else b""
    return body[:close] + comma + msgspec.json.encode(name) + b":" + encoded + body[close:]


def remove(body: bytes, spans: Spans, name: str) -> bytes:
    """Take the top-level member `name` out, with its comma; every other byte stays."""
    if name not in spans:
        return body
    start, end = spans[name]
    # Walk back over the name and colon to what stood before the member.
    before = max((stop for _, stop in spans.values() if stop < start), default=body.index(b"{") + 1)
    after = min((begin for begin, _ in spans.values() if begin > end), default=None)
    if after is not None and before == body.index(b"{") + 1:
        comma = body.index(b",", end)
        return body[:before] + body[comma + 1 :]
    return body[:before] + body[end:]


def _check_utf8(body: bytes) -> None:
    if body.startswith(b"\xef\xbb\xbf"):
        raise InvalidRequest("The body begins with a byte order mark; send plain UTF-8.", param="body")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 at byte {error.start}.", param="body") from None


def find_lone_surrogate(error: Exception, body: bytes) -> int | None:
    """Give the byte of the lone surrogate that a body was refused for.

    Near its end the decoder says "truncated", before that "unexpected end of escaped utf-16 surrogate pair".
    """
    is_likely = any(word in str(error) for word in ("truncated", "surrogate"))
    lone = _LONE_SURROGATE.search(body) if is_likely else None
    return lone.start(1) if lone is not None else None


def _describe(error: msgspec.DecodeError, body: bytes) -> str:
    if not body:
        return "The body is empty; send a JSON object."
    lone = find_lone_surrogate(error, body)
    if lone is not None:
        return f"The body is not valid JSON at byte {lone}: a lone surrogate."
    found = _POSITION.search(str(error))
    place = f"at byte {found.group(1)}" if found else f"at byte {len(body)}"
    reason = "unexpected end" if "truncated" in str(error) else _POSITION.sub("", str(error)).strip()
    return f"The body is not valid JSON {place}: {reason.removeprefix('JSON is malformed: ')}."
