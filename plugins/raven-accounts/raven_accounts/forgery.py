"""Requests that a foreign page makes with somebody's cookie: how they are told apart (T140).

Sans-IO: headers in, a refusal or nothing out. `Sec-Fetch-Site` is W3C Fetch Metadata; a page cannot set it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from urllib.parse import urlsplit

from raven_proxy import Forbidden

__all__ = ["SAFE_METHODS", "check_origin", "check_request"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})
_PORTS = {"http": 80, "https": 443}


def check_request(headers: Mapping[str, str], csrf_token: str, *, is_tls: bool) -> None:
    """Judge a request that changes something and came with a session cookie. Raises Forbidden.

    It takes an origin that is this host, the session's token, and JSON: a form cannot send these.
    """
    check_origin(headers, is_tls=is_tls, required=True)
    if not compare_digest(headers.get("x-csrf-token", "").encode(errors="replace"), csrf_token.encode()):
        raise Forbidden("The header X-CSRF-Token is missing or not this session's; /auth/me gives it.")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Forbidden("A session sends JSON only: Content-Type: application/json.")


def check_origin(headers: Mapping[str, str], *, is_tls: bool, required: bool) -> None:
    """Refuse what another origin's page sent (403). With `required` something must say whose it is."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OURS:
        raise _foreign()
    origin = headers.get("origin")
    if origin is None:
        if required and site is None:
            raise Forbidden(
                "A session needs the header Origin (or Sec-Fetch-Site) on what changes something."
            )
        return
    if not _is_ours(origin, headers.get("host", ""), is_tls=is_tls, is_vouched_for=site == "same-origin"):
        raise _foreign()


def _is_ours(origin: str, host: str, *, is_tls: bool, is_vouched_for: bool) -> bool:
    """Compare an origin with the request's host; where the browser vouches for it the port may be lost on
    the way, as it is behind a proxy that sends `Host` without it.
    """
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        ports = theirs.port, ours.port
    except ValueError:
        return False
    if theirs.scheme not in _PORTS or (is_tls and theirs.scheme != "https"):
        return False
    if not theirs.hostname or theirs.hostname != ours.hostname or theirs.path or theirs.query:
        return False
    default = _PORTS[theirs.scheme]
    return (is_vouched_for and ports[1] is None) or (ports[0] or default) == (ports[1] or default)


def _foreign() -> Forbidden:
    return Forbidden("This request comes from another site's page.")
