"""What replies about stored things tell: new ids and their owner, ids that are gone, lists of everybody's.

Objects pass untouched and are read in a copy. A list shows only what the organisation owns, or nothing
at all if it cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from raven_proxy.errors import UpstreamError
from raven_proxy.exchange import Exchange
from raven_proxy.faces import Stage

from .batches import BatchWatch
from .ownership import Ownership
from .routing import NOTE, Placed

__all__ = ["ListFilter", "ObjectReader", "open_stage"]

Look = Callable[[Any], None]
"""Is shown each batch that passes."""

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_MOST = 1024 * 1024  # bytes of one object; what is longer is none


class _Object(msgspec.Struct):
    """A file, an upload or a batch, as far as it names others."""

    id: Any = None
    output_file_id: Any = None
    error_file_id: Any = None
    file: Any = None
    deleted: Any = None
    status: Any = None  # a batch's, as what follows
    model: Any = None
    usage: Any = None


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def open_stage(exchange: Exchange, ownership: Ownership, batches: BatchWatch) -> Stage | None:
    """Give the stage for a reply about stored things; None for every other."""
    placed = exchange.notes.get(NOTE)
    candidate = exchange.candidate
    if not isinstance(placed, Placed) or candidate is None or exchange.request.method == "HEAD":
        return None
    look: Look | None = None
    if placed.place.kind == "batch":
        look = partial(batches.look, exchange)
    if placed.owned is not None:
        return ListFilter(placed, ownership, candidate.upstream.name, look)
    if placed.place.action == "content":
        return None
    return ObjectReader(placed, ownership, candidate.upstream.name, look)


class ObjectReader:
    """Notes the owner of what was made, and forgets what was deleted, before the reply goes out."""

    __slots__ = ("_look", "_ownership", "_parts", "_placed", "_size", "_upstream")

    def __init__(self, placed: Placed, ownership: Ownership, upstream: str, look: Look | None) -> None:
        self._look = look
        self._placed = placed
        self._ownership = ownership
        self._upstream = upstream
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Keep a copy; the bytes go on."""
        self._size += len(data)
        if self._size <= _MOST:
            self._parts.append(data)
        return data

    def close(self) -> bytes:
        """Read the object; one that cannot be read changes nothing."""
        place, method = self._placed.place, self._placed.method
        try:
            found = _decode_object(b"".join(self._parts) if self._size <= _MOST else b"")
        except _UNREADABLE:
            found = _Object()
        if method == "DELETE":
            if place.id and not place.action and found.deleted is not False:
                self._ownership.forget(place.kind, place.id)
            return b""
        if not place.id and isinstance(found.id, str):
            self._note(place.kind, found.id)
        _note_files(found, self._note)
        if self._look is not None:
            self._look(found)
        return b""

    def _note(self, kind: str, id: str) -> None:
        self._ownership.note(kind, id, self._upstream, self._placed.organization_id)


class ListFilter:
    """Takes out of a list what the organisation does not own."""

    __slots__ = ("_look", "_ownership", "_parts", "_placed", "_upstream")

    def __init__(self, placed: Placed, ownership: Ownership, upstream: str, look: Look | None) -> None:
        self._look = look
        self._placed = placed
        self._ownership = ownership
        self._upstream = upstream
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Hold everything back."""
        self._parts.append(data)
        return b""

    def close(self) -> bytes:
        """Give the list. Raises UpstreamError if it cannot be read: nothing passes unseen."""
        body = b"".join(self._parts)
        if not body:
            return b""
        try:
            members = _decode_members(body)
            every = [(item, _decode_object(item)) for item in _decode_list(members["data"])]
        except (*_UNREADABLE, KeyError):
            raise UpstreamError("The provider's list cannot be read.") from None
        owned = self._placed.owned or frozenset()
        kept = [(item, found) for item, found in every if isinstance(found.id, str) and found.id in owned]
        shown = kept[: self._placed.limit] if self._placed.limit is not None else kept
        for _, found in shown:
            _note_files(found, self._note)
            if self._look is not None:
                self._look(found)
        return body if len(shown) == len(every) else _rewrite(members, shown, is_cut=len(shown) < len(kept))

    def _note(self, kind: str, id: str) -> None:
        self._ownership.note(kind, id, self._upstream, self._placed.organization_id)


def _note_files(found: _Object, note: Any) -> None:
    """Note the files that a batch or an upload made."""
    inner = found.file.get("id") if isinstance(found.file, dict) else None
    for its_id in (found.output_file_id, found.error_file_id, inner):
        if isinstance(its_id, str):
            note("file", its_id)


def _rewrite(
    members: dict[str, msgspec.Raw], shown: list[tuple[msgspec.Raw, _Object]], *, is_cut: bool
) -> bytes:
    """Write the list anew. An empty one has no cursor to go on from, so it says that there is no more."""
    has_more = is_cut or members.get("has_more", b"false") == msgspec.Raw(b"true")
    members["data"] = msgspec.Raw(b"[" + b",".join([bytes(item) for item, _ in shown]) + b"]")
    members["has_more"] = _raw(bool(has_more and shown))
    for name, index in (("first_id", 0), ("last_id", -1)):
        if name in members:
            members[name] = _raw(shown[index][1].id if shown else None)
    for name in ("total", "total_count"):
        members.pop(name, None)  # Mistral counts everybody's
    return msgspec.json.encode(members)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
