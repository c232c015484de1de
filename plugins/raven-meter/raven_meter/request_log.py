"""`/logs`: every exchange of an organisation, the newest first. The rows are those of `exchanges`.

No prompt and no answer stands in them: who asked what model, how it ended, what it used and cost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from raven_proxy.faces import Query
from raven_proxy.resources import Condition, Record, Resource, invalid

from .cursor import id_at
from .pricing import dollars

__all__ = ["LOGS", "Logged", "read_time"]

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


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


def _narrow(query: Mapping[str, str]) -> list[Condition]:
    """Read `from`, `to` and `q`. Raises InvalidRequest."""
    found: list[Condition] = []
    if "from" in query:
        begin = read_time(query["from"], "from")
        # An exchange ends after it began, and its id rises with its end: earlier rows need not be looked at.
        found.append(("created_at >= ? AND id >= ?", (begin, id_at(begin))))
    if "to" in query:
        found.append(("created_at < ?", (read_time(query["to"], "to", days=1),)))
    if "q" in query:
        text = "%" + re.sub(r"([\\%_])", r"\\\1", query["q"]) + "%"
        columns = ("request_id", "model", "error_code")
        found.append((" OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in columns), (text,) * len(columns)))
    return found


def read_time(text: str, param: str, *, days: int = 0) -> int:
    """Read a time, or a day of UTC and `days` after it; in Unix seconds. Raises InvalidRequest.

    Whatever it gives is a time of UTC too: an offset can lead out of the years 1 to 9999.
    """
    try:
        moment = datetime.fromisoformat(text)
        if _DAY.fullmatch(text):
            moment += timedelta(days=days)
        in_utc = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(in_utc.timestamp())
    except (ValueError, OverflowError):
        message = 'must be a day ("2026-01-31") or a time ("2026-01-31T12:00:00Z")'
        raise invalid(param, message) from None


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
    narrow=_narrow,
    queries=(
        Query(name="from", summary="Begun at this time or day, or later"),
        Query(name="to", summary="Begun before this time, or at this day or before"),
        Query(name="q", summary="With this text in request id, model or error code"),
    ),
    newest_first=True,
    ids_rise=True,
    written_behind=True,
    show=_show,
)
