"""Images by link, for a vendor that takes bytes alone: fetched here, where the operator allows it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

from raven_proxy import fetcher
from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest, Image, ToolResult

__all__ = ["fetch_images"]

_MOST = 16  # links in one request


async def fetch_images(
    request: ChatRequest, *, max_bytes: int, timeout_s: float, allow_private: bool
) -> None:
    """Put bytes in the place of links, in `request` itself.

    Raises InvalidRequest for over 16 links or for what is no image, and whatever `fetcher.fetch` raises.
    """
    images = [image for image in _images(request) if image.media.url is not None]
    if len(images) > _MOST:
        raise InvalidRequest(
            f"messages: at most {_MOST} images are fetched for one request; send bytes.", param="messages"
        )

    async def fetch(image: Image) -> None:
        url = image.media.url or ""
        kind, data = await fetcher.fetch(
            url, max_bytes=max_bytes, timeout_s=timeout_s, allow_private=allow_private
        )
        if not kind.startswith("image/"):
            raise InvalidRequest(
                f"messages: {url[:200]} is no image but {kind[:100] or 'of no type'}.", param="messages"
            )
        image.media.url, image.media.media_type = None, kind
        image.media.data = base64.b64encode(data).decode()

    try:
        async with asyncio.TaskGroup() as group:
            for image in images:
                group.create_task(fetch(image))
    except BaseExceptionGroup as errors:  # one is enough to say what is wrong
        raise errors.exceptions[0] from None


def _images(request: ChatRequest) -> Iterator[Image]:
    for message in request.messages:
        for part in message.parts:
            for one in part.content if isinstance(part, ToolResult) else (part,):
                if isinstance(one, Image):
                    yield one
