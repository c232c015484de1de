"""What is fetched from outside comes from where it may, in the size and time that it may."""

from __future__ import annotations

import pytest

from raven_proxy.errors import InvalidRequest, UpstreamError
from raven_proxy.fetcher import fetch, send
from raven_proxy.mock import MockUpstream, ScriptedReply

IMAGE = b"\x89PNG\r\n" + bytes(1000)


async def get(upstream: MockUpstream, path: str = "/a.png?x=1", **options: object) -> tuple[str, bytes]:
    limits = {"max_bytes": 10_000, "timeout_s": 5.0, "allow_private": True} | options
    return await fetch(upstream.origin + path, **limits)  # type: ignore[arg-type]


async def test_a_link_is_fetched_with_its_type(upstream: MockUpstream) -> None:
    """Path and query are asked for as they stand, and no credential goes along."""
    upstream.script(ScriptedReply(status=200, headers={"Content-Type": "image/PNG; x=y"}, body=IMAGE))
    assert await get(upstream) == ("image/png", IMAGE)
    [seen] = upstream.seen
    assert (seen.method, seen.target) == ("GET", "/a.png?x=1")
    assert not {"authorization", "cookie"} & set(seen.headers)


async def test_a_private_address_is_not_connected_to(upstream: MockUpstream) -> None:
    """Loopback, by address and by name: nothing arrives there."""
    port = upstream.origin.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"):
        with pytest.raises(UpstreamError):
            await fetch(f"http://{host}:{port}/", max_bytes=10, timeout_s=2.0)
    assert upstream.seen == []


async def test_a_redirect_is_not_followed(upstream: MockUpstream) -> None:
    upstream.script(ScriptedReply(status=302, headers={"Location": upstream.origin + "/inside"}, body=b""))
    with pytest.raises(UpstreamError, match="redirect"):
        await get(upstream)
    assert len(upstream.seen) == 1


async def test_more_than_the_limit_is_not_taken(upstream: MockUpstream) -> None:
    upstream.script(ScriptedReply(status=200, headers={"Content-Type": "image/png"}, body=bytes(20_000)))
    with pytest.raises(UpstreamError, match="size limit"):
        await get(upstream)


async def test_a_silent_server_is_left(upstream: MockUpstream) -> None:
    upstream.script(ScriptedReply(status=200, headers={}, body=b"late", delay_s=30.0))
    with pytest.raises(UpstreamError) as caught:
        await get(upstream, timeout_s=0.2)
    assert caught.value.status == 504


@pytest.mark.parametrize("status", [404, 500])
async def test_an_error_is_no_picture(status: int, upstream: MockUpstream) -> None:
    upstream.script(ScriptedReply(status=status, headers={"Content-Type": "image/png"}, body=IMAGE))
    with pytest.raises(InvalidRequest, match=str(status)):
        await get(upstream)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "http://", "http://u:p@h/", "http://[::1", "x"]
)
async def test_only_plain_http_urls_are_fetched(url: str) -> None:
    with pytest.raises(InvalidRequest):
        await fetch(url, max_bytes=10, timeout_s=1.0)


async def test_a_form_is_posted_and_any_status_comes_back(upstream: MockUpstream) -> None:
    """A token endpoint's 400 says why in its body."""
    upstream.script(
        ScriptedReply(status=400, headers={"Content-Type": "application/json"}, body=b'{"error":"x"}')
    )
    reply = await send(
        "POST",
        upstream.origin + "/token",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"a=b",
        max_bytes=100,
        timeout_s=5.0,
        allow_private=True,
    )
    assert (reply.status, reply.body) == (400, b'{"error":"x"}')
    assert upstream.seen[0].body == b"a=b"


async def test_a_header_that_cannot_be_sent_opens_no_connection(upstream: MockUpstream) -> None:
    """Nobody would close it."""
    headers = {"x-signature": "two\nlines"}
    with pytest.raises(InvalidRequest):
        await send("GET", upstream.url, headers=headers, max_bytes=1000, timeout_s=5, allow_private=True)
    assert upstream.connections_opened == 0
