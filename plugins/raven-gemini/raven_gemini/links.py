"""Fetching the images and documents that a client only linked to, so that Google gets their bytes.

Through the core's guarded fetcher: public addresses only, no redirects, bounded in size, number and time.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from urllib.parse import urlsplit

from raven_proxy import fetcher, hub
from raven_proxy.errors import InvalidRequest

__all__ = ["fetch_links", "has_links"]

_MAX_BYTES = 20 * 2**20
_MAX_LINKS = 16
_TIMEOUT_S = 20.0
_GOOGLES = ("generativelanguage.googleapis.com", "youtube.com", "www.youtube.com", "youtu.be")
_TAKEN = ("image/", "audio/", "video/", "text/", "application/pdf", "application/json")


async def fetch_links(request: hub.ChatRequest, *, allow_private: bool = False) -> None:
    """Put bytes in the place of each http(s) link of `request` that is not Google's own.

    Raises InvalidRequest for a link that leads nowhere, for one that is no image or document, and for
    more than 16.
    """
    found = [media for message in request.messages for media in _links(message.parts)]
    if len({media.url for media in found}) > _MAX_LINKS:
        raise InvalidRequest(f"messages: send at most {_MAX_LINKS} links.", param="messages")
    urls = [*dict.fromkeys(media.url for media in found if media.url is not None)]
    replies = await asyncio.gather(*(_fetch(url, allow_private=allow_private) for url in urls))
    known = dict(zip(urls, replies, strict=True))
    for media in found:
        kind, data = known[media.url or ""]
        media.media_type = media.media_type or kind
        media.data, media.url = data, None


def has_links(request: hub.ChatRequest) -> bool:
    """Say whether `request` has an http(s) link in the place of bytes."""
    return any(True for message in request.messages for _ in _links(message.parts))


async def _fetch(url: str, *, allow_private: bool) -> tuple[str | None, str]:
    kind, body = await fetcher.fetch(
        url, max_bytes=_MAX_BYTES, timeout_s=_TIMEOUT_S, allow_private=allow_private
    )
    data = base64.b64encode(body).decode()
    if kind in ("", "application/octet-stream", "binary/octet-stream"):
        return hub.sniff(data[:32]), data
    if not kind.startswith(_TAKEN) or kind == "text/html":
        raise InvalidRequest(
            f"messages: {url[:200]} is no image or document but {kind[:100]!r}.", param="messages"
        )
    return kind, data


def _links(parts: list[hub.Part]) -> Iterator[hub.Media]:
    for part in parts:
        if isinstance(part, hub.ToolResult):
            yield from _links(part.content)
        elif isinstance(part, hub.Image | hub.File | hub.Audio):
            url = part.media.url or ""
            if url.startswith(("https://", "http://")) and urlsplit(url).hostname not in _GOOGLES:
                yield part.media
