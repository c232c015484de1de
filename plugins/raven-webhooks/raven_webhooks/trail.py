"""From entries of the audit log to events: changes of keys, and of anything.

Read from the table, so that what the command line does is told too. Each entry is taken by one process, in
the transaction that queues its deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from raven_proxy.events import Event
from raven_proxy.storage import Row, Storage, Transaction

__all__ = ["Trail", "read_entry"]

_PAGE = 100
_KEYS = {"create": "key.created", "rotate": "key.rotated", "delete": "key.revoked"}


class Trail:
    """How far the audit log was read, by all processes together."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def look(self) -> tuple[list[Row], str]:
        """Give the next entries and the position before them."""
        row = await self._storage.fetch_one("SELECT position FROM webhook_trail WHERE name = 'audit'")
        position = row["position"] if row is not None else ""
        sql = "SELECT * FROM audit_log WHERE id > ? ORDER BY id LIMIT ?"
        return await self._storage.fetch_all(sql, (position, _PAGE)), position

    async def advance(self, transaction: Transaction, before: str, now: str) -> bool:
        """Take the entries up to `now`; False if somebody else has taken them."""
        sql = "UPDATE webhook_trail SET position = ? WHERE name = 'audit' AND position = ?"
        return await transaction.execute(sql, (now, before)) > 0


def read_entry(row: Row) -> list[Event]:
    """Make the events of an entry."""
    changes: Mapping[str, Any] = msgspec.json.decode(row["changes"])
    data = {
        "auditId": row["id"], "action": row["action"], "actor": row["actor"], "actorName": row["actor_name"],
        "targetId": row["target_id"], "changes": changes,
    }  # fmt: skip
    name = row["id"].removeprefix("aud_")
    whose, at = row["organization_id"], float(row["created_at"])
    events = [Event(id=f"evt_{name}", type="audit.recorded", organization_id=whose, data=data, at=at)]
    topic = _topic_of_key(row["action"], changes)
    if topic is not None:
        about = {"keyId": row["target_id"], **data}
        events.append(Event(id=f"evt_{name}k", type=topic, organization_id=whose, data=about, at=at))
    return events


def _topic_of_key(action: str, changes: Mapping[str, Any]) -> str | None:
    name, _, word = action.partition(".")
    if name != "keys":
        return None
    switched = changes.get("isActive")
    if word == "change":
        is_off = isinstance(switched, Mapping) and switched.get("to") is False
        return "key.revoked" if is_off else "key.changed"
    return _KEYS.get(word, "key.changed")
