"""The first owner: a token that is shown once, and what `POST /auth/setup` makes of it."""

from __future__ import annotations

import secrets
import time

from raven_proxy import Refused
from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import Caller
from raven_proxy.resources.audit import record
from raven_proxy.storage import Storage, Transaction

from .members import add_user
from .sessions import digest_of
from .shapes import Setup

__all__ = ["ANOTHER", "PREFIX", "check_open", "make_owner", "offer_token", "read_token"]

PREFIX = "rk_setup_"
ANOTHER = "On the gateway's machine `raven-proxy members add EMAIL --operator` makes somebody who runs it"
_OWNER = "SELECT 1 AS found FROM members WHERE organization_id = 'org_default' AND role = 'owner'"


async def offer_token(storage: Storage) -> str | None:
    """Make the one-time token, if there is no owner and none was made before; safe in several processes."""
    async with storage.transaction() as transaction:
        if await transaction.fetch_one(_OWNER):
            await transaction.execute("DELETE FROM setup_tokens")
            return None
        if await transaction.fetch_one("SELECT 1 AS found FROM setup_tokens"):
            return None
        token = f"{PREFIX}{secrets.token_urlsafe(24)}"
        sql = "INSERT INTO setup_tokens (digest, created_at) VALUES (?, ?)"
        await transaction.execute(sql, (digest_of(token), int(time.time())))
    return token


async def read_token(storage: Storage) -> str | None:
    """Give the digest of the token that is good now."""
    row = await storage.fetch_one("SELECT digest FROM setup_tokens")
    return row["digest"] if row is not None else None


async def check_open(storage: Storage | Transaction) -> None:
    """Refuse where there is an owner already (409)."""
    if await storage.fetch_one(_OWNER):
        raise Refused(f"This gateway is set up: it has an owner. {ANOTHER}.", status=409)


async def make_owner(transaction: Transaction, wanted: Setup, email: str, digest: str, caller: Caller) -> str:
    """Make the first owner of `org_default`, who runs the gateway; give their user's id.

    Raises Refused (409) if there is one, or if somebody has the address.
    """
    await check_open(transaction)
    if await transaction.fetch_one("SELECT 1 AS found FROM users WHERE email = ?", (email,)):
        raise Refused("email: there is somebody with this address already.", status=409, param="email")
    now = int(time.time())
    user_id, member_id = await add_user(transaction, email, digest), f"mem_{secrets.token_hex(10)}"
    await transaction.execute(
        """INSERT INTO members (id, organization_id, created_at, user_id, email, name, role, rate_multiplier,
           is_active, is_operator, joined_ns) VALUES (?, ?, ?, ?, ?, ?, 'owner', '"1"', 1, 1, ?)""",
        (member_id, DEFAULT, now, user_id, email, wanted.name.strip(), time.time_ns()),
    )
    if wanted.organization is not None:
        sql = "UPDATE organizations SET name = ? WHERE id = ?"
        await transaction.execute(sql, (wanted.organization, DEFAULT))
    await transaction.execute("DELETE FROM setup_tokens")
    await record(transaction, caller, "auth.setup", member_id, {"email": {"from": None, "to": email}})
    for topic in ("orgs", "members"):
        await transaction.bump(topic)
    return user_id
