"""Making the client's error of a vendor's error reply, with nothing secret in it.

Statuses stay, except that a vendor's 401 or 403 is a 502: the key it refused was the
gateway's, not the caller's. What the vendor said is kept under `metadata`.
"""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from .errors import UpstreamRefused, default_code
from .exchange import Exchange, ReplyHead
from .hub.replies import Failed

__all__ = ["VendorError", "describe", "read_error", "refuse", "refuse_event", "scrub"]

_MOST = 2048  # characters of a vendor's message
_RETRYABLE = frozenset({401, 402, 403, 408, 409, 425, 429})
_MESSAGES = ("message", "detail", "details", "msg", "error_msg", "title")  # where vendors put their words
_ALWAYS_WAITS = frozenset({429, 529})
# xAI and Google say 400 of a key that is wrong.
_BAD_KEY = re.compile(r"(?i)\b(?:incorrect|invalid) (?:x-)?api[- ]?key\b|\bapi key not valid\b")
_REQUEST_IDS = (
    "x-request-id",
    "request-id",
    "x-inference-request-id",
    "mistral-correlation-id",
    "x-ds-trace-id",
    "apim-request-id",
    "x-amzn-requestid",
    "cf-ray",
)
# Every repetition that may fail late is bounded, so the cost stays linear.
_SECRETS = re.compile(
    r"""(?ix)
    \b(?:bearer|basic)\s+[^\s"'<>,;]{6,}                          # a header's value
  | \b(?:sk|pk|rk|gsk|xai|pplx|nvapi|csk|fpk|tgp|sess|glpat)[-_][a-z0-9_*-]{6,}
  | \b(?:hf|fw|r8|ghp|gho|ghs|github_pat)_[a-z0-9_]{12,}
  | \b(?:AIza|AKIA|ASIA)[a-z0-9_-]{12,}
  | \b(?:api[-_]?key|x-api-key|key|token|access[-_]token|secret|password|signature|sig)=[^\s&"'<>]+
  | \beyJ[a-z0-9_-]{8,1024}\.[a-z0-9_.-]+                        # a JSON web token
  | [\w.<-]{0,64}\*{3,}[\w.>*-]*                                # a key that the vendor masked itself
  | \b(?:org|proj|user)[-_](?=[a-z]{0,32}\d)[a-z0-9]{8,}         # the account behind the key
    """
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_INVISIBLE = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>")


class VendorError(msgspec.Struct):
    """What a vendor said of an error, as far as it could be found. Nothing is scrubbed yet."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None


def refuse(
    upstream: str,
    head: ReplyHead,
    body: bytes,
    secret: str = "",
    *,
    status: int | None = None,
    theirs: VendorError | None = None,
) -> UpstreamRefused:
    """Render an error reply (status ≥ 400). `secret` is the credential that was sent.

    Works on any bytes: HTML, text, nothing at all. A vendor package that knows better gives the
    `status` that was meant, or what the body says (`theirs`).
    """
    theirs = theirs or read_error(body)
    status = status or (401 if head.status == 400 and _BAD_KEY.search(theirs.message) else head.status)
    message = _clean(theirs.message, secret)
    said = message or _clean(_plain(body), secret)
    message = message or f"The provider answered with status {status}."
    is_ours = status in {401, 403}
    ours = 502 if is_ours else status
    code = "upstream_error" if is_ours or status == 500 else default_code(status)
    param = None
    if not is_ours and status < 500:
        code = _code(theirs.code, status, secret) or code
        param = _clean(theirs.param or "", secret)[:256] or None
    return UpstreamRefused(
        f"The provider did not accept the gateway's request: {message}" if is_ours else message,
        status=ours,
        code=code,
        param=param,
        metadata=_metadata(upstream, head, theirs, said, secret),
        headers=_headers(head, ours),
        retryable=status in _RETRYABLE or status >= 500,
    )


def refuse_event(exchange: Exchange, failure: Failed) -> UpstreamRefused:
    """Render an error that a vendor reported inside a stream; 502 where it says no status."""
    credential, candidate = exchange.credential, exchange.candidate
    secret = credential.value if credential is not None else ""
    upstream = candidate.upstream.name if candidate is not None else "the provider"
    headers = exchange.head.headers if exchange.head is not None else {}
    theirs = VendorError(failure.message, failure.type, failure.code)
    status = failure.status if failure.status is not None and failure.status >= 400 else 502
    return refuse(upstream, ReplyHead(status, headers), failure.message.encode(), secret, theirs=theirs)


def read_error(body: bytes) -> VendorError:
    """Find a vendor's words in a JSON error body, whichever of the known shapes it has.

    Gives an empty message for anything else. Never raises.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return VendorError()
    return describe(document)


def describe(document: Any) -> VendorError:
    """Find a vendor's words in a decoded error, as `read_error` does."""
    if isinstance(document, list):  # Gemini
        document = document[0] if document else None
    if not isinstance(document, dict):
        return VendorError(document if isinstance(document, str) else "")
    inner = document.get("error")
    if isinstance(inner, str):  # xAI, Ollama
        return VendorError(inner, _text(document.get("type")), _text(document.get("code")))
    source = inner if isinstance(inner, dict) else document  # flat: Mistral, vLLM, FastAPI
    message, param = _message(source)
    return VendorError(
        _with_cause(message, source),
        _text(source.get("type")),
        _text(source.get("code")),
        _text(source.get("param")) or param,
    )


def scrub(text: str, secret: str = "") -> str:
    """Take out the credential, anything that looks like one, and control characters."""
    if len(secret) >= 4:
        text = text.replace(secret, "[redacted]")
    return _CONTROL.sub(" ", _SECRETS.sub("[redacted]", text))


def _clean(text: str, secret: str) -> str:
    # Scrub first: a secret cut in two is not recognised.
    clean = scrub(text[: 8 * _MOST], secret).strip()
    return clean if len(clean) <= _MOST else clean[: _MOST - 1] + "…"


def _message(source: dict[str, Any]) -> tuple[str, str | None]:
    """Give the message, and the field that a FastAPI validation error names."""
    found: Any = source
    while isinstance(found, dict):  # a loop: a body can be nested deeper than calls can
        found = next((told for name in _MESSAGES if _tells(told := found.get(name))), "")
    if isinstance(found, str):
        return found, None
    place = found[0].get("loc")
    names = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    param = ".".join(names) or None
    return f"{param}: {found[0]['msg']}" if param else str(found[0]["msg"]), param


def _tells(found: Any) -> bool:
    """Say whether a value is a message, holds one, or is FastAPI's list of what is wrong."""
    if isinstance(found, list):
        return bool(found) and isinstance(found[0], dict) and "msg" in found[0]
    return isinstance(found, dict) or (isinstance(found, str) and bool(found))


def _with_cause(message: str, source: dict[str, Any]) -> str:
    """Add what the vendor behind a gateway said (OpenRouter's `metadata.raw`, text or JSON)."""
    metadata = source.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str) or not raw.strip() or not message:
        return message
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        document = None
    source = document if isinstance(document, dict) else {}
    inner = source.get("error")
    cause = _message(inner if isinstance(inner, dict) else source)[0] or _plain(raw.encode())
    return message if cause in message else f"{message}: {cause}"


