"""The plugin `auth-keys`: who is calling, by virtual keys in the database.

Responsible for `authenticate`, the first administrator's key and the `keys` commands. Scopes and
allowed models travel in the `Principal`; the gateway checks them. No request touches the database.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import click
import msgspec

from raven_proxy import Exchange, Finding, Forbidden, NotFound, Principal, Unauthenticated, hookimpl
from raven_proxy.gateway import Gateway
from raven_proxy.headers import is_inside
from raven_proxy.organizations import Organizations
from raven_proxy.resources import Change, Resource, invalid
from raven_proxy.storage import Storage

from .administrator import ENVIRONMENT_KEY_ID, read_environment
from .commands import keys_group
from .keys import ADMIN_SCOPES, KEYS, PROXY_SCOPES, Key, NewKey, judge
from .snapshot import NOBODY, Entry, load_entries
from .store import Issued, KeyStore

__all__ = ["ADMIN_SCOPES", "PROXY_SCOPES", "AuthKeys", "Issued", "Key", "KeyStore", "NewKey"]

_TOUCH_INTERVAL_S = 60.0
_TOUCH = "UPDATE keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)"
_BARE = ("x-api-key", "x-goog-api-key")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="raven-proxy"'}  # RFC 9110 section 11.6.1


class AuthKeys:
    """Accepts `Authorization: Bearer <key>`, or the bare key as other vendors' clients send it.

    Anthropic's clients send `x-api-key`, Google's `x-goog-api-key`. A key in the query is never looked at.
    """

    def __init__(self) -> None:
        self._entries: Mapping[str, Entry] = {}
        self._fixed: dict[str, Entry] = {}  # the administrator of the environment
        self._touch_after: dict[str, float] = {}  # key id → when its use is worth a row again
        self._gateway: Gateway
        self._storage: Storage
        self._organizations: Organizations
        self._refreshing = asyncio.Lock()
        self._stop_watching: Callable[[], None] | None = None

    @hookimpl
    def register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Add `raven-proxy keys`."""
        register(keys_group)

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/keys`."""
        register(msgspec.structs.replace(KEYS, check=self._judge))

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Load the keys; make and announce an administrator's if there is none."""
        self._gateway = gateway
        self._storage = gateway.storage
        self._organizations = gateway.organizations
        store = KeyStore(gateway.storage)
        await store.migrate()
        administrator = read_environment(is_loopback=gateway.config.is_loopback())
        if administrator is not None:
            self._fixed = {administrator.digest: administrator}
            self._touch_after[ENVIRONMENT_KEY_ID] = math.inf
        else:
            issued = await store.create_first_administrator()
            if issued is not None:
                gateway.announce("admin_key", issued.secret)
        self._stop_watching = gateway.storage.watch(KEYS.name, self.refresh)
        await self.refresh()

    @hookimpl
    async def shutdown(self) -> None:
        """Watch no longer."""
        if self._stop_watching is not None:
            self._stop_watching()

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        """Find the caller by the key's digest; every bad key gets one and the same answer."""
        headers = exchange.headers
        credentials = headers.get("authorization")
        if "x-api-key" in headers or "x-goog-api-key" in headers:
            token = _read_token(headers)
        elif credentials is not None:  # most requests
            token = credentials[7:]
            if credentials[:7].lower() != "bearer ":
                raise _bad_key()
        elif "cookie" in headers:
            return None  # a plugin that knows sessions may know the caller
        else:
            raise _no_key()
        # Header values may hold bytes that are no UTF-8; such a key is simply unknown.
        digest = sha256(token.encode("utf-8", "backslashreplace")).hexdigest()
        entry = self._entries.get(digest, NOBODY)
        now = time.time()
        if not compare_digest(entry.digest, digest) or now >= entry.expires_at:
            raise _bad_key()
        if entry.networks is not None and not is_inside(exchange.client_address, entry.networks):
            raise _elsewhere()
        principal = self._organizations.bind(entry.principal)
        if principal is None:  # its organisation or its member is gone
            raise _bad_key()
        if now >= self._touch_after.get(principal.key_id, 0.0):
            self._touch(principal.key_id, now)
        if "x-org-id" in headers and (exchange.face.scope or "").startswith("admin:"):
            return self._act_for(principal, headers["x-org-id"])
        return principal

    @hookimpl
    async def find_principal(self, key_id: str) -> Principal | None:
        """Give the caller that a key's id stands for."""
        entry = self._find(key_id)
        return None if entry is None else self._organizations.bind(entry.principal)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say whether the key would be accepted now, from this address."""
        entry = self._find(exchange.principal.key_id) if exchange.principal is not None else None
        if entry is None:
            return []
        if time.time() >= entry.expires_at:
            return [Finding.refusing("key", _bad_key())]
        if entry.networks is not None and not is_inside(exchange.client_address, entry.networks):
            return [Finding.refusing("key", _elsewhere())]
        return [Finding(rule="key", verdict="allows", reason="It is active.")]

    async def refresh(self) -> None:
        """Read the keys anew; from the next request on the new ones hold."""
        async with self._refreshing:  # the one that began last must also end last
            self._entries = {**await load_entries(self._storage), **self._fixed}

    async def _judge(self, change: Change[NewKey]) -> None:
        """Refuse a key for somebody who is not there, or on a plan that is not: it would be refused, and
        nobody would know why.
        """
        await judge(change)
        self._check_plan(change)
        member_id = change.body.member_id
        if member_id is None or (change.before is not None and change.before.body.member_id == member_id):
            return
        members = next((one for one in self._gateway.pipeline.resources if one.name == "members"), None)
        if members is None:
            return  # whoever keeps them is not here
        sql = f"SELECT id FROM {members.table} WHERE id = ? AND organization_id = ?"  # noqa: S608
        if await change.transaction.fetch_one(sql, (member_id, change.caller.organization_id)) is None:
            raise invalid("memberId", "there is no such member in this organisation")

    def _check_plan(self, change: Change[NewKey]) -> None:
        """Refuse a plan that nobody knows, where the plugin is on that goes by the config's plans."""
        plan, before = change.body.plan, change.before
        if plan is None or (before is not None and before.body.plan == plan):
            return
        plans = self._gateway.config.all_plans()
        if plan not in plans and any(one.name == "limits" for one in self._gateway.pipeline.plugins):
            raise invalid("plan", f"there is no such plan; there are {', '.join(sorted(plans))}")

    def _act_for(self, principal: Principal, organization_id: str) -> Principal:
        """Let who runs the gateway manage the organisation that they name; a key has its own and no other."""
        if organization_id == principal.organization_id:
            return principal
        if not principal.is_operator:
            raise NotFound("There is no such organisation.")
        self._organizations.require(organization_id)
        return msgspec.structs.replace(principal, organization_id=organization_id)

    def _find(self, key_id: str) -> Entry | None:
        return next((one for one in self._entries.values() if one.principal.key_id == key_id), None)

    def _touch(self, key_id: str, now: float) -> None:
        self._touch_after[key_id] = now + _TOUCH_INTERVAL_S
        self._storage.write_behind(_TOUCH, (int(now), key_id, int(now)))


def _read_token(headers: Mapping[str, str]) -> str:
    """Read a key that stands bare in a header. Raises Unauthenticated for others beside it that differ."""
    found = [headers[name] for name in _BARE if name in headers]
    credentials = headers.get("authorization")
    if credentials is not None:
        if credentials[:7].lower() != "bearer ":
            raise _bad_key()
        found.append(credentials[7:])
    if any(other != found[0] for other in found):  # who is it then?
        raise _bad_key()
    return found[0]


def _elsewhere() -> Forbidden:
    return Forbidden("This key may not be used from this address.", code="ip_not_allowed")


def _bad_key() -> Unauthenticated:
    return Unauthenticated("Invalid API key.", code="invalid_api_key", headers=dict(_CHALLENGE))


def _no_key() -> Unauthenticated:
    return Unauthenticated(
        "No API key was given. Send it as: Authorization: Bearer <key> (or as x-api-key: <key>).",
        code="invalid_api_key",
        headers=dict(_CHALLENGE),
    )
