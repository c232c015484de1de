"""`/logs`: every exchange of an organisation, the newest first. The rows are those of `exchanges`.

No prompt and no answer stands in them: who asked what model, how it ended, what it used and cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raven_proxy.resources import Record, Resource

from .pricing import dollars

__all__ = ["LOGS", "Logged"]


class Logged(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One exchange, with the word of its outcome (`exchange.Outcome`). Times are in milliseconds."""

    request_id: str
    key_id: str | None
    face: str
    model: str | None
    provider: str | None
    status: int
    outcome: str
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_nano: int
    estimated: bool
    attempts: int
    latency_ms: float
    first_byte_ms: float | None
    finish_reason: str | None
    error_code: str | None


class Shown(msgspec.Struct):
    """What reading adds: the cost in US dollars."""

    cost: str


async def _show(record: Record[Logged]) -> Mapping[str, Any]:
    return {"cost": dollars(record.body.cost_nano)}


LOGS: Resource[Logged] = Resource(
    name="logs",
    singular="log entry",
    table="exchanges",
    prefix="",
    body=Logged,
    shown=Shown,
    summary="Every request: who asked what, how it ended, what it used and cost",
    operations=frozenset({"list", "get"}),
    unique=(),
    filters=("requestId", "keyId", "face", "model", "provider", "status", "outcome"),
    newest_first=True,
    ids_rise=True,
    written_behind=True,
    show=_show,
)
