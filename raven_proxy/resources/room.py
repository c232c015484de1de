"""How many of a kind an organisation may have: what is kept is read into memory by every worker."""

from __future__ import annotations

from typing import Any

from raven_proxy.errors import Refused
from raven_proxy.storage import Transaction

from .resource import Resource

__all__ = ["check_room"]


async def check_room(transaction: Transaction, resource: Resource[Any], organization_id: str) -> None:
    """Refuse one more than `Resource.most` (409)."""
    sql = f"SELECT COUNT(*) AS number FROM {resource.table} WHERE organization_id = ?"  # noqa: S608 - our own
    row = await transaction.fetch_one(sql, (organization_id,))
    if row is not None and row["number"] >= resource.most:
        raise Refused(
            f"There are {resource.most:,} {resource.name} in this organisation already; delete one first.",
            status=409,
        )
