"""One try to deliver: judged where it may go, signed, sent, and nothing kept of what the other side said.

X-Raven-Signature: t=<Unix seconds>,v1=<hex of HMAC-SHA256 with the secret over "<t>.<body>">
X-Raven-Delivery: del_…, the same in every try of one delivery
X-Raven-Event: budget.exceeded
"""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from raven_proxy import GatewayError, UpstreamError
from raven_proxy.addresses import is_public_host
from raven_proxy.events import Event
from raven_proxy.fetcher import send

__all__ = ["MIN_SECRET", "Result", "Target", "judge_url", "post", "sign", "write_event"]

MIN_SECRET = 16
"""The shortest secret that is taken; in characters."""

_TIMEOUT_S = 10.0
_MAX_REPLY_BYTES = 64 * 1024
_MAX_BYTES = 64 * 1024  # of one event


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a delivery goes. Neither the secret nor the URL's path is ever logged."""

    url: str
    secret: str
    allow_private: bool

    def __repr__(self) -> str:
        return f"Target({urlsplit(self.url).hostname!r})"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a try went; `error` is None where it was delivered, and holds nothing that the other side said."""

    status: int | None
    duration_ms: float
    error: str | None = None


def judge_url(url: str, *, allow_private: bool) -> str | None:
    """Say what is wrong with a webhook's URL; None if nothing is. Its name is looked up at each try."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "has characters that belong percent-encoded"
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        return "must begin with https://"
    if not host or port == 0:
        return "names no host"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "may hold no user, password or fragment"
    if not allow_private and not is_public_host(host):
        return "leads to a private address"
    return None


def sign(secret: str, body: bytes, at: float | None = None) -> str:
    """Write `X-Raven-Signature`: HMAC-SHA256 with the secret over the time, a dot and the body."""
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def write_event(event: Event) -> bytes:
    """Write the body of a delivery: at most 64 KiB, then without its data."""
    shown = {
        "id": event.id,
        "type": event.type,
        "createdAt": datetime.fromtimestamp(int(event.at), UTC),
        "organizationId": event.organization_id,
        "data": event.data,
    }
    body = msgspec.json.encode(shown)
    return body if len(body) <= _MAX_BYTES else msgspec.json.encode(shown | {"data": {"isTooLarge": True}})


async def post(target: Target, delivery: str, topic: str, body: bytes) -> Result:
    """Try once. Anything but a 2xx within 10 s, at a public address and without a redirect, is an error."""
    headers = {
        "content-type": "application/json",
        "user-agent": "raven-proxy",
        "x-raven-signature": sign(target.secret, body),
        "x-raven-delivery": delivery,
        "x-raven-event": topic,
    }
    started_at = time.perf_counter()
    status, error = None, None
    try:
        reply = await send(
            "POST", target.url, headers=headers, body=body, max_bytes=_MAX_REPLY_BYTES, timeout_s=_TIMEOUT_S,
            allow_private=target.allow_private,
        )  # fmt: skip
        status = reply.status
        if not 200 <= status < 300:
            error = f"it answered {status}"
    except UpstreamError as failure:
        error = failure.message  # names the host, and nothing that it said
    except (GatewayError, OSError, ValueError) as failure:
        error = f"it cannot be called ({type(failure).__name__})"
    return Result(status=status, duration_ms=(time.perf_counter() - started_at) * 1000.0, error=error)
