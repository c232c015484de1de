"""Whether a provider's reply is of the kind that its client is owed.

A page of a login, an empty answer, half a document: under a status of 200 they would pass for a success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .errors import UpstreamError, UpstreamTruncated

if TYPE_CHECKING:
    from .exchange import Exchange, ReplyHead

__all__ = [
    "check_json", "check_kind", "check_whole", "is_close_delimited", "is_collected", "is_json",
    "wants_document",
]  # fmt: skip

_PAGES = ("text/html", "application/xhtml", "text/xml", "application/xml")


def wants_document(exchange: Exchange) -> bool:
    """Say whether the client is owed one JSON document: a whole reply in a dialect that is known here."""
    face = exchange.face
    is_known = face.dialect.client_side is not None or face.dialect.provider_side is not None
    return is_known and not exchange.stream and not face.opaque and exchange.request.method != "HEAD"


def is_collected(exchange: Exchange) -> bool:
    """Say whether a provider's reply is sent when it is all here: JSON that is no stream itself, and
    whatever a plugin wants to see whole. `check_reply` then judges it.
    """
    if exchange.collects:
        return True
    is_whole = is_json(exchange.content_type) or wants_document(exchange)
    return is_whole and not (exchange.stream and exchange.face.streams_json)


def check_kind(exchange: Exchange, head: ReplyHead) -> None:
    """Refuse a page of a proxy or a login under a status of 200, and an answer without any body (502)."""
    dialect = exchange.face.dialect
    if exchange.face.opaque or (dialect.client_side is None and dialect.provider_side is None):
        return
    kind = head.headers.get("content-type", "").lower()
    if kind.startswith(_PAGES):
        raise UpstreamError(f"The provider answered with {kind.partition(';')[0]}, not with a reply.")
    if head.status in (204, 304) and wants_document(exchange):
        raise UpstreamError(f"The provider answered {head.status} without a reply.")


def check_json(body: bytes) -> None:
    """Refuse what is not one JSON document (502)."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        raise UpstreamTruncated("The provider's reply is not a whole document.") from None


def is_json(content_type: str) -> bool:
    """Say whether it is one JSON document; JSON lines (`application/jsonl`) are not."""
    return content_type.startswith("application/json") and content_type[16:17] in {"", ";", " "}


def is_close_delimited(head: ReplyHead) -> bool:
    """Say whether nothing but the connection's end tells where the body ends (RFC 9112 section 6.3)."""
    return "content-length" not in head.headers and "chunked" not in head.headers.get("transfer-encoding", "")


def check_whole(body: bytes, head: ReplyHead) -> None:
    """A body that ends where the connection ends may have lost its tail: JSON must parse (else 502)."""
    if body and is_json(head.headers.get("content-type", "")):
        check_json(body)
