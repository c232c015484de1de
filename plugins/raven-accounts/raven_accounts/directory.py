"""Who there is: organisations, seats and sessions in memory, as a request sees them.

Read from the tables as a whole and replaced as a whole when one of them changes; no request reads the
database, but for a session of ours that this worker has not heard of yet.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from raven_proxy import Principal
from raven_proxy.organizations import DEFAULT, Member, Organization, Organizations
from raven_proxy.resources import Caller
from raven_proxy.storage import Row, Storage

from .sessions import Session, digest_of

if TYPE_CHECKING:
    from .sessions import Names

__all__ = ["SCOPES", "Directory", "Seat"]

_READING = frozenset({"admin:read", "models:read", "usage:read"})
_WORKING = _READING | frozenset(
    "admin:write chat:write embeddings:write images:write audio:write video:write files:read "
    "files:write".split()
)
SCOPES: Mapping[str, frozenset[str]] = {
    "viewer": _READING, "developer": _WORKING, "admin": _WORKING, "owner": _WORKING,
}  # fmt: skip
"""What a session may do by its role; the roles of resources and routes bound it further."""

_SEEN = "UPDATE sessions SET seen_at = ? WHERE digest = ? AND seen_at < ?"
_SEEN_INTERVAL_S = 60.0  # between two writes of one session's use; less where sessions are short
_MAX_GONE = 10_000
_BREATH = 500  # rows read before other work gets its turn


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one organisation, active both."""

    member_id: str
    user_id: str
    organization_id: str
    email: str
    name: str
    role: str
    principal: Principal


class Directory:
    """The snapshot of one worker. It fills the gateway's `Organizations` as well."""

    def __init__(
        self, storage: Storage, organizations: Organizations, names: Names, idle_s: float, lifetime_s: float
    ) -> None:
        self.storage = storage
        self._organizations = organizations
        self._names = names
        self._idle_s = idle_s
        self._seen_interval_s = min(_SEEN_INTERVAL_S, idle_s / 4)
        self._lifetime_s = lifetime_s
        self._seats: Mapping[str, tuple[Seat, ...]] = {}  # user id → the oldest first
        self._users: Mapping[str, str] = {}  # member id → user id
        self._sessions: Mapping[str, Session] = {}
        self._seen: dict[str, int] = {}  # digest → when, as far as this worker knows
        self._gone: dict[str, None] = {}  # digests of ours that are over, so that none is looked up twice
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read everything anew; from the next request on it holds."""
        await self.refresh_people()
        await self.refresh_sessions()

    async def refresh_people(self) -> None:
        """Read organisations and members anew."""
        async with self._refreshing:  # the one that began last must also end last
            organizations = _read_organizations(await self.storage.fetch_all("SELECT * FROM organizations"))
            open_ones = {one.id for one in organizations.values() if one.is_active}
            rows = await self.storage.fetch_all("SELECT * FROM members ORDER BY joined_ns, id")
            members: dict[str, Member] = {}
            seats: dict[str, tuple[Seat, ...]] = {}
            async for row in _with_breath(rows):
                members[row["id"]] = _read_member(row)
                if row["is_active"] and row["organization_id"] in open_ones:
                    seats[row["user_id"]] = (*seats.get(row["user_id"], ()), _read_seat(row))
            self._organizations.replace(organizations, members)
            self._users = {row["id"]: row["user_id"] for row in rows}
            self._seats = seats

    async def refresh_sessions(self) -> None:
        """Read the sessions anew."""
        async with self._refreshing:
            rows = await self.storage.fetch_all("SELECT * FROM sessions")
            sessions = {row["digest"]: Session(**row) async for row in _with_breath(rows)}
            self._sessions = sessions
            self._seen = {digest: at for digest, at in self._seen.items() if digest in sessions}

    async def find(self, session_id: str) -> tuple[Session, tuple[Seat, ...]] | None:
        """Give a session that is good now, and its person's seats; None if there is none."""
        digest = digest_of(session_id)
        session = self._look(digest)
        if session is None and digest not in self._gone and self._names.is_ours(session_id):
            # Another worker may have made it, or seen it, a moment ago.
            await self.storage.flush()
            await self.refresh()
            session = self._look(digest)
            if session is None:
                self._gone[digest] = None
                if len(self._gone) > _MAX_GONE:
                    del self._gone[next(iter(self._gone))]
        seats = self.seats_of(session.user_id) if session is not None else ()
        if session is None or not seats:
            return None
        self._note(session)
        return session, seats

    def seats_of(self, user_id: str) -> tuple[Seat, ...]:
        """Give where a person is a member now, the oldest first."""
        return self._seats.get(user_id, ())

    def seat_of(self, member_id: str) -> Seat | None:
        """Give a member's seat, if they and their organisation are active."""
        seats = self.seats_of(self._users.get(member_id, ""))
        return next((seat for seat in seats if seat.member_id == member_id), None)

    def visible_to(self, caller: Caller) -> tuple[str, ...] | None:
        """Give the organisations that a caller may know of; None for all.

        A person sees all of theirs; a key its own: an administrator can make one that is somebody else's.
        """
        if caller.is_operator:
            return None
        theirs = () if caller.key_id else self.seats_of(self._users.get(caller.actor, ""))
        return tuple(seat.organization_id for seat in theirs) or (caller.organization_id,)

    def _look(self, digest: str) -> Session | None:
        """Give a session that is neither idle nor old."""
        session = self._sessions.get(digest)
        if session is None:
            return None
        now = time.time()
        seen_at = max(session.seen_at, self._seen.get(digest, 0))
        is_over = now >= session.created_at + self._lifetime_s or now >= seen_at + self._idle_s
        return None if is_over else session

    def _note(self, session: Session) -> None:
        # Rounded up: a session lasts rather a moment longer than it should.
        now, digest = math.ceil(time.time()), session.digest
        if now >= max(session.seen_at, self._seen.get(digest, 0)) + self._seen_interval_s:
            self._seen[digest] = now
            self.storage.write_behind(_SEEN, (now, digest, now))


