"""Bytes as text, whatever they are written in: a byte that is no UTF-8 must not hide the rest.

What is no UTF-8 stands in the text as PEP 383 has it (a surrogate for each such byte), so that writing gives
the same bytes again; guardrails read it as Latin-1.
"""

from __future__ import annotations

import codecs

__all__ = ["decode_text", "encode_like", "is_declared_text", "read_latin"]

_BOMS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
         (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip
_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
_FEW = 50  # of so many bytes one may be a control character; of compressed media every tenth is
_TEXTS = ("text/", "application/json", "application/xml", "application/x-ndjson", "application/yaml",
          "application/x-yaml", "application/javascript")  # fmt: skip
_LATIN = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


def decode_text(data: bytes, *, is_declared: bool = False) -> str | None:
    """Give bytes as a text; None for media. What is declared to be text is text."""
    charset = _charset(data)
    if charset != "utf-8":
        return data.decode(charset, "replace")
    if b"\0" not in data:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if is_declared or controls * _FEW < len(data):
        return data.decode("utf-8", "surrogateescape")
    return None


def encode_like(text: str, data: bytes) -> bytes:
    """Write a text as the bytes were that it was read from."""
    charset = _charset(data)
    if charset != "utf-8":
        return text.encode(charset, "replace")
    return text.encode("utf-8", "surrogateescape")


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


def _charset(data: bytes) -> str:
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
