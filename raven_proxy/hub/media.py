"""Images, documents and sound as clients send them: data URLs, links, and their media types."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from raven_proxy.errors import InvalidRequest

from .parts import File, Media

__all__ = ["check_link", "make_data_url", "media_of_url", "read_data_url", "read_text", "sniff"]

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.DOTALL | re.IGNORECASE)
_WHITE = re.compile(r"\s+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
# The first bytes of the formats that models take, in base64.
_SIGNATURES = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGODdh", "image/gif"),
    ("R0lGODlh", "image/gif"),
    ("JVBERi0", "application/pdf"),
    ("UklGR", "image/webp"),  # RIFF: WebP here, WAV elsewhere
)


def media_of_url(url: str, *, param: str) -> Media:
    """Read a URL that a client sent in the place of bytes: `data:` becomes data, others stay links.

    Raises InvalidRequest naming `param` for anything that is neither.
    """
    if url[:5].lower() == "data:":
        return read_data_url(url, param=param)
    if url.startswith(("https://", "http://", "gs://", "s3://")):
        return Media(url=check_link(url, param=param))
    raise InvalidRequest(f"{param}: send an http(s) URL or a data: URL.", param=param)


def check_link(url: str, *, param: str) -> str:
    """Refuse a link that has no host, or one that cannot be: whoever looks at it later can rely on that."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidRequest(f"{param}: {url[:200]!r} is not a URL.", param=param)
    return url


def read_data_url(url: str, *, param: str) -> Media:
    """Read a `data:` URL (RFC 2397). Raises InvalidRequest naming `param`."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise InvalidRequest(f"{param}: this data: URL has no comma.", param=param)
    media_type, options, text = match.groups()
    if ";base64" in options.lower():
        data = _WHITE.sub("", text)
        if not _BASE64.fullmatch(data):
            raise InvalidRequest(f"{param}: this data: URL is not valid base64.", param=param)
    else:
        data = msgspec.json.encode(unquote_to_bytes(text)).decode()[1:-1]  # msgspec writes bytes as base64
    return Media(data=data, media_type=media_type.lower() or sniff(data))


def make_data_url(media: Media, default: str) -> str:
    """Give `media` as a URL: its link, or its bytes in a `data:` URL (of the type `default` if unknown)."""
    if media.url is not None:
        return media.url
    return f"data:{media.media_type or default};base64,{media.data or ''}"


def sniff(data: str) -> str | None:
    """Tell the media type of base64 data by its first bytes; None if they are unknown."""
    return next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)


def read_text(file: File) -> str | None:
    """Give the text of a document for vendors that take text alone; None where it is no text (a PDF)."""
    if file.text is not None:
        return file.text
    media_type, data = file.media.media_type or "", file.media.data
    if data is None or not (media_type.startswith("text/") or media_type == "application/json"):
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
