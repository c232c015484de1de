"""What the journal holds, and what the database gets of it: an exchange admitted, under way, finished.

{"k": "a", …}  admitted: who, what, and what its prompt comes to; before the provider is asked
{"k": "p", …}  under way: how many bytes the provider has sent, and how many of the model's words
{"k": "f", …}  finished: its row, before the reply's last bytes leave

Columns are only ever added at the end, so a row that another version wrote is read too: a shorter one
lacks the last of them, and of a longer one the rest is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import structlog

from raven_proxy import Exchange, Usage
from raven_proxy.exchange import Candidate
from raven_proxy.providers import estimate_tokens
from raven_proxy.storage import Storage

from .exchanges import COLUMNS, INSERT, RowIds, insert
from .journal import Journal
from .pricing import cost_nano
from .segment import Segment, read_records
from .tariffs import Tariffs

__all__ = ["admitted", "finished", "progress", "recover", "who_and_what"]

_log = structlog.get_logger("raven_meter.records")
_NAME = COLUMNS.index("request_id")
_AT_ONCE = 20_000  # rows between two commits of a replay
# Raw bytes for one token of the answer, measured on the recorded replies (the README has the table).
_STREAM_BYTES_PER_TOKEN = 64
_WHOLE_BYTES_PER_TOKEN = 9


def admitted(name: str, at: int, prompt_tokens: int, rest: bytes) -> msgspec.Raw:
    """Record that an exchange goes upstream. `rest` is `who_and_what`; the name is the gateway's own."""
    return msgspec.Raw(b'{"k":"a","i":"%b","t":%d,"prompt":%d,%b' % (name.encode(), at, prompt_tokens, rest))


def who_and_what(exchange: Exchange, candidate: Candidate | None, rate: Decimal) -> bytes:
    """Write the end of an admission's record, the same for each exchange of a kind: it is kept encoded."""
    principal = exchange.principal
    members = {
        "key": principal.key_id if principal is not None else None,
        "org": principal.organization_id if principal is not None else None,
        "member": principal.attributes.get("member_id") if principal is not None else None,
        "rate": str(rate),
        "face": exchange.face.name,
        "model": exchange.model,
        "upstream": candidate.upstream.name if candidate is not None else None,
        "preset": candidate.upstream.preset if candidate is not None else None,
        "upstream_model": candidate.model if candidate is not None else None,
        "stream": exchange.stream,
    }
    return msgspec.json.encode(members)[1:]


def progress(exchange: Exchange) -> dict[str, Any]:
    """Record how much the provider has sent."""
    written = exchange.written() if exchange.written is not None else None
    return {"k": "p", "i": exchange.id, "b": exchange.produced_bytes, "w": written}


def finished(row: tuple[Any, ...]) -> dict[str, Any]:
    """Record how it ended."""
    return {"k": "f", "row": row}


async def recover(journal: Journal, storage: Storage, ids: RowIds, tariffs: Tariffs) -> tuple[int, int]:
    """Bring the orphaned segments' records into the database, each once; then delete the segments.

    Gives how many exchanges were finished, and how many were not: those are billed for what their
    provider is known to have sent, as an estimate, and nothing is held for them any more.
    """
    segments = journal.orphans()
    admitted_ids: dict[str, dict[str, Any]] = {}
    done = 0
    for segment in segments:
        done += await _replay(segment, storage, admitted_ids)
    known = await _already_written(storage, admitted_ids)
    unfinished = [record for name, record in admitted_ids.items() if name not in known]
    for record in unfinished:
        storage.write_behind(INSERT, _give_up(record, ids, tariffs))
    await storage.flush()
    for segment in segments:
        segment.remove()
    if done or unfinished:
        _log.warning("the journal of a former run was replayed", finished=done, unfinished=len(unfinished))
    return done, len(unfinished)


async def book_again(journal: Journal, storage: Storage) -> None:
    """Bring the rows of the old segments into the database that are not there. Raises its error."""
    for segment in journal.old():
        done = await _replay(segment, storage, {})
        _log.warning("rows that were lost are booked from the journal", records=done)


async def _replay(segment: Segment, storage: Storage, admitted_ids: dict[str, dict[str, Any]]) -> int:
    done = 0
    for record in read_records(segment):
        kind, name = record.get("k"), record.get("i")
        if kind == "a":
            admitted_ids[name] = record  # a later one is another attempt, or was carried over
        elif kind == "p" and name in admitted_ids:
            admitted_ids[name] |= {"bytes": record["b"], "written": record.get("w")}
        elif kind == "f":
            row = tuple(record["row"][: len(COLUMNS)])
            admitted_ids.pop(row[_NAME], None)
            storage.write_behind(INSERT if len(row) == len(COLUMNS) else insert(COLUMNS[: len(row)]), row)
            done += 1
            if done % _AT_ONCE == 0:
                await storage.flush()
    await storage.flush()
    return done


async def _already_written(storage: Storage, names: Iterable[str]) -> set[str]:
    """Of exchanges without an end in the journal, find those that have a row: their end was in a segment
    that is gone already.
    """
    found: set[str] = set()
    pending = list(names)
    while pending:
        some, pending = pending[:500], pending[500:]
        marks = ", ".join("?" * len(some))
        sql = "SELECT request_id FROM exchanges WHERE request_id IN (" + marks + ")"  # noqa: S608 - marks
        rows = await storage.fetch_all(sql, some)
        found |= {row["request_id"] for row in rows}
    return found


def _give_up(record: dict[str, Any], ids: RowIds, tariffs: Tariffs) -> tuple[Any, ...]:
    """Settle what nobody saw the end of, by what its provider had sent when it was last looked at."""
    sent = record.get("bytes", 0)
    usage = Usage(estimated=True)
    if sent:
        usage = Usage(
            prompt_tokens=record["prompt"] * 3 // 4,  # a bound of thirds, for an estimate of quarters
            completion_tokens=_count_answer(record, sent),
            estimated=True,
        )
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens
    model = record["upstream_model"] or record["model"]
    tariff = tariffs.find(record["preset"], model) if record["preset"] and model else None
    cost = cost_nano(usage, tariff, rate_multiplier=Decimal(record["rate"])) if tariff else None
    return (
        ids.next(), record["i"], record["t"], record["key"], record["org"], record["face"], record["model"],
        record["upstream"], record["upstream_model"], 0, "failed", 1 if record["stream"] else 0,
        usage.prompt_tokens, usage.completion_tokens, 0, 0, usage.total_tokens, 1, 1,
        max(0.0, (time.time() - record["t"]) * 1000.0), None, None, "crashed", cost or 0,
        0 if cost is None else 1, 0, record["member"],
    )  # fmt: skip


def _count_answer(record: dict[str, Any], sent: int) -> int:
    """Estimate the answer's tokens: by the model's words, and where nobody counted those by all bytes."""
    written = record.get("written")
    if record["stream"] and written is not None:
        return estimate_tokens(written)
    return -(-sent // (_STREAM_BYTES_PER_TOKEN if record["stream"] else _WHOLE_BYTES_PER_TOKEN))
