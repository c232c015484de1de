"""The list of AI Studio's models (`GET /models`), as the core's `discovery` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from raven_proxy.exchange import Outgoing
from raven_proxy.providers import ModelInfo
from raven_proxy.upstream import Upstream

__all__ = ["read_listing", "write_listing"]


class _Model(msgspec.Struct, rename="camel"):
    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None


class _Page(msgspec.Struct, rename="camel"):
    models: list[_Model] = []
    next_page_token: str | None = None


def write_listing(upstream: Upstream, page: str | None) -> Outgoing:
    """Ask for a page."""
    query = urlencode({"pageSize": "1000", **({"pageToken": page} if page else {})})
    headers = {"x-goog-api-key": upstream.credential.value} if upstream.credential is not None else {}
    return Outgoing("GET", f"{upstream.base_path}/models?{query}", headers, b"")


def read_listing(body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
    """Read a page. Raises ValueError and msgspec's errors."""
    found = msgspec.json.decode(body, type=_Page)
    models = [
        ModelInfo(
            id=model.name.removeprefix("models/"),
            owned_by="google",
            display_name=model.display_name,
            context_window=model.input_token_limit,
            max_tokens=model.output_token_limit,
        )
        for model in found.models
    ]
    return models, found.next_page_token or None
