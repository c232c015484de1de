"""`GET /v1/usage`: what the calling key used, per model and per day.

Counted are the exchanges that a provider answered, even if the reply was cut; days are those of UTC.
Costs are decimal strings in US dollars; a model without a known price adds nothing to them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from raven_proxy import InvalidRequest
from raven_proxy.storage import Row, Storage

from .pricing import dollars

__all__ = ["Period", "read_period", "summarize"]

Period = tuple[date, date]

_DAY_S = 86400
_MAX_DAYS = 366
_EPOCH = date(1970, 1, 1)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Integer division is the same in SQLite and PostgreSQL; their date functions are not.
_SUMS = f"""
SELECT COALESCE(model, upstream_model, 'unknown') AS model, created_at / {_DAY_S} AS day,
  COUNT(*) AS requests, SUM(total_tokens) AS tokens, SUM(cost_nano) AS cost
FROM exchanges
WHERE key_id = ? AND created_at >= ? AND created_at < ?
  AND outcome IN ('completed', 'truncated', 'cancelled')
  AND (model IS NOT NULL OR total_tokens > 0)
GROUP BY COALESCE(model, upstream_model, 'unknown'), created_at / {_DAY_S}
ORDER BY 2, 1
"""  # noqa: S608 - a number of our own


def read_period(start_text: str | None, end_text: str | None) -> Period:
    """Read `start_date` and `end_date` (YYYY-MM-DD, both inclusive).

    The end is today unless it is given, the start the first of the end's month. Raises InvalidRequest
    with `param`.
    """
    end = _read_date(end_text, "end_date") or datetime.now(UTC).date()
    start = _read_date(start_text, "start_date") or end.replace(day=1)
    if start > end:
        raise InvalidRequest("start_date is after end_date.", param="start_date")
    if (end - start).days >= _MAX_DAYS:
        raise InvalidRequest(f"Ask for at most {_MAX_DAYS} days.", param="start_date")
    return start, end


async def summarize(storage: Storage, key_id: str, period: Period) -> dict[str, Any]:
    """Add up a key's usage in a period."""
    await storage.flush()
    start, end = period
    first_s = (start - _EPOCH).days * _DAY_S
    last_s = ((end - _EPOCH).days + 1) * _DAY_S
    rows = await storage.fetch_all(_SUMS, (key_id, first_s, last_s))
    by_model, by_day = _group(rows, "model"), _group(rows, "day")
    return {
        "object": "usage",
        "total_tokens": sum(row["tokens"] for row in rows),
        "total_requests": sum(row["requests"] for row in rows),
        "period_start": start.isoformat(),
        "period_end": end.isoformat(),
        "breakdown": dict(sorted(by_model.items())),
        "daily_breakdown": [
            {"date": (_EPOCH + timedelta(days=day)).isoformat(), **sums} for day, sums in by_day.items()
        ],
        "total_cost": dollars(sum(row["cost"] for row in rows)),
    }


def _group(rows: list[Row], column: str) -> dict[Any, dict[str, Any]]:
    groups: dict[Any, dict[str, Any]] = {}
    for row in rows:
        sums = groups.setdefault(row[column], {"tokens": 0, "requests": 0, "cost": 0})
        for name in sums:
            sums[name] += row[name]
    return {name: sums | {"cost": dollars(sums["cost"])} for name, sums in groups.items()}


def _read_date(text: str | None, param: str) -> date | None:
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidRequest(f"{param} must be a date like 2025-01-31.", param=param)
