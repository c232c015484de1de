"""The audit log: who changed what, when and from where. Append-only: the database refuses anything else.

Written in the transaction of the change itself, so that neither can be without the other.
"""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from raven_proxy.exchange import Reply

from .resource import Action, ActionCall, Caller, Resource, invalid

if TYPE_CHECKING:
    from raven_proxy.storage import Transaction

__all__ = ["AUDIT_LOG", "MIGRATIONS", "AuditEntry", "compare", "record"]

MIGRATIONS = (
    """CREATE TABLE audit_log (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL, actor TEXT NOT NULL,
      actor_name TEXT NOT NULL, action TEXT NOT NULL, target_id TEXT NOT NULL, changes TEXT NOT NULL,
      request_id TEXT NOT NULL, address TEXT NOT NULL
    );
    CREATE INDEX audit_log_by_time ON audit_log (organization_id, created_at, id);
    CREATE TRIGGER audit_log_is_never_changed BEFORE UPDATE ON audit_log
      BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER audit_log_is_never_cut BEFORE DELETE ON audit_log
      BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;""",
    "ALTER TABLE audit_log ADD COLUMN key_id TEXT",
)
_INSERT = """INSERT INTO audit_log (id, organization_id, created_at, actor, actor_name, action, target_id,
             changes, request_id, address, key_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_PAGE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula at the start of a cell


class AuditEntry(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One change. `action` is "keys.create"; `changes` maps a field to its value before and after.

    `actor` is a member, or a key that is nobody's; `key_id` is the key that was used, null for a session, the
    command line, and entries from before this was kept.
    """

    actor: str
    actor_name: str
    action: str
    target_id: str
    changes: dict[str, Any]
    request_id: str
    address: str
    key_id: str | None = None


async def record(
    transaction: Transaction, caller: Caller, action: str, target_id: str, changes: Mapping[str, Any]
) -> None:
    """Append one entry. `changes` must hold no secret."""
    # Names rise with time, so that entries of one second keep their order.
    entry_id = f"aud_{time.time_ns():016x}{secrets.token_hex(4)}"
    row = (
        entry_id, caller.organization_id, int(time.time()), caller.actor, caller.name, action, target_id,
        msgspec.json.encode(changes).decode(), caller.request_id, caller.address,
        caller.key_id or None,
    )  # fmt: skip
    await transaction.execute(_INSERT, row)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields that differ, each with its value before and after."""
    return {
        name: {"from": before.get(name), "to": after.get(name)}
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }


async def _export(call: ActionCall) -> Reply:
    """`GET /audit-logs/export?format=csv|jsonl`: the whole log of the organisation, the oldest first."""
    form = call.query.get("format", "jsonl")
    if form not in {"csv", "jsonl"}:
        raise invalid("format", "must be csv or jsonl")
    media = "text/csv; charset=utf-8" if form == "csv" else "application/jsonl"
    headers = {
        "Content-Type": media,
        "Content-Disposition": f'attachment; filename="audit-log.{form}"',
    }
    return Reply(200, headers, _write_all(call, form))


async def _write_all(call: ActionCall, form: str) -> AsyncIterator[bytes]:
    names = ("id", "createdAt", *AuditEntry.__struct_encode_fields__)
    if form == "csv":
        yield _write_row(names)
    after = None
    while True:
        page, after = await call.records.find(
            AUDIT_LOG, call.caller, limit=_PAGE, after=after, newest_first=False
        )
        for one in page:
            shown = await call.records.show(AUDIT_LOG, one)
            yield (
                _write_row([shown[name] for name in names])
                if form == "csv"
                else (msgspec.json.encode(shown) + b"\n")
            )
        if after is None:
            return


def _write_row(values: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(value) for value in values])
    return buffer.getvalue().encode()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    return "'" + text if text.startswith(_FORMULA) else text


AUDIT_LOG = Resource(
    name="audit-logs",
    singular="audit entry",
    table="audit_log",
    prefix="aud_",
    body=AuditEntry,
    summary="Who changed what, when and from where",
    operations=frozenset({"list", "get"}),
    unique=(),
    filters=("action", "actor", "keyId", "targetId"),
    newest_first=True,
    read_role="admin",
    actions=(
        Action(
            name="export", on="all", method="GET", summary="Export the audit log as CSV or JSON lines",
            run=_export, media="application/jsonl",
        ),
    ),
)  # fmt: skip
