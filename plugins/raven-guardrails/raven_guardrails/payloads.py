"""What stands in base64 or behind percent signs: documents of text are opened, media are left alone.

Where it could be read as it stands too (in a message's text, say) both readings are judged.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from mimetypes import MimeTypes
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec

from .charsets import MEDIA, charset_of, decode_text, encode_text, is_declared_text, is_text, read_text
from .slots import both, put_both

__all__ = ["Payload", "read_payload", "read_uri"]

_BASE64_VALUE = re.compile(r"[A-Za-z0-9+/_\-\s]*={0,2}\s*\Z")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=]+")
_PADDING = re.compile("=+")
_STANDARD = {ord("-"): "+", ord("_"): "/"}
_MEDIA_MEMBERS = frozenset("b64_json partial_image_b64 bytesBase64Encoded bytes file_data".split())
_MEDIA_HOLDERS = frozenset("audio input_audio image inlineData inline_data source".split())
_MEDIA_KINDS = frozenset({"base64", "redacted_thinking"})
_PROSE = frozenset(  # members whose strings are somebody's words even if they look like a `data:` URI
    "text texts content input inputs prompt prompts system instructions message query arguments output "
    "description title name refusal thinking token inputText documents".split()
)
_URI = re.compile(r"\s*data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_PARAMETERS = re.compile(r"(?:;charset=(?:utf-8|utf8|us-ascii|iso-8859-1|utf-16|utf-16le))?(?:;base64)?")
_MORE = """
  audio/wav audio/mp3 audio/mpeg audio/flac audio/ogg audio/opus audio/aac audio/pcm
  image/webp image/heic image/jpg text/markdown text/csv application/jsonl application/x-ndjson
"""
_KNOWN = {"", *_MORE.split(), *(kind for kinds in MimeTypes().types_map for kind in kinds.values())}
_HEAD = 4096  # characters that tell what base64 holds


class Payload(msgspec.Struct, frozen=True):
    """The text to judge, None for media, and what writes another one in its place."""

    text: str | None = None
    write: Callable[[str], str] | None = None


_MEDIA_ALONE = Payload()


def read_payload(members: dict[str, Any], key: str, value: str, name: str) -> Payload | None:
    """Read what may be base64 in an object that is called `name`; None where it is a text as it stands."""
    kind = _kind_of(members)
    is_plain = members.get("type") == "text"
    is_clean = _BASE64_VALUE.match(value) is not None
    if not is_clean and (is_plain or not is_declared_text(kind)):
        return None
    is_media = _says_media(members, key, name, kind)
    data = _decode(value)
    text = read_text(data, kind) if data is not None else None
    if data is None or text is None:
        return _MEDIA_ALONE if is_media else None
    write = _coding(data, is_base64=True)
    is_sure = is_clean and (is_media or (not is_plain and (kind != "" or is_text(data) is not None)))
    return Payload(text, write) if is_sure else _either(value, text, write)


def read_uri(value: str, name: str, *, is_prose: bool = False) -> Payload | None:
    """Read a `data:` URI (RFC 2397) in a member called `name`; None for a text as it stands."""
    match = _URI.match(value)
    if match is None:
        return None
    is_prose = is_prose or name in _PROSE
    kind, parameters = match[1].strip().lower(), "".join(match[2].lower().split())
    if is_prose and " " in kind:
        return None
    head, rest = value[: match.end()], value[match.end() :]
    is_base64 = parameters.endswith(";base64")
    if is_base64:
        data = _decode(unquote_to_bytes(rest).decode("latin-1") if "%" in rest else rest)
        text = read_text(data, kind or "text/plain") if data is not None else None
    else:
        data = unquote_to_bytes(rest)
        is_media = kind.startswith(MEDIA) and not is_declared_text(kind)
        text = None if is_media and decode_text(data[:_HEAD]) is None else decode_text(data, is_declared=True)
    is_known = kind in _KNOWN and _PARAMETERS.fullmatch(parameters) is not None
    if data is None or text is None:
        if is_prose or not kind.startswith((*MEDIA, "application/octet-stream")):
            return None
        return _MEDIA_ALONE if is_known else Payload(head, lambda changed: changed + rest)
    if is_prose:
        return _either(value, text, _coding(data, is_base64=is_base64, head=head))
    if is_known:
        return Payload(text, _coding(data, is_base64=is_base64, head=head))
    return Payload(head + text, _with_head(head, data, is_base64=is_base64))


def _either(value: str, text: str, write: Callable[[str], str]) -> Payload:
    return Payload(both(value, text), put_both(value, text, write))


def _coding(data: bytes, *, is_base64: bool, head: str = "") -> Callable[[str], str]:
    """Make what writes a text as the data was."""
    charset = charset_of(data)

    def write(text: str) -> str:
        changed = encode_text(text, charset)
        return head + (b64encode(changed).decode() if is_base64 else quote(changed))

    return write


def _with_head(head: str, data: bytes, *, is_base64: bool) -> Callable[[str], str]:
    write = _coding(data, is_base64=is_base64, head=head)

    def write_all(text: str) -> str:
        if text.startswith(head):
            return write(text[len(head) :])
        return "data:," + quote(text, errors="surrogateescape")

    return write_all


def _says_media(members: dict[str, Any], key: str, name: str, kind: str) -> bool:
    if key in _MEDIA_MEMBERS or name in _MEDIA_HOLDERS or members.get("type") in _MEDIA_KINDS:
        return members.get("type") != "text"  # Anthropic's plain documents have `data` too
    return kind.lower().startswith((*MEDIA, "application/octet-stream"))


def _kind_of(members: dict[str, Any]) -> str:
    """Give the media type that an object says of its data; "" if it says none."""
    kinds = (members.get(name) for name in ("media_type", "mimeType", "mime_type"))
    return next((kind for kind in kinds if isinstance(kind, str)), "")


def _decode(value: str) -> bytes | None:
    """Decode base64 in either alphabet, in lines or several one after the other; None for what is none.

    Signs that are in no alphabet are passed over, as lenient readers do.
    """
    letters = _NO_BASE64.sub("", value.translate(_STANDARD))
    try:
        pieces = [b64decode(piece + "=" * (-len(piece) % 4)) for piece in _PADDING.split(letters)]
    except (binascii.Error, ValueError):
        return None
    return b"".join(pieces)
