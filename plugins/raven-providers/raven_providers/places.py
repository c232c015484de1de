"""Where an account's requests may go: a base URL that somebody set through the API.

The same is checked once more at each connection, after the name was resolved (`Upstream`): what a name
says today it need not say tomorrow.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from urllib.parse import SplitResult, urlsplit

from raven_proxy.addresses import is_public, is_public_host

__all__ = ["find_origin", "find_private", "judge_url"]

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_LOOKUP_S = 3.0


def judge_url(url: str, *, allow_private: bool) -> str | None:
    """Say what is wrong with a URL, as far as its text tells; None if nothing is."""
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must be a URL such as https://api.example.com/v1"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return "may hold no user; the key belongs into apiKey"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "may hold no query and no fragment"
    host = parts.hostname
    address = _address(host)
    if address is None and not _HOST.fullmatch(host):
        return "must name a host in letters, digits and hyphens"
    if allow_private:
        return None
    if parts.scheme != "https":
        return "must begin with https:// (http only with allow_private_upstreams in the gateway's config)"
    if not is_public_host(host):
        return "must be a public address"
    return None


def find_origin(url: str | None) -> str | None:
    """Give scheme, host and port of a URL."""
    parts = _split(url or "")
    return f"{parts.scheme}://{parts.netloc}".lower() if parts is not None else None


async def find_private(url: str) -> bool:
    """Say whether a URL's host resolves to an address that is not public. A name unknown today passes."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return False
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S):
            infos = await loop.getaddrinfo(parts.hostname, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return False
    return not all(is_public(str(info[4][0])) for info in infos)


def _split(url: str) -> SplitResult | None:
    if not _PRINTABLE.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # an impossible port, or half an IPv6 address
        return None


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
