"""What a path under a vendor's base URL addresses: a kind of stored thing, one of them, what is done to it.

The same reading serves the gateway's own paths and raw ones, which may be written in more ways: with
percent-encoding, another case, or the prefixes of Azure and of base URLs without `/v1`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from raven_proxy.exchange import Exchange

__all__ = ["Place", "place_of", "read_place"]

_KINDS = {"files": "file", "uploads": "upload", "batches": "batch"}
_PATH = re.compile(r"(?:(?:openai|v\d+)/)*(files|uploads|batches)(?:/([^/]+)(?:/(.+))?)?", re.IGNORECASE)


class Place(msgspec.Struct, frozen=True):
    """`kind` is "file", "upload" or "batch". Without an `id` it is all of them, or a new one.

    `action` is the word after the id: "content", "cancel", "parts", "complete", or "".
    """

    kind: str
    id: str = ""
    action: str = ""


def read_place(endpoint: str) -> Place | None:
    """Read a path under a base URL, without its query; None if it addresses nothing that is stored."""
    match = _PATH.fullmatch(unquote(endpoint).strip("/"))
    if match is None:
        return None
    return Place(_KINDS[match[1].lower()], match[2] or "", (match[3] or "").lower())


def place_of(exchange: Exchange) -> Place | None:
    """Read what a request addresses, on a raw path or on the gateway's own."""
    face = exchange.face
    return read_place(exchange.params["endpoint"] if face.raw else face.endpoint.format_map(exchange.params))
