"""Virtual keys: what one is, and how it is made, listed, rotated and revoked.

Responsible for the table `keys` and the rules about its fields. The secret itself is in the answer
of `create` and `rotate` and nowhere else: the table holds its SHA-256 digest. Who calls, and with
which rights, is judged before.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import InvalidRequest, NotFound, Refused
from raven_proxy.storage import Row, Storage, Transaction

__all__ = [
    "ADMIN_SCOPES", "DEFAULT_ORGANIZATION", "PROXY_SCOPES", "TOPIC", "Issued", "Key", "KeyStore", "NewKey",
    "digest_of",
]  # fmt: skip

PROXY_SCOPES = (
    "chat:write", "embeddings:write", "images:write", "audio:write", "video:write",
    "files:read", "files:write", "models:read", "usage:read",
)  # fmt: skip
ADMIN_SCOPES = ("admin:read", "admin:write")
DEFAULT_ORGANIZATION = "org_default"
TOPIC = "keys"
"""What is bumped whenever a key changes."""

MIGRATIONS = (
    """CREATE TABLE keys (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, member_id TEXT, name TEXT NOT NULL,
      environment TEXT NOT NULL, prefix TEXT NOT NULL, digest TEXT NOT NULL UNIQUE,
      previous_digest TEXT UNIQUE, previous_until INTEGER,
      scopes TEXT NOT NULL, allowed_models TEXT, ip_allowlist TEXT, plan TEXT,
      rate_limit_rpm INTEGER, rate_limit_rpd INTEGER, rate_limit_tpm INTEGER, rate_limit_tpd INTEGER,
      max_concurrency INTEGER, on_disconnect TEXT NOT NULL, is_active INTEGER NOT NULL,
      expires_at INTEGER, created_at INTEGER NOT NULL, last_used_at INTEGER
    )""",
)

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 32  # of 62 letters: 190 bits
_PREFIX_LENGTH = 12
_MAX_ENTRIES = 1000
_LISTS = ("scopes", "allowed_models", "ip_allowlist")
_TIMES = ("expires_at", "created_at", "last_used_at")

Scope = Literal[
    "chat:write", "embeddings:write", "images:write", "audio:write", "video:write", "files:read",
    "files:write", "models:read", "usage:read", "admin:read", "admin:write",
]  # fmt: skip
Environment = Literal["live", "test"]
Count = Annotated[int, Meta(ge=1, le=2**53)]
Time = Annotated[datetime, Meta(tz=True)]


class NewKey(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What can be said of a key when it is made; the body of `POST /keys`.

    `None` means no limit. An empty list is refused, because it can be read both ways. `allowed_models`
    are glob patterns, `ip_allowlist` networks in CIDR form. Rates are per minute and day, in requests
    and tokens.
    """

    name: str
    environment: Environment = "live"
    scopes: tuple[Scope, ...] | None = None  # None: every proxy scope, no admin scope
    allowed_models: tuple[str, ...] | None = None
    rate_limit_rpm: Count | None = None
    rate_limit_rpd: Count | None = None
    rate_limit_tpm: Count | None = None
    rate_limit_tpd: Count | None = None
    max_concurrency: Count | None = None
    plan: str | None = None
    member_id: str | None = None
    expires_at: Time | None = None
    ip_allowlist: tuple[str, ...] | None = None
    on_disconnect: Literal["cancel", "drain"] = "cancel"


