"""Cursor pagination of the `/v1` lists: `limit`, `after`, `before`.

A cursor is the id of an item that the caller has seen. Works on lists that are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InvalidRequest

__all__ = ["make_page"]

_MAX_LIMIT = 1000


def make_page(items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Make the list object that a request's query asks for; each item has an `id`.

    Without `limit` the page is the whole rest: clients of OpenAI's model list do not page. `has_more`
    is about the direction of the request. Raises InvalidRequest with `param`.
    """
    limit = _read_limit(query.get("limit"))
    start, stop = 0, len(items)
    if "after" in query:
        start = _place(items, query["after"], "after") + 1
    if "before" in query:
        stop = _place(items, query["before"], "before")
    chosen = items[start:stop]
    page = chosen
    if limit is not None:
        backwards = "before" in query and "after" not in query
        page = chosen[-limit:] if backwards else chosen[:limit]
    return {
        "object": "list",
        "data": page,
        "has_more": len(page) < len(chosen),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _read_limit(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_LIMIT:
        return int(text[:9])
    raise InvalidRequest(f"limit must be a whole number from 1 to {_MAX_LIMIT}.", param="limit")


def _place(items: Sequence[Mapping[str, Any]], cursor: str, param: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == cursor:
            return place
    raise InvalidRequest(f"{param}: there is no {cursor[:100]!r} in this list.", param=param)
