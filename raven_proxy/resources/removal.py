"""How a record goes, and how everything goes that an organisation has.

A log stays: what the management API cannot delete is not deleted with its organisation either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from . import audit
from .resource import SYSTEM, Caller, Record, Resource
from .rows import read_record, show_plainly

if TYPE_CHECKING:
    from raven_proxy.storage import Transaction

__all__ = ["clear", "remove"]

B = TypeVar("B", bound=msgspec.Struct)


async def remove(
    transaction: Transaction,
    resource: Resource[B],
    record: Record[B],
    caller: Caller,
    judged_as: Caller | None = None,
) -> None:
    """Delete one record, as its own rule says, and note it as the caller's doing.

    `judged_as` is whom the rule sees, if not the caller. Raises what the rule raises.
    """
    if resource.forget is not None:
        await resource.forget(judged_as or caller, record, transaction)
    sql = f"DELETE FROM {resource.table} WHERE id = ?"  # noqa: S608 - our own names
    await transaction.execute(sql, (record.id,))
    changes = audit.compare(show_plainly(resource, record), {})
    await audit.record(transaction, caller, f"{resource.name}.delete", record.id, changes)
    await transaction.bump(resource.name)


async def clear(
    transaction: Transaction,
    resources: Iterable[Resource[Any]],
    tables: Iterable[str],
    organization_id: str,
    caller: Caller,
) -> None:
    """Delete what an organisation has, which has just been deleted itself; `tables` are no resource's.

    Who may delete an organisation may delete all of it: the rules of its things see the gateway itself.
    """
    actor = msgspec.structs.replace(caller, organization_id=organization_id)
    judged_as = msgspec.structs.replace(SYSTEM, organization_id=organization_id)
    for resource in resources:
        if resource.holds_all or "delete" not in resource.operations:
            continue
        sql = f"SELECT * FROM {resource.table} WHERE organization_id = ? ORDER BY created_at, id"  # noqa: S608
        for row in await transaction.fetch_all(sql, (organization_id,)):
            await remove(transaction, resource, read_record(resource, row), actor, judged_as)
    for table in tables:
        sql = f"DELETE FROM {table} WHERE organization_id = ?"  # noqa: S608 - our own names
        await transaction.execute(sql, (organization_id,))
