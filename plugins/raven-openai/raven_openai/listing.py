"""The vendor's list of its models: `GET {base}/models`, in OpenAI's shape or a lookalike's.

Lookalikes add what OpenAI does not say: `context_window` (Groq), `context_length` (OpenRouter, Together),
`max_context_length` (Mistral), `max_model_len` (vLLM). Together sends the bare array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from raven_proxy.exchange import Outgoing
from raven_proxy.providers import ModelInfo
from raven_proxy.upstream import Upstream

__all__ = ["build_listing", "read_listing"]

_WINDOWS = ("context_window", "context_length", "max_context_length", "max_model_len")
_LIMITS = ("max_completion_tokens", "max_output_tokens")
_MAX_NAME = 512


class _Page(msgspec.Struct):
    data: list[dict[str, Any]]


_decode = msgspec.json.Decoder(_Page | list[dict[str, Any]]).decode


def build_listing(upstream: Upstream) -> Outgoing:
    """Ask for the models; it costs nothing."""
    key = upstream.credential.value if upstream.credential is not None else ""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Outgoing("GET", f"{upstream.base_path}/models", headers, b"")


def read_listing(upstream: Upstream, body: bytes) -> Sequence[ModelInfo]:
    """Read the list. Raises msgspec.MsgspecError for anything else."""
    found = _decode(body)
    rows = found.data if isinstance(found, _Page) else found
    return [info for row in rows if (info := _read(row, upstream.preset)) is not None]


def _read(row: dict[str, Any], preset: str) -> ModelInfo | None:
    name = row.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        return None
    owner, shown = row.get("owned_by"), row.get("name")
    return ModelInfo(
        id=name,
        created=_count(row, ("created",)) or 0,
        owned_by=owner if isinstance(owner, str) and owner else preset,
        display_name=shown if isinstance(shown, str) else "",
        context_window=_count(row, _WINDOWS),
        max_tokens=_count(row, _LIMITS),
    )


def _count(row: dict[str, Any], names: Sequence[str]) -> int | None:
    return next((row[name] for name in names if type(row.get(name)) is int and row[name] > 0), None)
