"""The plugin `accounts`: organisations, their members, roles, and the sessions of people.

Responsible for `/orgs`, `/orgs/{organization}/members`, `/auth` and for who a session's cookie is; keys are
another plugin's. It fills the gateway's table of organisations and members, to which keys are bound, and
refuses whoever's organisation is gone or switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hmac import compare_digest
from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from raven_proxy import (
    Exchange,
    Face,
    Finding,
    Forbidden,
    GatewayError,
    NotFound,
    Principal,
    Unauthenticated,
    hookimpl,
)
from raven_proxy.gateway import Gateway
from raven_proxy.organizations import Organizations
from raven_proxy.resources import Resource

from . import forgery, members, orgs, sessions, setup
from .commands import members_group
from .directory import Directory, Seat
from .entrance import Entrance, Visit, is_tls
from .faces import SETUP, make_faces
from .passwords import MEMORY_KIB, ROUNDS, Passwords
from .tables import ADD_DEFAULT, MIGRATIONS
from .throttle import Throttle

__all__ = ["Accounts"]

_KEY_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key"})
_BY_ID = frozenset({f"{orgs.NAME}-get", f"{orgs.NAME}-change", f"{orgs.NAME}-delete"})
_SETUP = Principal(
    key_id="setup", name="Set-up token", scopes=frozenset({"admin:write"}), role="owner", is_operator=True
)
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Accounts:
    """Knows people by their session's cookie, and one stranger by the token of the first start."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.accounts]`.

        A session ends `session_idle_s` after its last request and `session_lifetime_s` after the login.
        Wrong passwords count within `attempts_window_s`, for one account and for one address (of IPv6: for
        its /64 network); attempts of everybody together within a minute. `argon2_memory_kib` and
        `argon2_rounds` are Argon2id's; a password that was hashed with others is hashed anew at its login.
        """

        session_idle_s: Seconds = 28_800.0
        session_lifetime_s: Seconds = 604_800.0
        attempts_per_account: Count = 10
        attempts_per_address: Count = 50
        attempts_per_minute: Count = 300
        attempts_window_s: Count = 900
        argon2_memory_kib: Annotated[int, Meta(ge=19_456, le=4_194_304)] = MEMORY_KIB
        argon2_rounds: Annotated[int, Meta(ge=2, le=100)] = ROUNDS

    def __init__(self, config: Config | None = None) -> None:
        self._config = config = config or Accounts.Config()
        self._passwords = Passwords(config.argon2_memory_kib, config.argon2_rounds)
        self._directory: Directory
        self._entrance: Entrance
        self._names: sessions.Names
        self._organizations: Organizations
        self._setup_digest: str | None = None
        self._stops: list[Callable[[], None]] = []

    @hookimpl
    def register_commands(self, register: Callable[[click.Command], None]) -> None:
        """Add `raven-proxy members`."""
        register(members_group)

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/orgs` and `/orgs/{organization}/members`."""
        register(orgs.make_resource(lambda caller: self._directory.visible_to(caller)))
        register(members.make_resource(self._passwords))

    @hookimpl
    def register_routes(self, register: Callable[[Face], None]) -> None:
        """Add `/auth`."""
        for face in make_faces(lambda: self._entrance):
            register(face)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read who there is; offer the token of the first start."""
        config, storage = self._config, gateway.storage
        await storage.migrate("accounts", MIGRATIONS)
        await storage.execute(ADD_DEFAULT, (int(time.time()),))
        self._organizations = gateway.organizations
        self._names = names = sessions.Names(gateway.secret)
        limits = {"idle_s": config.session_idle_s, "lifetime_s": config.session_lifetime_s}
        self._directory = Directory(storage, gateway.organizations, names, **limits)
        throttle = Throttle(
            gateway.counters,
            per_account=config.attempts_per_account,
            per_address=config.attempts_per_address,
            per_minute=config.attempts_per_minute,
            window_s=config.attempts_window_s,
        )
        self._entrance = Entrance(gateway, self._directory, names, self._passwords, throttle, **limits)
        token = await setup.offer_token(storage)
        if token is not None:
            gateway.announce("setup_token", token)
        for topic in (orgs.NAME, members.NAME):
            self._stops.append(storage.watch(topic, self._refresh_people))
        self._stops.append(storage.watch(sessions.TOPIC, self._directory.refresh_sessions))
        await self._refresh_people()
        await self._directory.refresh_sessions()

    @hookimpl
    async def shutdown(self) -> None:
        """Watch no longer."""
        for stop in self._stops:
            stop()

    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        """Find the person by their session. A key that is sent as well wins: it says itself what it may."""
        headers = exchange.headers
        cookie = headers.get("cookie")
        if cookie is None or not _KEY_HEADERS.isdisjoint(headers):
            return self._know_token(exchange) if exchange.face.name == SETUP else None
        session_id = sessions.read_cookie(cookie)
        if session_id is None:
            return None
        found = await self._directory.find(session_id)
        if found is None:
            raise Unauthenticated("This session is over; sign in again.", code="session_expired")
        if exchange.request.method not in forgery.SAFE_METHODS:
            forgery.check_request(headers, self._names.csrf_token(session_id), is_tls=is_tls(exchange))
        _, seats = found
        seat, principal = self._choose(exchange, seats)
        exchange.notes["accounts"] = Visit(session_id, seat, seats)
        return principal

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Refuse whose organisation is gone or switched off, and a path to one that is not there."""
        principal = exchange.principal
        assert principal is not None
        organization = self._organizations.get(principal.organization_id)
        if organization is None:
            raise Unauthenticated("Invalid API key.")
        if not organization.is_active:
            raise Forbidden("This organisation is switched off.")
        named = exchange.params.get("organization")
        if named is not None and self._organizations.get(named) is None:
            raise NotFound("There is no such organisation.")

    @hookimpl
    async def find_principal(self, key_id: str) -> Principal | None:
        """Give the caller that a member's id stands for, as a session of theirs would be."""
        seat = self._directory.seat_of(key_id)
        return seat.principal if seat is not None else None

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say whether the caller's organisation is there and on."""
        try:
            await self.check_request(exchange)
        except GatewayError as error:
            return [Finding.refusing("organization", error)]
        return [Finding(rule="organization", verdict="allows", reason="It is switched on.")]

    async def _refresh_people(self) -> None:
        await self._directory.refresh_people()
        self._setup_digest = await setup.read_token(self._directory.storage)

    def _know_token(self, exchange: Exchange) -> Principal | None:
        sent = exchange.headers.get("authorization", "").partition(" ")[2]
        digest = sessions.digest_of(sent)
        known = self._setup_digest
        if known is not None and compare_digest(digest, known):
            return _SETUP
        if sent.startswith(setup.PREFIX):
            raise Unauthenticated(f"This set-up token is not valid, or was used. {setup.ANOTHER}.")
        return None

    def _choose(self, exchange: Exchange, seats: tuple[Seat, ...]) -> tuple[Seat, Principal]:
        """Give the seat that the request is made from: the path names it, or X-Org-Id, or it is the oldest.

        Raises NotFound for an organisation that is not theirs.
        """
        ruling = next((seat for seat in seats if seat.principal.is_operator), None)
        named = exchange.headers.get("x-org-id")
        face = exchange.face
        if ruling is not None and ((face.scope or "").startswith("admin:") or face.name.startswith("auth-")):
            if named is None:
                return ruling, ruling.principal
            self._organizations.require(named)
            return ruling, msgspec.structs.replace(ruling.principal, organization_id=named)
        params = exchange.params
        named = params.get("organization", params.get("id") if face.name in _BY_ID else None) or named
        if named is None:
            return seats[0], seats[0].principal
        for seat in seats:
            if seat.organization_id == named:
                return seat, seat.principal
        raise NotFound("There is no such organisation.")
