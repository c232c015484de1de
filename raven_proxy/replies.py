"""Write replies to the client: heads, whole bodies, errors.

Written straight to the transport: the head is the gateway's own, the body is not touched.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp.helpers import rfc822_formatted_time

from .errors import GatewayError
from .exchange import Exchange
from .headers import REASONS, write_head
from .server import SENT, SENT_AND_CLOSE

if TYPE_CHECKING:
    from .server import ClientConnection, Sent

__all__ = ["is_ours", "reply_head", "send_error", "send_whole"]

_FRAMING = frozenset(
    "connection content-length date keep-alive transfer-encoding trailer upgrade x-request-id".split()
)
# What became of a request or reply.
_SAID_BY_PLUGINS = frozenset({"x-raven-adjusted", "x-raven-cost", "x-raven-estimated", "x-raven-guardrails"})
_NO_BODY = frozenset({204, 304})
# After these nobody knows where the next request would begin, or how much is still to come.
_CLOSE_AFTER = frozenset({408, 413, 417, 501, 505})


def reply_head(exchange: Exchange, status: int, headers: dict[str, str], *, keep_alive: bool) -> bytes:
    """Write a reply's head: `headers` (lower-case names), then the plugins' own, then the gateway's.

    What frames the message and what names it are the gateway's alone: plugins cannot set them.
    """
    exchange.status = status
    final = headers
    for name, value in exchange.response_headers.items():
        lower = _name_of_plugins(name)
        if lower:
            final.pop(lower, None)
            final[name] = value
    final["X-Request-ID"] = exchange.id
    if exchange.face.dialect.id_header:
        final[exchange.face.dialect.id_header] = exchange.id
    candidate = exchange.candidate
    if candidate is not None:
        final["X-Raven-Provider"] = candidate.upstream.label
        if candidate.model is not None:
            final["X-Raven-Model"] = _header_value(candidate.model)
        final["X-Raven-Latency-Ms"] = str(int(exchange.elapsed_ms()))
    final["Date"] = rfc822_formatted_time()
    if not keep_alive:
        final["Connection"] = "close"
    elif exchange.request.version < (1, 1):
        final["Connection"] = "keep-alive"
    exchange.reply_headers = final
    return write_head(f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", final)


def is_ours(name: str) -> bool:
    """Say whether a header (lower case) frames or names a reply: plugins cannot set those."""
    return name in _FRAMING or (name.startswith("x-raven-") and name not in _SAID_BY_PLUGINS)


@lru_cache(maxsize=256)  # plugins' names are few, and the same for each reply
def _name_of_plugins(name: str) -> str:
    """Give a plugin's header in lower case; "" for one that it cannot set."""
    lower = name.lower()
    return "" if lower == "content-type" or is_ours(lower) else lower


def _header_value(name: str) -> str:
    """Write a client's word so that it cannot end the line, nor need decoding."""
    return name if name.isascii() and name.isprintable() else quote(name, safe="/:@ ")


def send_whole(
    exchange: Exchange,
    client: ClientConnection,
    status: int,
    headers: dict[str, str],
    body: bytes,
    *,
    keep_alive: bool = True,
) -> Sent:
    """Send a reply whose body is all here, in one write."""
    keep_alive = keep_alive and exchange.request.keep_alive and not exchange.pipeline.is_draining
    if status not in _NO_BODY and (body or exchange.request.method != "HEAD"):
        headers["Content-Length"] = str(len(body))
    head = reply_head(exchange, status, headers, keep_alive=keep_alive)
    has_body = exchange.request.method != "HEAD" and status not in _NO_BODY
    client.send(head + body if has_body else head)
    if not keep_alive:
        client.flush()  # before anybody closes
    return SENT if keep_alive else SENT_AND_CLOSE


def send_error(exchange: Exchange, client: ClientConnection, error: GatewayError) -> Sent:
    """Send an error in the client's dialect."""
    dialect = exchange.face.dialect
    error.status = dialect.statuses.get(error.status, error.status)
    body = dialect.render_error(error, exchange.id)
    headers = {"content-type": "application/json", **error.headers}
    keep_alive = error.status not in _CLOSE_AFTER
    return send_whole(exchange, client, error.status, headers, body, keep_alive=keep_alive)