class Key(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """A key as it can be shown: everything but its secret and digest."""

    id: str
    organization_id: str
    name: str
    environment: Environment
    prefix: str
    scopes: tuple[str, ...]
    allowed_models: tuple[str, ...] | None
    rate_limit_rpm: int | None
    rate_limit_rpd: int | None
    rate_limit_tpm: int | None
    rate_limit_tpd: int | None
    max_concurrency: int | None
    plan: str | None
    member_id: str | None
    expires_at: datetime | None
    ip_allowlist: tuple[str, ...] | None
    on_disconnect: str
    is_active: bool
    created_at: datetime
    last_used_at: datetime | None


class Issued(msgspec.Struct, frozen=True):
    """A key with its secret: the only time that the secret is known."""

    key: Key
    secret: str

    def __repr__(self) -> str:
        return f"Issued({self.key.id!r})"


class KeyStore:
    """The keys of a gateway.

    With `organization_id` a method sees that organization's keys only; another's are NotFound. Every
    change is announced to all processes in the transaction that makes it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def migrate(self) -> None:
        """Create or update the table. Raises ConfigError."""
        await self._storage.migrate("auth-keys", MIGRATIONS)

    async def create(self, new: NewKey, *, organization_id: str = DEFAULT_ORGANIZATION) -> Issued:
        """Make a key. Raises InvalidRequest with `param` for a field that makes no sense."""
        _check(new)
        async with self._storage.transaction() as transaction:
            return await _insert(transaction, new, organization_id)

    async def create_first_administrator(self) -> Issued | None:
        """Make an administrator's key if there is none that works; safe in several processes at once."""
        sql = """SELECT 1 AS found FROM keys WHERE is_active = 1 AND scopes LIKE '%"admin:write"%'
                 AND (expires_at IS NULL OR expires_at > ?)"""
        new = NewKey(name="First administrator", scopes=(*PROXY_SCOPES, *ADMIN_SCOPES))  # type: ignore[arg-type]
        async with self._storage.transaction() as transaction:
            if await transaction.fetch_one(sql, (int(time.time()),)):
                return None
            return await _insert(transaction, new, DEFAULT_ORGANIZATION)

    async def list_all(self, *, organization_id: str | None = None) -> list[Key]:
        """List the keys, revoked ones too, the oldest first."""
        rows = await self._storage.fetch_all("SELECT * FROM keys ORDER BY created_at, id")
        return [_read(row) for row in rows if organization_id in (None, row["organization_id"])]

    async def get(self, key_id: str, *, organization_id: str | None = None) -> Key:
        """Give one key. Raises NotFound."""
        return _read(await _find(self._storage, key_id, organization_id))

    async def revoke(self, key_id: str, *, organization_id: str | None = None) -> Key:
        """Make a key useless for good, from the next request on. Raises NotFound."""
        sql = """UPDATE keys SET is_active = 0, previous_digest = NULL, previous_until = NULL
                 WHERE id = ? RETURNING *"""
        async with self._storage.transaction() as transaction:
            await _find(transaction, key_id, organization_id)
            rows = await transaction.fetch_all(sql, (key_id,))
            await transaction.bump(TOPIC)
        return _read(rows[0])

    async def rotate(self, key_id: str, *, grace_s: int = 0, organization_id: str | None = None) -> Issued:
        """Give a key a new secret; the old one goes on for `grace_s` seconds, by default not at all.

        Raises NotFound, and Refused (409) for a revoked key.
        """
        sql = """UPDATE keys SET digest = :digest, prefix = :prefix, previous_until = :until,
                 previous_digest = CASE WHEN :until IS NULL THEN NULL ELSE digest END
                 WHERE id = :id RETURNING *"""
        until = int(time.time()) + grace_s if grace_s > 0 else None
        async with self._storage.transaction() as transaction:
            row = await _find(transaction, key_id, organization_id)
            if not row["is_active"]:
                raise Refused("A revoked key cannot be rotated; create a new one.", status=409)
            secret = _make_secret(row["environment"])
            fields = {"id": key_id, "until": until, **_traces(secret)}
            rows = await transaction.fetch_all(sql, fields)
            await transaction.bump(TOPIC)
        return Issued(_read(rows[0]), secret)


def digest_of(secret: str) -> str:
    """Give what the table holds of a secret: its SHA-256 digest in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()


async def _insert(transaction: Transaction, new: NewKey, organization_id: str) -> Issued:
    secret = _make_secret(new.environment)
    fields: dict[str, Any] = {name: getattr(new, name) for name in NewKey.__struct_fields__}
    fields["scopes"] = sorted(set(PROXY_SCOPES if new.scopes is None else new.scopes))
    for name in _LISTS:
        if fields[name] is not None:
            fields[name] = msgspec.json.encode(fields[name]).decode()
    fields["expires_at"] = int(new.expires_at.timestamp()) if new.expires_at is not None else None
    fields |= {
        "id": "key_" + _random(20),
        "organization_id": organization_id,
        "is_active": 1,
        "created_at": int(time.time()),
        **_traces(secret),
    }
    columns, places = ", ".join(fields), ", ".join(f":{name}" for name in fields)
    sql = f"INSERT INTO keys ({columns}) VALUES ({places}) RETURNING *"  # noqa: S608 - our own names
    rows = await transaction.fetch_all(sql, fields)
    await transaction.bump(TOPIC)
    return Issued(_read(rows[0]), secret)


async def _find(where: Storage | Transaction, key_id: str, organization_id: str | None) -> Row:
    row = await where.fetch_one("SELECT * FROM keys WHERE id = ?", (key_id,))
    if row is None or organization_id not in (None, row["organization_id"]):
        raise NotFound("There is no such key.")
    return row


def _read(row: Row) -> Key:
    fields = {name: row[name] for name in Key.__struct_fields__}
    for name in _LISTS:
        if fields[name] is not None:
            fields[name] = tuple(msgspec.json.decode(fields[name]))
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = datetime.fromtimestamp(fields[name], UTC)
    fields["is_active"] = bool(fields["is_active"])
    return Key(**fields)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _make_secret(environment: str) -> str:
    return f"rk_{environment}_{_random(_SECRET_LENGTH)}"


def _traces(secret: str) -> dict[str, str]:
    return {"digest": digest_of(secret), "prefix": secret[:_PREFIX_LENGTH]}


def _check(new: NewKey) -> None:
    if not new.name.strip() or len(new.name) > 200 or not new.name.isprintable():
        raise _invalid("name", "must have 1 to 200 printable characters")
    for param, entries in (
        ("scopes", new.scopes),
        ("allowedModels", new.allowed_models),
        ("ipAllowlist", new.ip_allowlist),
    ):
        if entries is not None and not 0 < len(entries) <= _MAX_ENTRIES:
            raise _invalid(param, f"must be null for no limit, or have 1 to {_MAX_ENTRIES} entries")
    for pattern in new.allowed_models or ():
        if not pattern or not pattern.isprintable():
            raise _invalid("allowedModels", f"the pattern {pattern!r} matches no name")
    for network in new.ip_allowlist or ():
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise _invalid("ipAllowlist", str(error)) from None
    if new.expires_at is not None and not time.time() < new.expires_at.timestamp() < 2**40:
        raise _invalid("expiresAt", "must be in the future")


def _invalid(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {message}.", type="validation_error", param=param)
