"""A vendor's list of its models: `GET /models`, page by page.

Shape: Anthropic's API reference, models-list; vendors that have OpenAI's list instead say less of each.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

import msgspec

from raven_proxy.providers import ModelInfo

__all__ = ["read_listing", "write_target"]

_PAGE = 1000  # models, the most that Anthropic gives


class _Model(msgspec.Struct):
    id: str
    display_name: str | None = None
    created_at: datetime | None = None
    created: float | None = None
    owned_by: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class _Page(msgspec.Struct):
    data: list[_Model]
    has_more: bool | None = None
    last_id: str | None = None


_decode = msgspec.json.Decoder(_Page).decode


def write_target(base: str, page: str | None) -> str:
    """Write path and query of the list's first page, or of the one behind the model `page`."""
    query = {"limit": str(_PAGE), **({"after_id": page} if page is not None else {})}
    return f"{base}/models?{urlencode(query)}"


def read_listing(body: bytes, owner: str) -> tuple[list[ModelInfo], str | None]:
    """Read one page and the word for the next. Raises ValueError for what is no list."""
    page = _decode(body)
    models = [
        ModelInfo(
            id=one.id,
            created=int(one.created_at.timestamp()) if one.created_at is not None else int(one.created or 0),
            owned_by=one.owned_by or owner,
            display_name=one.display_name or "",
            context_window=one.max_input_tokens,
            max_tokens=one.max_tokens,
        )
        for one in page.data
    ]
    return models, page.last_id if page.has_more else None
