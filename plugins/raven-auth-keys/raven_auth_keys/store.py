"""Keys for the command line, for tests and for the first start: what `/keys` does, without HTTP."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import SYSTEM, ActionCall, Caller, Record, Records
from raven_proxy.storage import Storage

from .bounds import switched_off
from .keys import ADMIN_SCOPES, KEYS, MIGRATIONS, PROXY_SCOPES, Key, NewKey, Rotation, rotate

__all__ = ["Issued", "KeyStore"]


class Issued(msgspec.Struct, frozen=True):
    """A key with its secret: the only time that the secret is known."""

    key: Key
    secret: str

    def __repr__(self) -> str:
        return f"Issued({self.key.id!r})"


class KeyStore:
    """The keys of a gateway, as its operator sees them: every organisation's."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._records = Records(storage)

    async def migrate(self) -> None:
        """Create or update the tables. Raises ConfigError."""
        await self._records.migrate()
        await self._storage.migrate("auth-keys", MIGRATIONS)

    async def create(self, new: NewKey, *, organization_id: str = DEFAULT) -> Issued:
        """Make a key. Raises InvalidRequest with `param` for a field that makes no sense."""
        caller = _operator(organization_id)
        made = await self._records.create(KEYS, msgspec.json.encode(new), caller)
        return Issued(_key(await self._records.get(KEYS, made["id"], caller)), made["key"])

    async def create_first_administrator(self) -> Issued | None:
        """Make an administrator's key if there is none that works; safe in several processes at once."""
        sql = """SELECT 1 AS found FROM keys WHERE is_active = 1 AND scopes LIKE '%"admin:write"%'
                 AND (expires_at IS NULL OR expires_at > ?)"""
        new = NewKey(name="First administrator", scopes=(*PROXY_SCOPES, *ADMIN_SCOPES))  # type: ignore[arg-type]
        async with self._storage.transaction() as transaction:
            if await transaction.fetch_one(sql, (int(time.time()),)):
                return None
            made = await self._records.create(KEYS, msgspec.json.encode(new), SYSTEM, within=transaction)
        return Issued(_key(await self._records.get(KEYS, made["id"], SYSTEM)), made["key"])

    async def list_all(self, *, organization_id: str | None = None) -> list[Key]:
        """List the keys, revoked ones too, the oldest first."""
        found = await self._records.load(KEYS)
        return [_key(record) for record in found if organization_id in (None, record.organization_id)]

    async def get(self, key_id: str, *, organization_id: str | None = None) -> Key:
        """Give one key. Raises NotFound."""
        return _key(await self._find(key_id, organization_id))

    async def revoke(self, key_id: str, *, organization_id: str | None = None) -> Key:
        """Switch a key off, with what is left of a rotation, from the next request on. Raises NotFound."""
        record = await self._find(key_id, organization_id)
        columns: dict[str, Any] = {"is_active": 0, "previous_digest": None, "previous_until": None}
        columns["bounds"] = switched_off(record)
        caller = _operator(record.organization_id)
        return _key(await self._records.write_columns(KEYS, record, columns, caller, "revoke"))

    async def rotate(self, key_id: str, *, grace_s: int = 0, organization_id: str | None = None) -> Issued:
        """Give a key a new secret; the old one goes on for `grace_s` seconds, by default not at all.

        Raises NotFound, and Refused (409) for a revoked key.
        """
        record = await self._find(key_id, organization_id)
        caller = _operator(record.organization_id)
        call = ActionCall(
            caller=caller, records=self._records, record=record, body=Rotation(grace_s=grace_s), query={}
        )
        made = await rotate(call)
        return Issued(_key(await self._records.get(KEYS, key_id, caller)), made["key"])

    async def _find(self, key_id: str, organization_id: str | None) -> Record[NewKey]:
        if organization_id is None:
            row = await self._storage.fetch_one("SELECT organization_id FROM keys WHERE id = ?", (key_id,))
            organization_id = row["organization_id"] if row else DEFAULT
        return await self._records.get(KEYS, key_id, _operator(organization_id))


def _operator(organization_id: str) -> Caller:
    return msgspec.structs.replace(SYSTEM, organization_id=organization_id)


def _key(record: Record[NewKey]) -> Key:
    fields = msgspec.structs.asdict(record.body)
    last_used_at = record.columns["last_used_at"]
    return Key(
        id=record.id,
        organization_id=record.organization_id,
        prefix=record.columns["prefix"],
        created_at=record.created_at,
        last_used_at=datetime.fromtimestamp(last_used_at, UTC) if last_used_at is not None else None,
        **fields,
    )
