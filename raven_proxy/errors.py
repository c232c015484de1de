"""The errors of the gateway and the one envelope they are rendered in.

Responsible for the tree below and for its rendering (README, "Replies and errors", has the words). What a
dialect other than OpenAI's makes of an error is that dialect's own affair (`faces.Dialect`).

    GatewayError
    ├── Refused                 the caller's doing; what a gate raises
    │   ├── InvalidRequest      400
    │   ├── Unauthenticated     401
    │   ├── Forbidden           403
    │   ├── NotFound            404
    │   ├── PayloadTooLarge     413
    │   ├── RateLimited         429, always with Retry-After
    │   └── Overloaded          503, the gateway's own cap or drain
    ├── UpstreamError           502, the provider's doing
    │   ├── UpstreamRefused     the provider's own status, passed on
    │   ├── UpstreamTimeout     504
    │   ├── UpstreamTruncated   a reply that broke off
    │   └── NoActiveKey         503, no usable provider key
    ├── PluginFailed            500, a plugin raised or hung: fails closed
    └── ConfigError             start-up and reload only, never rendered
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

__all__ = [
    "PLUGIN_FAULTS",
    "ConfigError",
    "Forbidden",
    "GatewayError",
    "InvalidRequest",
    "NoActiveKey",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "PluginFailed",
    "RateLimited",
    "Refused",
    "Unauthenticated",
    "UpstreamError",
    "UpstreamRefused",
    "UpstreamTimeout",
    "UpstreamTruncated",
    "default_code",
    "default_type",
    "envelope",
    "forget_frames",
]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "internal_error",
}
_CODES = {
    400: "bad_request",
    401: "invalid_api_key",
    402: "insufficient_balance",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "service_unavailable",
    504: "upstream_timeout",
}


def default_type(status: int) -> str:
    """Name the error type of an HTTP status."""
    return _TYPES.get(status, "upstream_error" if status > 500 else "invalid_request_error")


def default_code(status: int) -> str:
    """Name the error code of an HTTP status where nothing more precise is known."""
    return _CODES.get(status, "upstream_error" if status > 500 else "bad_request")


class GatewayError(Exception):
    """Anything that becomes an error reply.

    `status` is the HTTP status; `code` and `type` are words for programs (README, "Replies and errors"), and
    follow from it where they are left out; a plugin may have codes of its own. `param` names the offending
    field as the client wrote it (`messages[0].role`); `message` and `metadata` go to the client, so they must
    hold no secret; `headers` are added to the reply.
    """

    status: int = 500
    code: str | None = None
    type: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        metadata: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code or default_code(self.status)
        self.type = type or self.type or default_type(self.status)
        self.param = param
        self.metadata = metadata
        self.headers = headers or {}


class Refused(GatewayError):
    """The request is not served, and the caller can know why.

    Example: `raise Refused("This key may not call o3.", status=403, code="model_not_allowed")`.
    """

    status = 403


class InvalidRequest(Refused):
    """400: the request itself is wrong; `param` says where."""

    status = 400


class Unauthenticated(Refused):
    """401: no key, or not a valid one. The message never says which part was wrong."""

    status = 401

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **fields)
        # RFC 9110 section 11.6.1: a 401 names a scheme that would do.
        self.headers.setdefault("WWW-Authenticate", 'Bearer realm="raven-proxy"')


class Forbidden(Refused):
    """403: a valid key that may not do this."""

    status = 403


class NotFound(Refused):
    """404: no such thing, or not yours."""

    status = 404


class PayloadTooLarge(Refused):
    """413: a body over `max_body_bytes`."""

    status = 413


class RateLimited(Refused):
    """429: a limit was reached. `retry_after_s` is rounded up to whole seconds, at least 1."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: float, code: str = "rate_limit_exceeded") -> None:
        seconds = max(1, -int(-retry_after_s // 1))
        super().__init__(message, code=code, headers={"Retry-After": str(seconds)})


class Overloaded(Refused):
    """503: the gateway is at its own cap, or draining; nothing was sent upstream."""

    status = 503
    type = "upstream_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class UpstreamError(GatewayError):
    """502: the provider could not be reached or answered with something unusable.

    `retryable` says whether the same request may be tried on another candidate.
    """

    status = 502
    code = "upstream_error"
    type = "upstream_error"
    retryable = True


class UpstreamRefused(UpstreamError):
    """The provider answered with an error status; see `providers.read_refusal` for the mapping."""

    def __init__(self, message: str, *, retryable: bool, **fields: Any) -> None:
        status = fields["status"]
        # A provider's 500 is its failure, not the gateway's.
        fields.setdefault("type", default_type(status) if status < 500 else "upstream_error")
        super().__init__(message, **fields)
        self.retryable = retryable


class UpstreamTimeout(UpstreamError):
    """504: the provider was silent for longer than a configured limit."""

    status = 504
    code = "upstream_timeout"


class UpstreamTruncated(UpstreamError):
    """502: the provider's reply broke off before its end."""


class NoActiveKey(UpstreamError):
    """503: no usable provider key for this model."""

    status = 503
    code = "no_active_api_keys"


class PluginFailed(GatewayError):
    """500: a plugin raised or ran out of time at a gate. The client learns nothing of the inside."""

    def __init__(self, plugin: str, hook: str) -> None:
        super().__init__("The gateway could not process this request.")
        self.plugin = plugin
        self.hook = hook


PLUGIN_FAULTS = (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt)
"""What a plugin may raise without taking the gateway along: `sys.exit()` in a hook ends a request only.

A real Ctrl-C is a signal that the loop handles: a KeyboardInterrupt inside a hook is the plugin's own.
"""


class ConfigError(Exception):
    """A config file, plugin or secret is wrong; the message names file, place and remedy in one line."""


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that an error came through, and of all that their variables hold.

    An exchange that keeps its error would be kept by it, with its bodies, until the collector comes.
    """
    seen: BaseException | None = error
    while seen is not None and (seen.__traceback__ is not None or seen is error):
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__


def envelope(error: GatewayError, request_id: str) -> bytes:
    """Render an error as one JSON document: OpenAI's object, with `status`, `request_id` and `metadata`."""
    inner: dict[str, Any] = {
        "type": error.type,
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "status": error.status,
        "request_id": request_id,
    }
    if error.metadata:
        inner["metadata"] = error.metadata
    return msgspec.json.encode({"error": inner})