def _plain(body: bytes) -> str:
    text = body[: 4 * _MOST].decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        text = _INVISIBLE.sub(" ", text)
    return " ".join(text.split())


def _text(value: Any) -> str | None:
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int and abs(value) < 10**9 else None


def _code(code: str | None, status: int, secret: str) -> str | None:
    # Many vendors repeat the status as their code; the gateway's own word says more.
    if code is None or code == str(status) or not _CODE.fullmatch(code) or scrub(code, secret) != code:
        return None
    return code


def _metadata(upstream: str, head: ReplyHead, theirs: VendorError, said: str, secret: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"provider": upstream, "status": head.status}
    for name in _REQUEST_IDS:
        value = head.headers.get(name, "")
        if _REQUEST_ID.fullmatch(value):
            metadata["request_id"] = scrub(value, secret)
            break
    for name, text in (("message", said), ("type", theirs.type), ("code", theirs.code)):
        if text:
            metadata[name] = text if name == "message" else _clean(text, secret)[:256]
    return metadata


def _headers(head: ReplyHead, status: int) -> dict[str, str]:
    wait = head.headers.get("retry-after", "").strip()
    try:
        seconds = float(wait)
    except ValueError:
        try:
            parsedate_to_datetime(wait)
        except (ValueError, OverflowError):
            wait = ""
    else:
        wait = str(max(1, math.ceil(seconds))) if 0 <= seconds < 10**9 else ""
    if status in _ALWAYS_WAITS:
        return {"Retry-After": wait or "1"}
    return {"Retry-After": wait} if wait else {}
