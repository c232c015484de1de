"""Who owns what lies at a provider: files, batches, uploads, stored responses.

One row an object: its kind, its id, the upstream that holds it and the organisation that made it.
Rows are written behind the reply; a bounded map answers for those of this process at once. What an
object is, and who may ask for it, is not known here (`routing`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from raven_proxy.storage import Storage

__all__ = ["MIGRATIONS", "Owner", "Ownership"]

Owner = tuple[str, str]
"""The upstream's name, and the organisation's id."""

MIGRATIONS = (
    """CREATE TABLE openai_objects (
      kind TEXT NOT NULL, id TEXT NOT NULL, upstream TEXT NOT NULL, organization_id TEXT NOT NULL,
      created_at INTEGER NOT NULL, deleted INTEGER NOT NULL, PRIMARY KEY (kind, id)
    );
    CREATE INDEX openai_objects_by_owner ON openai_objects (organization_id, upstream, kind, created_at);
    CREATE INDEX openai_objects_by_age ON openai_objects (upstream, kind, created_at);""",
)

# One statement for both, since only rows of one statement keep their order. An id stays its first
# owner's until it is deleted.
_WRITE = """INSERT INTO openai_objects (kind, id, upstream, organization_id, created_at, deleted)
  VALUES (?, ?, ?, ?, ?, ?)
  ON CONFLICT (kind, id) DO UPDATE SET upstream = excluded.upstream,
    organization_id = excluded.organization_id, created_at = excluded.created_at, deleted = excluded.deleted
  WHERE excluded.deleted = 1 OR openai_objects.deleted = 1"""
_READ = "SELECT upstream, organization_id FROM openai_objects WHERE kind = ? AND id = ? AND deleted = 0"
_LIST = """SELECT id FROM openai_objects
  WHERE organization_id = ? AND upstream = ? AND kind = ? AND deleted = 0
  ORDER BY created_at DESC LIMIT 100000"""

_NEXT_OWN = """SELECT created_at FROM openai_objects
  WHERE organization_id = :organization AND upstream = :upstream AND kind = :kind AND deleted = 0
    AND id <> :after AND created_at <= :before ORDER BY created_at DESC LIMIT 1"""
_JUST_NEWER = """SELECT id FROM openai_objects
  WHERE upstream = :upstream AND kind = :kind AND deleted = 0
    AND created_at > :newer_than AND created_at < :older_than ORDER BY created_at LIMIT 1"""
_AGE = "SELECT created_at FROM openai_objects WHERE kind = ? AND id = ?"

_FOREVER = 2**53
_DISORDER_S = 120  # a slow reply is noted so much later than the object was made
_REMEMBERED = 16_384  # objects of this process that need no query
_LONGEST_ID = 512
_OTHERS_WRITE_S = 0.25  # what another process noted is in the database by then


class Ownership:
    """The table of owners. `kind` is "file", "batch", "upload" or "response".

    With `waits_for_others` an unknown id is looked up again after a moment: another process may have
    noted it just now.
    """

    def __init__(self, storage: Storage, *, waits_for_others: bool = False) -> None:
        self._storage = storage
        self._waits_for_others = waits_for_others
        self._recent: dict[tuple[str, str], Owner | None] = {}  # None: deleted

    @classmethod
    async def open(cls, storage: Storage, *, waits_for_others: bool = False) -> Ownership:
        """Bring the table up to date and clear out what was deleted. Raises ConfigError."""
        await storage.migrate("openai", MIGRATIONS)
        await storage.execute("DELETE FROM openai_objects WHERE deleted = 1")
        return cls(storage, waits_for_others=waits_for_others)

    async def owner_of(self, kind: str, id: str) -> Owner | None:
        """Find the upstream that holds an object and the organisation that owns it; None if unknown."""
        if (kind, id) in self._recent:
            return self._recent[kind, id]
        if not id or len(id) > _LONGEST_ID:
            return None
        row = await self._storage.fetch_one(_READ, (kind, id))
        if row is None and self._waits_for_others:
            await asyncio.sleep(_OTHERS_WRITE_S)
            row = await self._storage.fetch_one(_READ, (kind, id))
        return (row["upstream"], row["organization_id"]) if row is not None else None

    async def ids_of(self, kind: str, upstream: str, organization_id: str) -> frozenset[str]:
        """List what an organisation owns at an upstream: the newest 100,000."""
        rows = await self._storage.fetch_all(_LIST, (organization_id, upstream, kind))
        ids = {row["id"] for row in rows}
        for (its_kind, its_id), owner in self._recent.items():
            if its_kind == kind and owner == (upstream, organization_id):
                ids.add(its_id)
            elif its_kind == kind and owner is None:
                ids.discard(its_id)
        return frozenset(ids)

    async def cursor_to(
        self, kind: str, upstream: str, organization_id: str, after: str | None
    ) -> str | None:
        """Find the id to list from, newest first, so that the organisation's next object comes soon.

        That is somebody's object a little newer than it, and older than `after`; None where there is none
        between, and the list may begin where the client says.
        """
        await self._storage.flush()
        names: dict[str, Any] = {"kind": kind, "upstream": upstream, "organization": organization_id}
        age = await self._storage.fetch_one(_AGE, (kind, after)) if after else None
        before = age["created_at"] if age is not None else _FOREVER
        own = await self._storage.fetch_one(_NEXT_OWN, {**names, "after": after or "", "before": before})
        if own is None:
            return None
        del names["organization"]
        borders = {"newer_than": own["created_at"] + _DISORDER_S, "older_than": before - _DISORDER_S}
        row = await self._storage.fetch_one(_JUST_NEWER, {**names, **borders})
        return str(row["id"]) if row is not None else None

    def note(self, kind: str, id: str, upstream: str, organization_id: str) -> None:
        """Remember a new object's owner, at once here and soon in the database."""
        if not id or len(id) > _LONGEST_ID or self._recent.get((kind, id)) is not None:
            return
        self._remember(kind, id, (upstream, organization_id))
        self._write(kind, id, (upstream, organization_id), deleted=False)

    def forget(self, kind: str, id: str) -> None:
        """Forget an object that was deleted."""
        if not id or len(id) > _LONGEST_ID:
            return
        self._remember(kind, id, None)
        self._write(kind, id, ("", ""), deleted=True)

    def _remember(self, kind: str, id: str, owner: Owner | None) -> None:
        self._recent.pop((kind, id), None)
        self._recent[kind, id] = owner
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _write(self, kind: str, id: str, owner: Owner, *, deleted: bool) -> None:
        row = (kind, id, *owner, int(time.time()), 1 if deleted else 0)
        self._storage.write_behind(_WRITE, row)
