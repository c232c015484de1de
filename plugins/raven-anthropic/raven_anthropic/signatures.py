"""Other vendors' signatures in Anthropic's fields, so that they come back with the next request.

A client returns thinking as it got it. What another vendor signed is marked with whose it is, and is
sent to nobody else; Anthropic's own signatures are left as they are.
"""

from __future__ import annotations

from raven_proxy.hub import Reasoning

__all__ = ["is_foreign", "is_ours", "pack_call", "pack_reasoning", "unpack_call", "unpack_reasoning"]

_MARK = "raven"


def is_ours(part: Reasoning) -> bool:
    """Say whether Anthropic can read what is opaque in `part`."""
    return part.format == "anthropic"


def is_foreign(value: str) -> bool:
    """Say whether a signature or opaque data is marked as another vendor's."""
    return value.startswith(f"{_MARK}:")


def pack_reasoning(value: str, *, field: str, format: str | None, id: str | None) -> str:
    """Write a signature or opaque data ("signature", "data") for a client of Anthropic's."""
    if format == "anthropic":
        return value
    return ":".join((_MARK, format or "", field, id or "", value))


def unpack_reasoning(text: str, value: str, field: str) -> Reasoning:
    """Read what `pack_reasoning` wrote, or Anthropic's own `value` in `field`."""
    kind = "encrypted" if field == "data" else "text"
    pieces = value.split(":", 4)
    if len(pieces) == 5 and pieces[0] == _MARK and pieces[2] in ("signature", "data"):
        _, issuer, field, id_, value = pieces
        part = Reasoning(text=text, kind=kind, format=issuer or None, id=id_ or None)  # type: ignore[arg-type]
    else:
        part = Reasoning(text=text, kind=kind, format="anthropic")  # type: ignore[arg-type]
    if field == "data":
        part.data = value or None
    else:
        part.signature = value or None
    return part


def pack_call(call_id: str, signature: str, format: str) -> str:
    """Write a tool call's signature, as the data of a redacted block in front of the call."""
    return f"{_MARK}:{format}:call:{signature}:{call_id}"


def unpack_call(data: str, calls: dict[str, tuple[str, str]]) -> bool:
    """If `data` is what `pack_call` wrote, note (signature, format) under the call's id."""
    pieces = data.split(":", 4)
    if len(pieces) != 5 or pieces[0] != _MARK or pieces[2] != "call":
        return False
    calls[pieces[4]] = (pieces[3], pieces[1])  # an id may hold colons, a signature has none
    return True
