"""Which headers go where, and how heads are written and checked.

Requests pass by a deny-list (vendor headers survive); replies pass by an allow-list
(a provider's cookies, credentials and connection state never reach a client). Hop-by-hop names:
RFC 9110 section 7.6.1.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import methodcaller
from types import MappingProxyType

from .errors import InvalidRequest, Unauthenticated, UpstreamError

__all__ = [
    "REASONS",
    "Network",
    "client_address",
    "collect_request",
    "forward_reply",
    "forward_request",
    "guard_headers",
    "is_forwarded",
    "is_inside",
    "read_reply",
    "write_head",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade http2-settings".split()
)
# Credentials, and whatever describes the hop between the client and us.
_NOT_UPSTREAM = _HOP_BY_HOP | frozenset(
    "authorization x-api-key api-key x-goog-api-key x-amz-security-token cookie cookie2 host "
    "content-length accept-encoding expect forwarded via x-forwarded-for x-forwarded-host "
    "x-forwarded-proto x-forwarded-port x-forwarded-prefix x-forwarded-server x-real-ip x-client-ip "
    "true-client-ip cf-connecting-ip x-original-url x-rewrite-url x-request-id x-provider-key "
    "x-org-id x_org_id x-csrf-token x-user x-user-id x-http-method-override x-method-override "
    "origin referer dnt priority".split()
)
_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")
_NOT_UPSTREAM_PREFIXES = ("x-raven-", "x_raven_", "sec-", "proxy-", "access-control-")
_MUST_BE_SINGLE = frozenset("content-type content-length host x-provider-key x-org-id x-raven-strict".split())
_TO_CLIENT = frozenset(
    "content-type content-disposition content-language content-range accept-ranges cache-control etag "
    "last-modified retry-after retry-after-ms x-should-retry deprecation sunset warning".split()
)
_TO_CLIENT_PREFIXES = (
    "openai-", "anthropic-", "x-groq-", "x-ms-", "apim-", "azureml-", "x-inference-", "x-envoy-upstream-",
)  # fmt: skip
_SECRET_LIKE = ("key", "token", "secret", "auth", "cookie")
# What describes the gateway's account at the vendor, not the client's here.
_ACCOUNT_LIKE = ("ratelimit", "rate-limit", "organization", "project")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_DATA = frozenset(
    "application/json text/event-stream application/x-ndjson application/jsonl application/octet-stream "
    "application/vnd.amazon.eventstream text/plain".split()
)
_NOSNIFF = MappingProxyType({"X-Content-Type-Options": "nosniff"})
_SANDBOX = MappingProxyType({**_NOSNIFF, "Content-Security-Policy": "sandbox; default-src 'none'"})

REASONS = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
    304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type",
    417: "Expectation Failed", 422: "Unprocessable Content", 429: "Too Many Requests",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


def collect_request(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Gather a request's headers under lower-case names.

    Repeated fields are joined with ", " (RFC 9110 section 5.3), except those that must be single:
    two credentials are a 401, two of the others a 400. A client's own request id is kept only if
    it is harmless (`[A-Za-z0-9_-]{1,64}`).
    """
    pairs = tuple(items)
    names, values = zip(*pairs, strict=True) if pairs else ((), ())
    headers = dict(zip(map(str.lower, names), values, strict=True))
    if len(headers) != len(pairs):
        headers = _join_repeated(pairs)
    theirs = headers.get("x-request-id")
    if theirs is not None and not _CLIENT_REQUEST_ID.fullmatch(theirs):
        del headers["x-request-id"]
    return headers


