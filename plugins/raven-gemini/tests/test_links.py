"""Links to images and documents become their bytes, where the config asks for it."""

from __future__ import annotations

import base64

import pytest
from raven_gemini.links import fetch_links

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest, UpstreamError
from raven_proxy.mock import MockUpstream

PNG = base64.b64decode("iVBORw0KGgo=")


def ask(*urls: str) -> hub.ChatRequest:
    parts = [hub.Image(media=hub.Media(url=url)) for url in urls]
    result = hub.ToolResult(call_id="c", content=parts[1:])
    messages = [hub.Message(role="user", parts=[*parts[:1]]), hub.Message(role="tool", parts=[result])]
    return hub.ChatRequest(model="m", messages=messages)


def media(request: hub.ChatRequest) -> list[hub.Media]:
    first, second = request.messages
    return [part.media for part in (*first.parts, *second.parts[0].content)]  # type: ignore[union-attr]


async def test_each_link_is_fetched_once(upstream: MockUpstream) -> None:
    """In messages and in results; its type is what the server says, or what the bytes are."""
    upstream.reply(body=PNG, headers={"Content-Type": "image/webp; x=y"})
    request = ask(upstream.origin + "/a", upstream.origin + "/a")
    await fetch_links(request, allow_private=True)
    data = base64.b64encode(PNG).decode()
    assert [(m.url, m.data, m.media_type) for m in media(request)] == [(None, data, "image/webp")] * 2
    assert len(upstream.seen) == 1
    upstream.reply(body=PNG)
    request = ask(upstream.origin + "/b")
    await fetch_links(request, allow_private=True)
    assert media(request)[0].media_type == "image/png"


async def test_googles_own_links_stay(upstream: MockUpstream) -> None:
    """Files, videos and Cloud Storage are Google's to read."""
    urls = (
        "https://generativelanguage.googleapis.com/v1beta/files/a",
        "https://www.youtube.com/watch?v=1",
        "gs://bucket/a",
    )
    request = ask(*urls)
    await fetch_links(request)
    assert [m.url for m in media(request)] == [*urls]


async def test_what_is_no_image_is_refused(upstream: MockUpstream) -> None:
    """A page, a missing file, too many links; and private addresses are not reached."""
    upstream.reply(body=b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(InvalidRequest, match="text/html"):
        await fetch_links(ask(upstream.origin + "/a"), allow_private=True)
    upstream.reply(status=404)
    with pytest.raises(InvalidRequest, match="404"):
        await fetch_links(ask(upstream.origin + "/a"), allow_private=True)
    with pytest.raises(InvalidRequest, match="16"):
        await fetch_links(ask(*[f"https://a.example/{n}" for n in range(17)]))
    with pytest.raises(UpstreamError):
        await fetch_links(ask(upstream.origin + "/a"))
