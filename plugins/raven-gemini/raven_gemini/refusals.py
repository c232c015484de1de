"""Google's error replies: a `google.rpc.Status`, alone or in an array, whatever the content type says."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from raven_proxy.errors import UpstreamRefused
from raven_proxy.exchange import ReplyHead
from raven_proxy.refusals import VendorError, refuse

from .wire import Problem

__all__ = ["refuse_google"]

_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_BAD_KEYS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"})


class _Wrapped(msgspec.Struct):
    error: Problem | None = None


def refuse_google(upstream: str, head: ReplyHead, body: bytes, secret: str) -> UpstreamRefused:
    """Render an error reply. A bad key is Google's 400 and counts as a 401; its wait is our Retry-After."""
    problem = _read(body)
    if problem is None:
        return refuse(upstream, head, body, secret)
    details = [row for row in problem.details or () if isinstance(row, dict)] if _is_list(problem) else []
    reasons = {row.get("reason") for row in details if isinstance(row.get("reason"), str)}
    wait = next((found for row in details if (found := _wait(row)) is not None), None)
    if wait is not None and "retry-after" not in head.headers:
        head = ReplyHead(head.status, {**head.headers, "retry-after": str(wait)})
    theirs = VendorError(problem.message or "", problem.status)
    status = 401 if reasons & _BAD_KEYS else None
    return refuse(upstream, head, body, secret, status=status, theirs=theirs)


def _read(body: bytes) -> Problem | None:
    try:
        if body.lstrip()[:1] == b"[":
            wrapped = next(iter(msgspec.json.decode(body, type=list[_Wrapped])), _Wrapped())
        else:
            wrapped = msgspec.json.decode(body, type=_Wrapped)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return wrapped.error


def _is_list(problem: Problem) -> bool:
    return isinstance(problem.details, list)


def _wait(row: dict[str, Any]) -> int | None:
    """Give whole seconds of a `RetryInfo` ("34s", "48.9s")."""
    match = _SECONDS.fullmatch(str(row.get("retryDelay", "")))
    return max(1, math.ceil(float(match[1]))) if match else None
