"""After `RAVEN_SECRET` was changed: what the former one sealed is sealed anew, so that it can be let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from .resource import Resource
from .rows import columns_of

if TYPE_CHECKING:
    from raven_proxy.sealing import Sealer
    from raven_proxy.storage import Storage

__all__ = ["renew_seals"]

_log = structlog.get_logger("raven_proxy.resources")


async def renew_seals(storage: Storage, sealer: Sealer, resource: Resource[Any]) -> int:
    """Seal a resource's secrets anew where a former secret opens them; say how many there were.

    What no known secret opens stays as it is. Several processes may be at it at the same time.
    """
    renewed = 0
    for column in columns_of(resource.body).secrets:  # type: ignore[arg-type]
        sql = f"SELECT id, {column.field} FROM {resource.table} WHERE {column.field} IS NOT NULL"  # noqa: S608
        for row in await storage.fetch_all(sql):
            before = row[column.field]
            after = sealer.renew(before, f"{resource.table}/{row['id']}/{column.field}")
            if after is not None:
                update = f"UPDATE {resource.table} SET {column.field} = ? WHERE id = ? AND {column.field} = ?"  # noqa: S608
                renewed += await storage.execute(update, (after, row["id"], before))
    if renewed:
        _log.info("sealed anew with RAVEN_SECRET", resource=resource.name, secrets=renewed)
    return renewed
