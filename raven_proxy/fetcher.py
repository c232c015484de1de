"""One guarded request to an address that came from outside: an image link, a token endpoint, a webhook.

The address is checked when the connection is made, after the name was resolved; redirects are not
followed; size and time are bounded; nothing is kept alive. Requests to configured upstreams do not
go this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .collector import Collector
from .config import UpstreamConfig
from .errors import ConfigError, InvalidRequest, UpstreamError, UpstreamTimeout
from .exchange import Outgoing
from .headers import read_reply
from .upstream import Upstream

__all__ = ["Fetched", "fetch", "send"]

_NOBODY: Any = None  # the provider: nothing is asked of it where a base URL is given


class Fetched(msgspec.Struct, frozen=True):
    """A reply: `headers` have lower-case names, `body` is at most `max_bytes` long."""

    status: int
    headers: dict[str, str]
    body: bytes


async def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] = {},
    body: bytes = b"",
    max_bytes: int,
    timeout_s: float,
    allow_private: bool = False,
) -> Fetched:
    """Send one request and give its reply, whatever its status; `timeout_s` is for all of it.

    Raises InvalidRequest for a URL that is not http(s) (or carries a user) and for a header that cannot be
    sent, UpstreamError (502, 504) where no public address answers in time with at most `max_bytes`, or
    where it redirects.
    """
    upstream, target = _locate(url, allow_private=allow_private)
    outgoing = Outgoing(method, target, dict(headers), body)
    head = upstream.write_request(outgoing)
    try:
        async with asyncio.timeout(timeout_s):
            connection = await upstream.acquire(timeout_s)
            message = await connection.send(head, body, expects_body=method != "HEAD", timeout_s=timeout_s)
            if 300 <= message.code < 400:
                connection.abort()
                raise UpstreamError(f"{upstream.host} answered with a redirect, which is not followed.")
            reply = await Collector(connection, max_bytes, timeout_s, timeout_s).wait()
    except TimeoutError:
        raise UpstreamTimeout(f"{upstream.host} did not answer in time.") from None
    finally:
        upstream.close()
    return Fetched(message.code, read_reply(message.raw_headers), reply)


async def fetch(
    url: str, *, max_bytes: int, timeout_s: float, allow_private: bool = False
) -> tuple[str, bytes]:
    """Get what lies at `url`; give its media type (without parameters) and its bytes.

    Raises what `send` raises, and InvalidRequest where the answer is not a 200: the link is wrong.
    """
    reply = await send("GET", url, max_bytes=max_bytes, timeout_s=timeout_s, allow_private=allow_private)
    if reply.status != 200:
        raise InvalidRequest(f"{url[:200]} cannot be fetched: it answers {reply.status}.")
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower(), reply.body


def _locate(url: str, *, allow_private: bool) -> tuple[Upstream, str]:
    try:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        config = UpstreamConfig(name=parts.hostname or "?", provider="fetch", base_url=origin)
        upstream = Upstream(config, _NOBODY, allow_private=allow_private)
    except (ConfigError, ValueError) as error:
        raise InvalidRequest(f"{url[:200]!r} is not a URL that can be fetched.") from error
    path = parts.path or "/"
    return upstream, f"{path}?{parts.query}" if parts.query else path
