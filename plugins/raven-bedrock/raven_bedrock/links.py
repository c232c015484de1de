"""Fetches what a request links to, for Bedrock takes bytes only: images and documents, if the option is on.

Used before a request is built. Without the option a link is refused by whoever writes the request.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.fetcher import fetch

__all__ = ["fetch_anthropic", "fetch_hub", "find_links"]

_MOST = 20  # links in one request: what Converse takes
_MAX_BYTES = 8 * 2**20  # Bedrock takes 3.75 MB an image and 4.5 MB a document; some more is its own 400
_TIMEOUT_S = 15.0


async def fetch_hub(request: hub.ChatRequest, *, allow_private: bool) -> None:
    """Put bytes in the place of every http(s) link of `request`. Raises GatewayError."""
    found = [media for media in _media(request.messages) if _is_link(media.url)]

    def put(media: hub.Media, kind: str, data: str) -> None:
        media.url, media.data, media.media_type = None, data, kind or media.media_type

    await _fetch_all([(media.url or "", media) for media in found], put, allow_private=allow_private)


async def fetch_anthropic(body: bytes, *, allow_private: bool) -> bytes | None:
    """Give an Anthropic body with bytes in the place of its links; None where it has none."""
    document = _decode(body)
    found = [source for _, source in find_links(document)]
    if not found:
        return None

    def put(source: dict[str, Any], kind: str, data: str) -> None:
        source.clear()
        source.update(type="base64", media_type=kind, data=data)

    await _fetch_all([(source["url"], source) for source in found], put, allow_private=allow_private)
    return msgspec.json.encode(document)


def find_links(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the sources of an Anthropic request that are links, each with its place.

    `document` is the decoded body, or the body itself.
    """
    if isinstance(document, bytes):
        if b'"url"' not in document:
            return
        document = _decode(document)
    messages = document.get("messages") if isinstance(document, dict) else None
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        yield from _links_in(content, f"messages[{index}].content")


def _links_in(content: Any, where: str, *, is_top: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(block, dict):
            continue
        place = f"{where}[{index}]"
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "url" and isinstance(source.get("url"), str):
            yield place, source
        elif block.get("type") == "tool_result" and is_top:  # they do not nest
            yield from _links_in(block.get("content"), f"{place}.content", is_top=False)


async def _fetch_all(
    links: Sequence[tuple[str, Any]], put: Callable[[Any, str, str], None], *, allow_private: bool
) -> None:
    if len(links) > _MOST:
        raise InvalidRequest(f"messages: at most {_MOST} links are fetched for a request.", param="messages")

    async def one(url: str, target: Any) -> None:
        kind, data = await fetch(url, max_bytes=_MAX_BYTES, timeout_s=_TIMEOUT_S, allow_private=allow_private)
        text = base64.b64encode(data).decode()
        put(target, hub.sniff(text) or kind, text)

    await asyncio.gather(*[one(url, target) for url, target in links])


def _media(messages: Sequence[hub.Message]) -> Iterator[hub.Media]:
    for message in messages:
        for part in message.parts:
            inner = part.content if isinstance(part, hub.ToolResult) else [part]
            for one in inner:
                if isinstance(one, hub.Image | hub.File):
                    yield one.media


def _is_link(url: str | None) -> bool:
    return url is not None and url.startswith(("https://", "http://"))


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None  # the face has judged the body
