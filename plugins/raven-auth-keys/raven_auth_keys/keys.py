"""Virtual keys: what one is, and the rules about its fields.

Responsible for the table `keys` and the resource `/keys`. The secret itself is in the answer of a create
and a rotate and nowhere else: the table holds its SHA-256 digest.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import Forbidden, Refused
from raven_proxy.resources import Action, ActionCall, Caller, Change, Record, Resource, invalid, outranks
from raven_proxy.storage import Transaction

from .bounds import check_bounds, note_bounds

__all__ = [
    "ADMIN_SCOPES", "KEYS", "MIGRATIONS", "PROXY_SCOPES", "Key", "NewKey", "Rotation", "digest_of",
    "judge", "rotate",
]  # fmt: skip

PROXY_SCOPES = (
    "chat:write", "embeddings:write", "images:write", "audio:write", "video:write",
    "files:read", "files:write", "models:read", "usage:read",
)  # fmt: skip
ADMIN_SCOPES = ("admin:read", "admin:write")

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
    # Who had an administrator's key before there was a management API, had it from the command line.
    """ALTER TABLE keys ADD COLUMN is_operator INTEGER NOT NULL DEFAULT 0;
    UPDATE keys SET is_operator = 1 WHERE scopes LIKE '%"admin:write"%';""",
    "ALTER TABLE keys ADD COLUMN bounds TEXT",
)

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 32  # of 62 letters: 190 bits
_PREFIX_LENGTH = 12
_MAX_ENTRIES = 1000
_MAX_GRACE_S = 30 * 86_400

Scope = Literal[
    "chat:write", "embeddings:write", "images:write", "audio:write", "video:write", "files:read",
    "files:write", "models:read", "usage:read", "admin:read", "admin:write",
]  # fmt: skip
Environment = Literal["live", "test"]
Count = Annotated[int, Meta(ge=1, le=2**53)]
Time = Annotated[datetime, Meta(tz=True)]


class NewKey(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What can be said of a key; the body of `POST /keys`.

    `None` means no limit. An empty list is refused, because it can be read both ways. `allowed_models`
    are glob patterns, `ip_allowlist` networks in CIDR form. Rates are per minute and day, in requests
    and tokens.
    """

    name: Annotated[str, Meta(max_length=200)]
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
    is_active: bool = True


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What reading a key adds: the beginning of its secret, and when it was last used."""

    prefix: str
    last_used_at: datetime | None


class ShownOnce(msgspec.Struct, kw_only=True):
    """What a create and a rotate add, this once: the secret."""

    key: str


class Rotation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /keys/{id}/rotate`: how long the former secret goes on, in seconds."""

    grace_s: Annotated[int, Meta(ge=0, le=_MAX_GRACE_S)] = 0


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


