"""`GET /analytics`: what an organisation's requests came to over time: the question, and the route.

Counted is what went to a model or a provider, not the calls of the management API.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from raven_proxy import Exchange, Face, Reply, Unauthenticated, read_nothing
from raven_proxy.faces import Doc, Query
from raven_proxy.resources import invalid
from raven_proxy.resources.routes import reply_json
from raven_proxy.storage import Storage

from .request_log import read_time
from .sums import MOST_GROUPS, WIDTHS, GroupBy, Interval, Question, Report, add_up

__all__ = ["analytics_face", "read_question"]

_USUAL: Mapping[str, int] = {"hour": 86400, "day": 30 * 86400}  # how far back, if `from` is left out
_HOURS_UP_TO = 7 * 86400  # a longer time is shown by the day, if `interval` is left out
_MAX_POINTS = 10_000
_FIRST = int(datetime.min.replace(tzinfo=UTC).timestamp())


def read_question(query: Mapping[str, str], now: float) -> Question:
    """Read the query. Raises InvalidRequest with `param`, also where the answer would be too long."""
    interval = _read_word(query, "interval", Interval)
    end = read_time(query["to"], "to", days=1) if "to" in query else int(now) + 1
    usual = max(end - _USUAL[interval or "hour"], _FIRST)
    begin = read_time(query["from"], "from") if "from" in query else usual
    if begin >= end:
        raise invalid("from", "must be before to")
    question = Question(
        begin=begin,
        end=end,
        interval=interval or ("hour" if end - begin <= _HOURS_UP_TO else "day"),
        group_by=_read_word(query, "groupBy", GroupBy),
    )
    lines = 1 if question.group_by is None else MOST_GROUPS + 2
    most = _MAX_POINTS // lines
    if (end - begin) // WIDTHS[question.interval] > most:
        by_day = question.interval == "hour" and (end - begin) // WIDTHS["day"] <= most
        remedy = 'ask for interval "day", or for a shorter time' if by_day else "ask for a shorter time"
        raise invalid("interval" if by_day else "from", f"more than {most} {question.interval}s; {remedy}")
    return question


def _read_word(query: Mapping[str, str], name: str, words: Any) -> Any:
    word = query.get(name)
    if word is not None and word not in get_args(words):
        raise invalid(name, f"must be one of {', '.join(get_args(words))}")
    return word


def analytics_face(storage: Callable[[], Storage]) -> Face:
    """Build the face; `storage` gives the database once the plugin has started."""

    async def serve(exchange: Exchange) -> Reply:
        if exchange.principal is None:
            raise Unauthenticated("Send a key.")
        question = read_question(exchange.request.query, time.time())
        # What the gateway answers by itself went to nobody: a console that looks on is not traffic.
        passed = sorted({face.name for face in exchange.pipeline.faces() if face.serve is not None})
        found = await add_up(storage(), question, exchange.principal.organization_id, passed)
        return reply_json(found)

    return Face(
        name="analytics", path="/analytics", methods=("GET",), scope="admin:read", role="viewer",
        read_call=read_nothing, json_body=False, serve=serve, doc=_DOC,
    )  # fmt: skip


_DOC = Doc(
    summary="Requests, tokens, cost and latency over time",
    tag="analytics",
    reply=Report,
    query=(
        Query(name="from", summary="Begun at this time or day, or later; a day or 30 days ago if left out"),
        Query(name="to", summary="Begun before this time, or at this day or before; now if left out"),
        Query(name="interval", type=Interval, summary="Hours or days of UTC; by the length if left out"),
        Query(name="groupBy", type=GroupBy, summary="Part the figures by this"),
    ),
    description=(
        "Counted is what went to a model or a provider. Errors are the requests that did not get their whole "
        "answer, but for those whose client left. Latencies are of whole replies; they are counted in bins "
        f"and right to 9 %. The {MOST_GROUPS} groups with the most requests are shown one by one, the others "
        "together."
    ),
)
