"""Take a request in: protocol checks, headers, and a body that cannot stall or swell.

Everything here happens before or around authentication and judges only HTTP, not meaning.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestPayloadError

from .config import Config
from .errors import GatewayError, InvalidRequest, PayloadTooLarge
from .exchange import Exchange

if TYPE_CHECKING:
    from .server import ClientConnection

__all__ = ["check_protocol", "read_body", "require_json"]

_CHARSET = re.compile(r';\s*charset="?([^";\s]+)', re.IGNORECASE)
_MIN_BYTES_PER_S = 4096  # a sender slower than this over its whole body is stalling


def check_protocol(request: BaseRequest, headers: dict[str, str]) -> None:
    """Refuse what HTTP/1 readers disagree about (RFC 9112 sections 2.3 and 6.1)."""
    version = request.version
    if version != (1, 1) and version != (1, 0):
        raise GatewayError(
            "Speak HTTP/1.1 or HTTP/1.0.", status=505, code="bad_request", type="invalid_request_error"
        )
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if version == (1, 0):
            raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.strip().lower() != "chunked":
            raise GatewayError(
                "Only the chunked transfer coding is understood.",
                status=501,
                code="bad_request",
                type="invalid_request_error",
            )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body without Content-Encoding.", param="Content-Encoding")


def require_json(headers: dict[str, str]) -> None:
    """Refuse a JSON face's body under another content type."""
    kind = headers.get("content-type", "")
    if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest("Send Content-Type: application/json.", param="Content-Type")
    charset = _CHARSET.search(kind) if ";" in kind else None
    if charset is not None and charset[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise InvalidRequest("JSON is UTF-8 (RFC 8259): send no other charset.", param="Content-Type")


async def read_body(exchange: Exchange, config: Config) -> bytes:
    """Read the whole body within `max_body_bytes`, `body_timeout_s` per pause, and a least rate.

    Raises PayloadTooLarge (413) before more than the limit is in memory, InvalidRequest for a body
    that breaks off, GatewayError 408 for one that stalls.
    """
    request = exchange.request
    content = request.content
    limit = config.max_body_bytes
    declared = exchange.headers.get("content-length")
    if declared is not None and int(declared) > limit:
        raise _too_large(limit)
    if content.is_eof() and content.exception() is None:  # the usual case: it came with the head
        body = cast("ClientConnection", request.protocol).take(content)
        if len(body) > limit:
            raise _too_large(limit)
        return body
    _continue(exchange)
    return await _read_slowly(exchange, limit, config.body_timeout_s)


async def _read_slowly(exchange: Exchange, limit: int, pause_s: float) -> bytes:
    content = exchange.request.content
    loop = asyncio.get_running_loop()
    began = loop.time()
    parts: list[bytes] = []
    size = 0
    try:
        while not content.at_eof():
            ceiling = began + pause_s + size / _MIN_BYTES_PER_S
            async with asyncio.timeout_at(min(loop.time() + pause_s, ceiling)):
                data = await content.readany()
            size += len(data)
            if size > limit:
                raise _too_large(limit)
            parts.append(data)
    except TimeoutError:
        raise GatewayError(
            "The body came too slowly.", status=408, code="bad_request", type="invalid_request_error"
        ) from None
    except (RequestPayloadError, HttpProcessingError):
        raise InvalidRequest("The body is not valid HTTP.") from None
    return b"".join(parts)


def _continue(exchange: Exchange) -> None:
    expect = exchange.headers.get("expect")
    if expect is None:
        return
    if expect.lower() != "100-continue":
        raise GatewayError(
            "Only 100-continue can be expected.", status=417, code="bad_request", type="invalid_request_error"
        )
    if exchange.request.version >= (1, 1):
        client = cast("ClientConnection", exchange.request.protocol)
        client.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is over {limit} bytes (max_body_bytes).")