def digest_of(secret: str) -> str:
    """Give what the table holds of a secret: its SHA-256 digest in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()


def _make_secret(environment: str) -> str:
    """Make a secret of 190 random bits."""
    return f"rk_{environment}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))


def _traces_of(secret: str) -> dict[str, str]:
    """Give the columns that a secret leaves."""
    return {"digest": digest_of(secret), "prefix": secret[:_PREFIX_LENGTH]}


# -- the rules ---------------------------------------------------------------------------


async def judge(change: Change[NewKey]) -> None:
    """Judge a key that is made or changed, and fill its columns. Raises InvalidRequest, Forbidden."""
    new, before = change.body, change.before
    _check_fields(new)
    if new.expires_at is not None and "expires_at" in change.given:
        is_same = before is not None and before.body.expires_at == new.expires_at
        if not is_same and not time.time() < new.expires_at.timestamp() < 2**40:
            raise invalid("expiresAt", "must be in the future")
    scopes = tuple(sorted(set(PROXY_SCOPES if new.scopes is None else new.scopes)))
    if new.member_id is None and _has_own_only(change.caller):
        new = msgspec.structs.replace(new, member_id=change.caller.actor)
    change.body = msgspec.structs.replace(new, scopes=scopes)
    _check_reach(change.caller, scopes)
    _check_own(change.caller, new.member_id)
    check_bounds(change.caller, before, change.body)
    change.columns["bounds"] = note_bounds(change.caller, before, change.body)
    if before is None:
        secret = _make_secret(new.environment)
        is_operator = (
            change.caller.is_operator and change.caller.actor == "system" and "admin:write" in scopes
        )
        change.columns |= {**_traces_of(secret), "is_operator": int(is_operator)}
        change.reply["key"] = secret
        return
    _check_reach(change.caller, before.body.scopes or ())
    _check_own(change.caller, before.body.member_id)
    if new.environment != before.body.environment:
        raise invalid("environment", "stands in the secret; create another key")


async def _forget(caller: Caller, record: Record[NewKey], transaction: Transaction) -> None:
    del transaction
    _check_reach(caller, record.body.scopes or ())
    _check_own(caller, record.body.member_id)


async def _show(record: Record[NewKey]) -> Mapping[str, Any]:
    last_used_at = record.columns["last_used_at"]
    return {
        "prefix": record.columns["prefix"],
        "lastUsedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last_used_at))
        if last_used_at
        else None,
    }


async def rotate(call: ActionCall) -> dict[str, Any]:
    """`POST /keys/{id}/rotate`: give a key a new secret; the former one goes on for `graceS` seconds.

    Raises Refused (409) for a key that is switched off.
    """
    record: Record[NewKey] = call.record  # type: ignore[assignment]  # an action on one record has it
    _check_reach(call.caller, record.body.scopes or ())
    _check_own(call.caller, record.body.member_id)
    if not record.body.is_active:
        raise Refused("A revoked key cannot be rotated; create a new one.", status=409)
    secret = _make_secret(record.body.environment)
    grace_s = call.body.grace_s
    columns = {
        **_traces_of(secret),
        "previous_digest": record.columns["digest"] if grace_s else None,
        "previous_until": int(time.time()) + grace_s if grace_s else None,
    }
    rotated = await call.records.write_columns(KEYS, record, columns, call.caller, "rotate")
    return await call.records.show(KEYS, rotated) | {"key": secret}


def _check_reach(caller: Caller, scopes: tuple[str, ...]) -> None:
    """Refuse who would get, change or learn a key that may do more than they may themselves."""
    beyond = sorted(set(scopes) - caller.scopes)
    if beyond and caller.actor != "system":
        raise Forbidden(
            f"A key with the scope {beyond[0]} takes somebody who has it.",
            code="missing_scope",
            param="scopes",
        )
    if set(scopes) & set(ADMIN_SCOPES) and not outranks(caller.role, "admin"):
        raise Forbidden(
            f"A key that administers takes the role admin; yours is {caller.role}.", param="scopes"
        )


def _has_own_only(caller: Caller) -> bool:
    """Say whether somebody has keys of their own only: they end with them, and cost what they cost."""
    return caller.actor.startswith("mem_") and not outranks(caller.role, "admin")


def _check_own(caller: Caller, member_id: str | None) -> None:
    if _has_own_only(caller) and member_id != caller.actor:
        raise Forbidden(
            f"Keys that are not your own take the role admin; yours is {caller.role}.", param="memberId"
        )


def _check_fields(new: NewKey) -> None:
    if not new.name.strip() or not new.name.isprintable():
        raise invalid("name", "must have 1 to 200 printable characters")
    for param, entries in (
        ("scopes", new.scopes),
        ("allowedModels", new.allowed_models),
        ("ipAllowlist", new.ip_allowlist),
    ):
        if entries is not None and not 0 < len(entries) <= _MAX_ENTRIES:
            raise invalid(param, f"must be null for no limit, or have 1 to {_MAX_ENTRIES} entries")
    for pattern in new.allowed_models or ():
        if not pattern or not pattern.isprintable():
            raise invalid("allowedModels", f"the pattern {pattern!r} matches no name")
    for network in new.ip_allowlist or ():
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise invalid("ipAllowlist", str(error)) from None


KEYS: Resource[NewKey] = Resource(
    name="keys",
    singular="key",
    table="keys",
    prefix="key_",
    body=NewKey,
    shown=Shown,
    created=ShownOnce,
    summary="Virtual keys",
    example={"name": "team blue", "allowedModels": ["gpt-4o*"], "rateLimitRpm": 60},
    unique=(),
    filters=("memberId", "environment", "plan"),
    write_role="developer",
    check=judge,
    forget=_forget,
    show=_show,
    actions=(
        Action(
            name="rotate", summary="Give a key a new secret, shown this once", run=rotate, body=Rotation,
            reply=ShownOnce,
        ),
    ),
)  # fmt: skip
