"""Reasoning that passes through a Responses client and comes back: what its `encrypted_content` holds.

OpenAI's own goes as it is. Other families' signatures and opaque data, and the kind of thinking that the
text was, are wrapped with the family's name: the client sends the item back, and whoever issued the
signature gets it again, and nobody else does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import Reasoning

from .asked import Item

__all__ = ["belongs_to", "name_of", "read_reasoning", "wrap"]

_MARK = "raven1."
_FAMILIES = frozenset({"", "anthropic", "google", "openai", "bedrock"})


class _Wrapped(msgspec.Struct, array_like=True):
    format: str
    kind: str
    signature: str | None = None
    data: str | None = None


_read_wrapped = msgspec.json.Decoder(_Wrapped).decode


def wrap(part: Reasoning) -> str | None:
    """Give the `encrypted_content` of a reasoning item; None where there is nothing to carry."""
    if part.format == "openai":
        return part.data or part.signature
    if part.kind == "summary" and part.signature is None and part.data is None:
        return None
    packed = msgspec.json.encode(_Wrapped(part.format or "", part.kind, part.signature, part.data))
    return _MARK + base64.urlsafe_b64encode(packed).decode()


def belongs_to(part: Reasoning, before: Reasoning) -> bool:
    """Say whether two thoughts in a row are one item: OpenAI names its items, and seals each as a whole."""
    return part.id is not None and part.id == before.id and {part.format, before.format} <= {"openai", None}


def name_of(part: Reasoning) -> str | None:
    """Give the name that OpenAI gave to a reasoning item; None for thoughts of others."""
    return part.id if part.format == "openai" and (part.id or "").startswith("rs_") else None


def read_reasoning(item: Item, where: str) -> list[Reasoning]:
    """Read a reasoning item that a client sends back. Raises InvalidRequest naming `where`."""
    sealed = item.encrypted_content
    if sealed is not None and sealed.startswith(_MARK):
        return [_unwrap(sealed, item, where)]
    parts = [
        Reasoning(text=one.text or "", kind="summary", format="openai", id=item.id)
        for one in item.summary or ()
        if one.text
    ]
    parts += [
        Reasoning(text=one.text or "", id=item.id)
        for one in (item.content if isinstance(item.content, list) else ())
        if one.text
    ]
    if sealed:
        if not parts:
            parts.append(Reasoning(kind="encrypted", id=item.id))
        # All of an item's parts are one thought; its sealed form belongs to the last.
        parts[-1].data, parts[-1].format = sealed, "openai"
    return parts


def _unwrap(sealed: str, item: Item, where: str) -> Reasoning:
    try:
        packed = base64.urlsafe_b64decode(sealed[len(_MARK) :])
        found = _read_wrapped(packed)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        found = None
    if found is None or found.format not in _FAMILIES or found.kind not in ("text", "summary", "encrypted"):
        raise InvalidRequest(
            f"{where}.encrypted_content: it is damaged; send the item back as it came, or leave it out.",
            param=f"{where}.encrypted_content",
        )
    text = _join(one.text for one in item.summary or ())
    return Reasoning(
        text=text,
        kind=found.kind,  # type: ignore[arg-type]
        signature=found.signature,
        data=found.data,
        format=found.format or None,
    )


def _join(texts: Iterable[str | None]) -> str:
    return "".join([text for text in texts if text])