def _join_repeated(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        if key in headers:
            if key in {"authorization", "x-api-key"}:
                raise Unauthenticated("The request carries two credentials; send one.")
            if key in _MUST_BE_SINGLE:
                raise InvalidRequest(f"The header {key} appears more than once.", param=key)
            value = f"{headers[key]}, {value}"
        headers[key] = value
    return headers


def forward_request(headers: dict[str, str]) -> dict[str, str]:
    """Choose the client's headers that a provider may see."""
    outgoing = {name: headers[name] for name in _choose_for_provider(tuple(headers))}
    if "connection" in headers:
        for name in headers["connection"].lower().split(","):
            outgoing.pop(name.strip(), None)
    return outgoing


def read_reply(raw: Sequence[tuple[bytes, bytes]], secrets: Iterable[bytes] = ()) -> dict[str, str]:
    """Decode a provider's headers; names lower case, duplicates joined, `secrets` masked.

    Raises UpstreamError (502) for control characters in a value: the C parser is lenient there.
    """
    raw_names, raw_values = zip(*raw, strict=True) if raw else ((), ())
    headers = dict(zip(map(_decode_name, raw_names), map(_decode_value, raw_values), strict=True))
    if len(headers) != len(raw):
        headers = {}
        for raw_name, raw_value in raw:
            name, value = _decode_name(raw_name), _decode_value(raw_value)
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    values = "".join(headers.values())
    if not values.isprintable() and _CONTROL.search(values):
        raise UpstreamError("The provider sent a header with a control character.")
    for secret in secrets:
        text = secret.decode("utf-8", "surrogateescape")
        if text in values:
            headers = {name: value.replace(text, "*" * len(secret)) for name, value in headers.items()}
    return headers


def forward_reply(headers: dict[str, str]) -> dict[str, str]:
    """Choose the provider's headers that a client may see."""
    return {name: headers[name] for name in _choose_for_client(tuple(headers))}


@lru_cache(maxsize=256)  # the kinds are few
def guard_headers(content_type: str) -> Mapping[str, str]:
    """Give what keeps a browser from running a provider's reply as a page of the gateway's own.

    Somebody signed in may be led to `/v1/{provider}/…` by a link, and their cookie with them: what is no
    plain data is shown in a sandbox, without scripts, and nothing is taken for something else.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_data = kind in _DATA or (kind.startswith(("audio/", "image/", "video/")) and kind != "image/svg+xml")
    return _NOSNIFF if is_data else _SANDBOX


# Names repeat from request to request, mostly all of a message's together: they are judged once, within a
# bounded memory. What is done for every header of every message is done by built-in functions.

_decode_value: Callable[[bytes], str] = methodcaller("decode", "utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def _decode_name(raw_name: bytes) -> str:
    return raw_name.decode("latin-1").lower()


@lru_cache(maxsize=256)
def _choose_for_provider(names: tuple[str, ...]) -> tuple[str, ...]:
    hidden = _NOT_UPSTREAM_PREFIXES
    return tuple([name for name in names if name not in _NOT_UPSTREAM and not name.startswith(hidden)])


@lru_cache(maxsize=256)
def _choose_for_client(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([name for name in names if _goes_to_client(name)])


def _goes_to_client(name: str) -> bool:
    if name in _TO_CLIENT:
        return True
    hidden = any(word in name for word in (*_SECRET_LIKE, *_ACCOUNT_LIKE))
    return name.startswith(_TO_CLIENT_PREFIXES) and not hidden


def write_head(start_line: str, headers: dict[str, str]) -> bytes:
    """Write a start line and headers, with the empty line that ends them.

    Raises InvalidRequest for a name or value that would break out of its line; the values come
    from clients, plugins and providers.
    """
    try:
        lines = [start_line, *map(": ".join, headers.items())]
    except TypeError:  # a plugin's value may be a number
        lines = [start_line, *[f"{name}: {value}" for name, value in headers.items()]]
    # One look at the whole is cheaper than one at each value.
    text = "".join(lines)
    if not text.isprintable() and any(end in text for end in "\r\n\0"):
        bad = next((n for n, v in headers.items() if _CONTROL.search(str(v)) or not _NAME.fullmatch(n)), "?")
        raise InvalidRequest(f"The header {bad!r} has a control character.", param="headers")
    lines += ("", "")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def client_address(peer: str, headers: dict[str, str], trusted: tuple[Network, ...]) -> str:
    """Find the client's address: the peer's, or what trusted proxies say of it.

    Walks `X-Forwarded-For` from the right and stops at the first address that is not a trusted
    proxy; garbage stops the walk at the last address that was good. Only configured networks are
    trusted, never "all private ranges".
    """
    if not trusted:
        return peer
    address = _parse_address(peer)
    if address is None or not _is_trusted(address, trusted):
        return peer
    best = address
    for text in reversed(headers.get("x-forwarded-for", "").split(",")[-64:]):
        hop = _parse_address(text.strip())
        if hop is None:
            break
        best = hop
        if not _is_trusted(hop, trusted):
            break
    return str(best)


def is_forwarded(peer: str, headers: dict[str, str], trusted: tuple[Network, ...]) -> bool:
    """Say whether somebody who is not trusted sends for others: a proxy that was not configured."""
    return bool(peer) and not headers.keys().isdisjoint(_FORWARDED) and not is_inside(peer, trusted)


@lru_cache(maxsize=1024)  # the peers are few, and each opens many connections
def is_inside(address: str, networks: tuple[Network, ...]) -> bool:
    """Say whether a client's address lies in one of the networks; what is no address does not."""
    parsed = _parse_address(address)
    if parsed is None:
        return False
    # A socket that listens for IPv6 shows IPv4 clients so.
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(mapped in network for network in networks)


def _is_trusted(address: ipaddress.IPv4Address | ipaddress.IPv6Address, trusted: tuple[Network, ...]) -> bool:
    return any(address in network for network in trusted)


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    host = text
    if host.startswith("["):  # [v6] or [v6]:port
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:  # v4:port
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
