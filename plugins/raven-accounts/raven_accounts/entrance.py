"""`/auth`: set up, sign in, sign out, change the password, and who am I."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from raven_proxy import Exchange, Forbidden, InvalidRequest, Reply, Unauthenticated
from raven_proxy.gateway import Gateway
from raven_proxy.headers import client_address, is_inside
from raven_proxy.intake import read_body, require_json
from raven_proxy.judging import judge
from raven_proxy.resources import Caller, invalid
from raven_proxy.resources.routes import caller_of, reply_json

from . import forgery, setup
from .directory import Directory, Seat
from .members import normal_email
from .passwords import Passwords, check_strength
from .sessions import (
    TOPIC,
    Names,
    clear_cookie,
    digest_of,
    end_all,
    open_session,
    read_cookie,
    set_cookie,
)  # fmt: skip
from .shapes import (
    Ended,
    KeyShown,
    Login,
    Me,
    MemberShown,
    OrganizationShown,
    PasswordChange,
    Setup,
    SignedIn,
)
from .throttle import Throttle

__all__ = ["Entrance", "Visit", "is_tls"]

T = TypeVar("T")

_MAX_BODY_BYTES = 16_384
_USER = "SELECT id, password FROM users WHERE email = ?"


class Visit(msgspec.Struct, frozen=True):
    """What `authenticate` found out of a session, kept in `exchange.notes["accounts"]`."""

    session_id: str
    seat: Seat
    seats: tuple[Seat, ...]


class Entrance:
    """The routes, on one gateway."""

    def __init__(
        self, gateway: Gateway, directory: Directory, names: Names, passwords: Passwords, throttle: Throttle,
        *, idle_s: float, lifetime_s: float,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._directory = directory
        self._names = names
        self._passwords = passwords
        self._throttle = throttle
        self._idle_s = idle_s
        self._lifetime_s = lifetime_s

    async def log_in(self, exchange: Exchange) -> Reply:
        """`POST /auth/login`: a session for who knows the password, and one and the same 401 else."""
        secure = is_tls(exchange)
        forgery.check_origin(exchange.headers, is_tls=secure, required=False)
        require_json(exchange.headers)
        config = msgspec.structs.replace(exchange.pipeline.config, max_body_bytes=_MAX_BODY_BYTES)
        login = _read(Login, await read_body(exchange, config))
        email = normal_email(login.email)
        address = _address(exchange)
        await self._throttle.take(email, address)
        user = await self._gateway.storage.fetch_one(_USER, (email,))
        is_right = await self._passwords.matches(user["password"] if user else None, login.password)
        if user is None or not is_right:
            raise _not_you()
        await self._throttle.give_back(email, address)
        await self._directory.refresh_people()  # another worker may have made them a member just now
        if not self._directory.seats_of(user["id"]):
            raise _not_you()
        await self._renew_digest(user, login.password)
        session_id = self._names.make()
        await self._open(session_id, user["id"], instead_of=read_cookie(exchange.headers.get("cookie", "")))
        return await self._welcome(exchange, session_id, user["id"], "auth.login")

    async def log_out(self, exchange: Exchange) -> Reply:
        """`POST /auth/logout`: the session ends, here and in every worker."""
        visit = _visit(exchange)
        await self._end(visit.session_id)
        await self._gateway.records.note(caller_of(exchange), "auth.logout", visit.seat.member_id)
        return reply_json(Ended(), headers=_headers(clear_cookie(is_tls=is_tls(exchange))))

    async def show_me(self, exchange: Exchange) -> Reply:
        """`GET /auth/me`: who asks, by session or by key."""
        principal = exchange.principal
        assert principal is not None
        visit = exchange.notes.get("accounts")
        organization = self._gateway.organizations.get(principal.organization_id)
        own = OrganizationShown(
            id=principal.organization_id, name=organization.name if organization else "", role=principal.role
        )
        me = Me(
            member=_show_seat(visit.seat) if visit else None,
            key=None if visit else KeyShown(id=principal.key_id, name=principal.name),
            organization_id=principal.organization_id,
            organizations=self._show_organizations(visit.seats) if visit else [own],
            role=principal.role,
            scopes=sorted(principal.scopes),
            is_operator=principal.is_operator,
            csrf_token=self._names.csrf_token(visit.session_id) if visit else None,
        )
        return reply_json(me, headers={"Cache-Control": "no-store"})

    async def change_password(self, exchange: Exchange) -> Reply:
        """`POST /auth/password`: the other sessions end, and this one gets a new id."""
        visit = _visit(exchange)
        change = _read(PasswordChange, exchange.body)
        seat, address = visit.seat, exchange.client_address
        await self._throttle.take(seat.email, address)
        user = await self._gateway.storage.fetch_one(_USER, (seat.email,))
        if not await self._passwords.matches(user["password"] if user else None, change.current_password):
            raise InvalidRequest(
                "currentPassword: it is another one.", type="validation_error", param="currentPassword"
            )
        await self._throttle.give_back(seat.email, address)
        check_strength(change.new_password, seat.email, "newPassword")
        digest = await self._passwords.hash(change.new_password)
        session_id = self._names.make()
        async with self._gateway.storage.transaction() as transaction:
            await transaction.execute("UPDATE users SET password = ? WHERE id = ?", (digest, seat.user_id))
            await end_all(transaction, seat.user_id)
            await open_session(
                transaction, session_id, seat.user_id, idle_s=self._idle_s, lifetime_s=self._lifetime_s
            )
        return await self._welcome(exchange, session_id, seat.user_id, "auth.password")

    async def set_up(self, exchange: Exchange) -> Reply:
        """`POST /auth/setup`: the first owner, who runs the gateway; once."""
        assert exchange.principal is not None
        if not exchange.principal.is_operator:
            raise Forbidden("Only who runs the gateway sets it up.")
        wanted = _read(Setup, exchange.body)
        email = normal_email(wanted.email)
        check_strength(wanted.password, email)
        for param, text in (("name", wanted.name), ("organization", wanted.organization or "")):
            if not text.isprintable():
                raise invalid(param, "must have printable characters only")
        await setup.check_open(self._gateway.storage)
        digest = await self._passwords.hash(wanted.password)
        session_id = self._names.make()
        async with self._gateway.storage.transaction() as transaction:
            user_id = await setup.make_owner(transaction, wanted, email, digest, caller_of(exchange))
            await open_session(
                transaction, session_id, user_id, idle_s=self._idle_s, lifetime_s=self._lifetime_s
            )
        reply = await self._welcome(exchange, session_id, user_id, "auth.login")
        reply.status = 201
        return reply

    # -- inside --------------------------------------------------------------------

    async def _renew_digest(self, user: Any, password: str) -> None:
        """Hash anew what was hashed with other parameters: only now is the password at hand."""
        if self._passwords.is_outdated(user["password"]):
            digest = await self._passwords.hash(password)
            sql = "UPDATE users SET password = ? WHERE id = ? AND password = ?"
            await self._gateway.storage.execute(sql, (digest, user["id"], user["password"]))

    async def _open(self, session_id: str, user_id: str, *, instead_of: str | None) -> None:
        async with self._gateway.storage.transaction() as transaction:
            if instead_of:
                await transaction.execute("DELETE FROM sessions WHERE digest = ?", (digest_of(instead_of),))
            await open_session(
                transaction, session_id, user_id, idle_s=self._idle_s, lifetime_s=self._lifetime_s
            )

    async def _end(self, session_id: str) -> None:
        async with self._gateway.storage.transaction() as transaction:
            await transaction.execute("DELETE FROM sessions WHERE digest = ?", (digest_of(session_id),))
            await transaction.bump(TOPIC)

    async def _welcome(self, exchange: Exchange, session_id: str, user_id: str, action: str) -> Reply:
        seats = self._directory.seats_of(user_id)
        if not seats:  # switched off in this very moment
            raise _not_you()
        first = seats[0]
        caller = Caller(
            organization_id=first.organization_id, actor=first.member_id, name=first.principal.name,
            role=first.role, request_id=exchange.id, address=_address(exchange),
        )  # fmt: skip
        await self._gateway.records.note(caller, action, first.member_id)
        welcome = SignedIn(
            member=_show_seat(first),
            organizations=self._show_organizations(seats),
            csrf_token=self._names.csrf_token(session_id),
        )
        cookie = set_cookie(session_id, max_age_s=int(self._lifetime_s), is_tls=is_tls(exchange))
        return reply_json(welcome, headers=_headers(cookie))

    def _show_organizations(self, seats: tuple[Seat, ...]) -> list[OrganizationShown]:
        shown = []
        for seat in seats:
            organization = self._gateway.organizations.get(seat.organization_id)
            name = organization.name if organization is not None else ""
            shown.append(OrganizationShown(id=seat.organization_id, name=name, role=seat.role))
        return shown


def is_tls(exchange: Exchange) -> bool:
    """Say whether the client speaks TLS, to a proxy that is trusted to say so."""
    trusted = exchange.pipeline.trusted
    said = exchange.headers.get("x-forwarded-proto")
    if not said or not trusted or not is_inside(exchange.request.remote or "", trusted):
        return False
    return said.rpartition(",")[2].strip().lower() == "https"


def _address(exchange: Exchange) -> str:
    """Give the client's address; a public face has not been told it."""
    peer = exchange.request.remote or ""
    return exchange.client_address or client_address(peer, exchange.headers, exchange.pipeline.trusted)


def _read(kind: type[T], body: bytes) -> T:
    try:
        return judge(msgspec.json.Decoder(kind).decode, body)
    except InvalidRequest as error:
        error.type = "validation_error"
        raise


def _visit(exchange: Exchange) -> Visit:
    visit: Visit | None = exchange.notes.get("accounts")
    if visit is None:
        raise InvalidRequest("There is no session: this request came with a key.", type="validation_error")
    return visit


def _not_you() -> Unauthenticated:
    return Unauthenticated("The e-mail address or the password is not right.", code="invalid_credentials")


def _show_seat(seat: Seat) -> MemberShown:
    return MemberShown(
        id=seat.member_id,
        organization_id=seat.organization_id,
        email=seat.email,
        name=seat.name,
        role=seat.role,
    )


def _headers(cookie: str) -> dict[str, str]:
    return {"Set-Cookie": cookie, "Cache-Control": "no-store"}