async def _with_breath(rows: Iterable[Row]) -> AsyncIterator[Row]:
    """Give rows one by one, and other work of the event loop its turn now and then."""
    for number, row in enumerate(rows, 1):
        yield row
        if not number % _BREATH:
            await asyncio.sleep(0)


def _read_organizations(rows: Iterable[Row]) -> dict[str, Organization]:
    found = {}
    for row in rows:
        networks, residency = row["ip_allowlist"], msgspec.json.decode(row["data_residency"])
        regions = residency["allowedRegions"]
        found[row["id"]] = Organization(
            id=row["id"],
            name=row["name"],
            is_active=bool(row["is_active"]),
            ip_allowlist=None if networks is None else tuple(msgspec.json.decode(networks)),
            allowed_regions=None if regions is None else tuple(regions),
            enforce_strictly=residency["enforceStrictly"],
            allow_unpriced=None if row["allow_unpriced"] is None else bool(row["allow_unpriced"]),
        )
    return found


def _read_member(row: Row) -> Member:
    return Member(
        id=row["id"],
        organization_id=row["organization_id"],
        role=row["role"],
        is_active=bool(row["is_active"]),
        rate_multiplier=_read_multiplier(row),
    )


def _read_seat(row: Row) -> Seat:
    principal = Principal(
        key_id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"] or row["email"],
        scopes=SCOPES[row["role"]],
        role=row["role"],
        is_operator=bool(row["is_operator"]) and row["role"] == "owner" and row["organization_id"] == DEFAULT,
        attributes={
            "environment": "live",
            "member_id": row["id"],
            "rate_multiplier": _read_multiplier(row),
        },
    )
    return Seat(
        member_id=row["id"],
        user_id=row["user_id"],
        organization_id=row["organization_id"],
        email=row["email"],
        name=row["name"],
        role=row["role"],
        principal=principal,
    )


def _read_multiplier(row: Row) -> Decimal:
    return Decimal(msgspec.json.decode(row["rate_multiplier"]))
