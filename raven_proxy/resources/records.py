"""The one way in which a resource's rows are listed, read, made, changed and deleted.

The management API and the command line both come through here; HTTP is `routes`' affair.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from raven_proxy.errors import NotFound, Refused

from . import audit
from .fields import attributes_of, decode, drop_read_only, merge, names_of, read_fields
from .removal import clear, remove
from .resource import SYSTEM, Caller, Change, Condition, Record, Resource, invalid
from .room import check_room
from .rows import columns_of, owned_by, place_of, read_record, show_plainly

if TYPE_CHECKING:
    from raven_proxy.sealing import Sealer
    from raven_proxy.storage import Row, Storage, Transaction

__all__ = ["MAX_LIMIT", "Records"]

B = TypeVar("B", bound=msgspec.Struct)
MAX_LIMIT = 1000


class Records:
    """Every resource of one gateway. Changes are announced, and noted in the audit log, as they commit."""

    def __init__(
        self,
        storage: Storage,
        sealer: Sealer | None = None,
        resources: Callable[[], Sequence[Resource[Any]]] = tuple,
    ) -> None:
        self.storage = storage
        self._sealer = sealer
        self._resources = resources
        self._tables: set[str] = set()
        self.spread: Callable[[], Awaitable[None]] = _nothing  # to every process; of the one that serves

    async def migrate(self) -> None:
        """Bring the tables of the core up to date. Raises ConfigError."""
        await self.storage.migrate("core", audit.MIGRATIONS)

    def clear_also(self, table: str) -> None:
        """Let the rows of a table that is no resource's go with their organisation (`organization_id`)."""
        self._tables.add(table)

    # -- reading -------------------------------------------------------------------

    async def load(self, resource: Resource[B]) -> list[Record[B]]:
        """Read the rows of every organisation, the oldest first: for a snapshot in memory."""
        sql = f"SELECT * FROM {resource.table} ORDER BY created_at, id"  # noqa: S608 - our own names
        return [read_record(resource, row) for row in await self.storage.fetch_all(sql)]

    async def find(
        self,
        resource: Resource[B],
        caller: Caller,
        *,
        limit: int = MAX_LIMIT,
        after: str | None = None,
        where: Mapping[str, Any] | None = None,
        narrowed: Sequence[Condition] = (),
        newest_first: bool | None = None,
    ) -> tuple[list[Record[B]], str | None]:
        """Give one page of what the caller sees, and the id to go on after (None at the end).

        `where` maps columns to values; `narrowed` is of `Resource.narrow`. Raises InvalidRequest (`after`).
        """
        newest_first = resource.newest_first if newest_first is None else newest_first
        if resource.written_behind:
            await self.storage.flush()
        seen, values = owned_by(resource.places_of(caller))
        conditions = [seen]
        for column, value in (where or {}).items():
            conditions.append(f"{column} = ?")
            values.append(value)
        for condition, bound in narrowed:
            conditions.append(f"({condition})")
            values += bound
        sign, way = ("<", "DESC") if newest_first else (">", "ASC")
        if after is not None:
            place = await self._place(resource, after, caller)
            conditions.append(
                f"id {sign} ?" if resource.ids_rise else f"(created_at, id) {sign} (?, ?)"  # ISO SQL:1992
            )
            values += [place["id"]] if resource.ids_rise else [place["created_at"], place["id"]]
        order = f"id {way}" if resource.ids_rise else f"created_at {way}, id {way}"
        sql = (
            f"SELECT * FROM {resource.table} WHERE {' AND '.join(conditions)} "  # noqa: S608 - our own names
            f"ORDER BY {order} LIMIT ?"
        )
        rows = await self.storage.fetch_all(sql, (*values, limit + 1))
        page = [read_record(resource, row) for row in rows[:limit]]
        return page, page[-1].id if len(rows) > limit else None

    async def get(self, resource: Resource[B], record_id: str, caller: Caller) -> Record[B]:
        """Give one record. Raises NotFound, for another organisation's as for none."""
        if resource.written_behind:
            await self.storage.flush()
        return read_record(resource, await self._row(self.storage, resource, record_id, caller))

    async def show(self, resource: Resource[B], record: Record[B]) -> dict[str, Any]:
        """Give a record as the API shows it."""
        shown = {
            "id": record.id,
            **columns_of(resource.body).show(record.body, record.columns),
            "createdAt": record.created_at,
        }
        return shown | dict(await resource.show(record)) if resource.show else shown

    def reveal(self, resource: Resource[B], record: Record[B], field: str) -> str | None:
        """Open a sealed field; None if it is not set. Raises SealBroken."""
        assert self._sealer is not None, "these records were opened without the gateway's secret"
        sealed = record.columns[field]
        return (
            None if sealed is None else self._sealer.open(sealed, f"{place_of(resource, record.id)}/{field}")
        )

    # -- writing -------------------------------------------------------------------

    async def create(
        self, resource: Resource[B], given: bytes, caller: Caller, *, within: Transaction | None = None
    ) -> dict[str, Any]:
        """Make a record from a JSON object; give it as the API shows it, with what is shown this once.

        `within` is a transaction that is open already, if it is to be part of one.

        Raises InvalidRequest (`validation_error` with `param`), Refused (409) for what exists already.
        """
        record_id = resource.prefix + secrets.token_hex(10)
        fields = drop_read_only(resource, read_fields(given))
        body = decode(resource, fields)
        prepared = await resource.prepare(fields) if resource.prepare is not None else None
        async with self._inside(within) as transaction:
            change = Change(
                id=record_id, caller=caller, transaction=transaction, body=body, before=None,
                given=attributes_of(resource, fields), prepared=prepared,
            )  # fmt: skip
            await check_room(transaction, resource, caller.organization_id)
            if resource.check is not None:
                await resource.check(change)
            row = {"id": record_id, "organization_id": caller.organization_id, "created_at": int(time.time())}
            row |= columns_of(resource.body).to_row(change.body, self._sealer, place_of(resource, record_id))
            await self._check_unique(transaction, resource, row := row | change.columns)
            names, places = ", ".join(map(_quote, row)), ", ".join("?" * len(row))
            sql = f"INSERT INTO {resource.table} ({names}) VALUES ({places}) RETURNING *"  # noqa: S608
            record = read_record(resource, (await transaction.fetch_all(sql, tuple(row.values())))[0])
            made = audit.compare({}, show_plainly(resource, record))
            await _audit(transaction, caller, resource, "create", record, made)
            await transaction.bump(resource.name)
        return await self.show(resource, record) | change.reply

    async def change(
        self, resource: Resource[B], record_id: str, given: bytes, caller: Caller, *, replace: bool = False
    ) -> dict[str, Any]:
        """Change the given fields of a record; with `replace` the others go back to their defaults.

        What `get` showed can be sent back: read-only fields are passed over. A secret that is left out
        stays. Raises what `create` raises, and NotFound.
        """
        columns = columns_of(resource.body)
        fields = drop_read_only(resource, read_fields(given))
        prepared = await resource.prepare(fields) if resource.prepare is not None else None
        async with self.storage.transaction() as transaction:
            before = read_record(resource, await self._row(transaction, resource, record_id, caller))
            body = decode(resource, merge(columns, before, fields, replace=replace))
            change = Change(
                id=record_id, caller=caller, transaction=transaction, body=body, before=before,
                given=attributes_of(resource, fields), prepared=prepared,
            )  # fmt: skip
            if resource.check is not None:
                await resource.check(change)
            kept = [column.field for column in columns.secrets if column.name not in fields]
            row = columns.to_row(change.body, self._sealer, place_of(resource, record_id), without=kept)
            row |= change.columns
            await self._check_unique(transaction, resource, {**before.columns, **row})
            record = await self._update(transaction, resource, before, row)
            changes = audit.compare(show_plainly(resource, before), show_plainly(resource, record))
            changes |= {column.name: "changed" for column in columns.secrets if column.name in fields}
            changes |= {column.name: "changed" for column in columns.unkept if fields.get(column.name)}
            if changes:
                await _audit(transaction, caller, resource, "change", record, changes)
                await transaction.bump(resource.name)
        return await self.show(resource, record) | change.reply

    async def write_columns(
        self,
        resource: Resource[B],
        record: Record[B],
        columns: Mapping[str, Any],
        caller: Caller,
        action: str,
        *,
        within: Transaction | None = None,
    ) -> Record[B]:
        """Write columns that no body has, for an `Action`; noted as `action`. Raises NotFound."""
        async with self._inside(within) as transaction:
            await self._row(transaction, resource, record.id, caller)
            changed = await self._update(transaction, resource, record, columns)
            changes = audit.compare(show_plainly(resource, record), show_plainly(resource, changed))
            await _audit(transaction, caller, resource, action, record, changes)
            await transaction.bump(resource.name)
        return changed

    async def delete(self, resource: Resource[B], record_id: str, caller: Caller) -> None:
        """Delete a record; with an organisation goes everything that is its own. Raises NotFound."""
        async with self.storage.transaction() as transaction:
            record = read_record(resource, await self._row(transaction, resource, record_id, caller))
            # Nobody can ask for the log of an organisation that is gone.
            teller = msgspec.structs.replace(caller, organization_id=SYSTEM.organization_id)
            await remove(transaction, resource, record, teller if resource.holds_all else caller, caller)
            if resource.holds_all:
                await clear(transaction, self._resources(), self._tables, record.id, caller)

    async def note(
        self, caller: Caller, action: str, target_id: str, changes: Mapping[str, Any] | None = None
    ) -> None:
        """Append to the audit log what is no change of a record: a login, a test, a grant."""
        async with self.storage.transaction() as transaction:
            await audit.record(transaction, caller, action, target_id, changes or {})

    def _inside(self, transaction: Transaction | None) -> AbstractAsyncContextManager[Transaction]:
        return nullcontext(transaction) if transaction is not None else self.storage.transaction()

    # -- inside --------------------------------------------------------------------

    async def _row(
        self, where: Storage | Transaction, resource: Resource[B], record_id: str, caller: Caller
    ) -> Row:
        seen, values = owned_by(resource.places_of(caller))
        sql = f"SELECT * FROM {resource.table} WHERE id = ? AND {seen}"  # noqa: S608 - our own names
        row = await where.fetch_one(sql, (record_id, *values))
        if row is None:
            raise NotFound(f"There is no such {resource.singular}.")
        return row

    async def _place(self, resource: Resource[B], record_id: str, caller: Caller) -> Row:
        try:
            return await self._row(self.storage, resource, record_id, caller)
        except NotFound:
            raise invalid("after", f"there is no {record_id[:100]!r} in this list") from None

    async def _update(
        self, transaction: Transaction, resource: Resource[B], before: Record[B], row: Mapping[str, Any]
    ) -> Record[B]:
        if not row:
            return before
        places = ", ".join(f"{_quote(name)} = ?" for name in row)
        sql = f"UPDATE {resource.table} SET {places} WHERE id = ? RETURNING *"  # noqa: S608 - our own names
        return read_record(resource, (await transaction.fetch_all(sql, (*row.values(), before.id)))[0])

    async def _check_unique(
        self, transaction: Transaction, resource: Resource[B], row: Mapping[str, Any]
    ) -> None:
        for field in resource.unique:
            sql = f"SELECT id FROM {resource.table} WHERE organization_id = ? AND {field} = ? AND id <> ?"  # noqa: S608
            values = (row["organization_id"], row[field], row["id"])
            if row[field] is not None and await transaction.fetch_one(sql, values):
                name = _camel(resource, field)
                raise Refused(
                    f"{name}: there is a {resource.singular} {row[field]!r} already.", status=409, param=name
                )


async def _nothing() -> None:
    """Spread nothing: there is one process."""


async def _audit(
    transaction: Transaction,
    caller: Caller,
    resource: Resource[B],
    word: str,
    record: Record[B],
    changes: Mapping[str, Any],
) -> None:
    """Let what happened to a record stand in the log of the organisation whose it is."""
    place = msgspec.structs.replace(caller, organization_id=record.organization_id)
    await audit.record(transaction, place, f"{resource.name}.{word}", record.id, changes)


def _quote(column: str) -> str:
    """Quote a column of our own: a budget's is called "limit", which is a word of SQL."""
    return f'"{column}"'


def _camel(resource: Resource[B], field: str) -> str:
    return next((name for name, own in names_of(resource).items() if own == field), field)
