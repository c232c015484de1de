"""Bytes as text, whatever they are written in: a byte that is no UTF-8 must not hide the rest.

What is no UTF-8 stands in the text as PEP 383 has it (a surrogate for each such byte), so that writing gives
the same bytes again; guardrails read it as Latin-1.
"""

from __future__ import annotations

import codecs

__all__ = [
    "MEDIA",
    "charset_of",
    "decode_text",
    "encode_text",
    "errors_of",
    "is_declared_text",
    "is_text",
    "read_latin",
    "read_text",
]

_BOMS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
         (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_CONTROLS = bytes([*range(1, 9), *range(14, 27), *range(28, 32), 127])
_FEW = 50  # of so many bytes one may be a control character; of compressed media every tenth is
_TEXTS = ("text/", "application/json", "application/xml", "application/x-ndjson", "application/yaml",
          "application/x-yaml", "application/javascript")  # fmt: skip
MEDIA = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip")
"""How media types begin of what holds no text, or not as such."""
_HEAD = 4096  # bytes that tell what the rest is
_LATIN = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


def decode_text(data: bytes, *, is_declared: bool = False) -> str | None:
    """Give bytes as a text; None for media. What is declared to be text is text."""
    charset = charset_of(data)
    if charset != "utf-8":
        return data.decode(charset, errors_of(charset))
    text = is_text(data)
    if text is not None:
        return text
    said = len(data) - data.count(0)  # every other byte of UTF-16 is zero
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if is_declared or controls * _FEW < said:
        return data.decode("utf-8", "surrogateescape")
    return None


def is_text(data: bytes, *, is_cut: bool = False) -> str | None:
    """Give bytes as a text if they are nothing else: UTF-8 without zeros."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_cut and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8")
        return None


def read_text(data: bytes, media_type: str) -> str | None:
    """Give the text that bytes are; None for media, by what `media_type` says or by how they begin."""
    kind = media_type.strip().lower()
    if is_declared_text(kind):
        return decode_text(data, is_declared=True)
    if kind.startswith(MEDIA):
        return is_text(data) if is_text(data[:_HEAD], is_cut=True) is not None else None
    return decode_text(data) if decode_text(data[:_HEAD]) is not None else None


def encode_text(text: str, charset: str) -> bytes:
    """Write a text in the charset that it was read in."""
    return text.encode(charset, errors_of(charset))


def errors_of(charset: str) -> str:
    """Name what is done with what has no place in a charset."""
    return "surrogateescape" if charset == "utf-8" else "replace"


def is_declared_text(media_type: str) -> bool:
    """Say whether a media type is one of text."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith(_TEXTS) or kind.endswith(("+json", "+xml"))


def read_latin(text: str) -> str:
    """Read the bytes that are no UTF-8 as Latin-1: one character for each."""
    try:
        _ = text.encode()  # some hundred times as quick as looking for them
    except UnicodeEncodeError:
        return text.translate(_LATIN)
    return text


def charset_of(data: bytes) -> str:
    """Tell UTF-32 and UTF-16 by their marks, UTF-16 also by its zeros; "utf-8" for all else."""
    for mark, charset in _BOMS:
        if data.startswith(mark):
            return charset
    # UTF-16 of letters that have a byte: every other byte is zero.
    if data[:2].count(0) == 1 and len(data) % 2 == 0:
        most = len(data) // 2 * 0.7
        if data[1::2].count(0) > most and data[::2].count(0) * _FEW < len(data):
            return "utf-16-le"
        if data[::2].count(0) > most and data[1::2].count(0) * _FEW < len(data):
            return "utf-16-be"
    return "utf-8"
