"""Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`.

Types follow the status (https://docs.claude.com/en/api/errors), whatever vendor the error came from,
because clients decide by them. `param` and `metadata` stand beside `message` where there are any.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from raven_proxy.errors import GatewayError
from raven_proxy.refusals import VendorError, read_error

__all__ = ["read_refusal", "render_error", "render_stream_error", "status_of", "type_of"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES = {word: status for status, word in _TYPES.items() if status != 503}
# "messages.0.content: Field required": where the fault is stands before the colon.
_PLACE = re.compile(r"((?:max_tokens|messages|metadata|model|output_config|stop_sequences|stream|system|"
                    r"temperature|thinking|tool_choice|tools|top_k|top_p)(?:\.[\w-]+){0,16}):\s")  # fmt: skip


def type_of(status: int) -> str:
    """Name Anthropic's error type of an HTTP status."""
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def status_of(type: str | None) -> int | None:
    """Give the HTTP status that an error of this type would have had outside a stream."""
    return _STATUSES.get(type or "")


def render_error(error: GatewayError, request_id: str) -> bytes:
    """Render a whole error reply."""
    inner: dict[str, Any] = {"type": type_of(error.status), "message": error.message}
    if error.param is not None:
        inner["param"] = error.param
    if error.metadata:
        inner["metadata"] = error.metadata
    return msgspec.json.encode({"type": "error", "error": inner, "request_id": request_id})


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """Render an error as the last event of a stream; no `message_stop` follows it."""
    return b"event: error\ndata: " + render_error(error, request_id) + b"\n\n"


def read_refusal(body: bytes) -> VendorError:
    """Find what the vendor said, and the field it names."""
    theirs = read_error(body)
    place = _PLACE.match(theirs.message)
    if place is not None and theirs.param is None:
        theirs.param = place[1]
    return theirs
