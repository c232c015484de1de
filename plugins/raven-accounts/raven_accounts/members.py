"""`/orgs/{organization}/members`: who belongs to an organisation, and the rules about roles.

Nobody gives a role above their own, changes somebody above them, or takes the last owner away. A person has
one e-mail address and one password in the whole gateway; only who runs it adds a person to a second
organisation, since otherwise whoever invents a password for somebody's address would have it everywhere.
"""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raven_proxy import Forbidden, Refused
from raven_proxy.resources import Caller, Change, Record, Resource, Role, Unkept, invalid, outranks
from raven_proxy.storage import Transaction

from .passwords import MAX_LENGTH, MIN_LENGTH, Passwords, check_strength
from .sessions import end_all

__all__ = ["NAME", "NewMember", "add_user", "leave", "make_resource", "normal_email"]

NAME = "members"
_EMAIL = re.compile(r"[^\s@\"(),:;<>\[\]\\]{1,64}@[^\s@\"(),:;<>\[\]\\]{1,253}")
_MAX_DECIMALS = 6
_MAX_MULTIPLIER = 1_000_000
Multiplier = Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?\Z")]


class NewMember(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /orgs/{organization}/members`.

    `password` is for somebody who is new here. `rate_multiplier` is what their requests' cost is
    multiplied by: a decimal as text, or a number, of at most six decimals.
    """

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    name: Annotated[str, Meta(max_length=200)] = ""
    role: Role = "viewer"
    password: Unkept | None = None
    rate_multiplier: Multiplier | int | float = "1"
    is_active: bool = True


def make_resource(passwords: Passwords) -> Resource[NewMember]:
    """Declare `/orgs/{organization}/members`."""

    async def prepare(fields: Mapping[str, Any]) -> str | None:
        password = fields.get("password")
        if not isinstance(password, str) or not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            return None  # it will be refused
        return await passwords.hash(password)

    return Resource(
        name=NAME, singular="member", table="members", prefix="mem_", body=NewMember,
        path="/orgs/{organization}/members", summary="Members of an organisation",
        example={"email": "ann@example.com", "name": "Ann", "role": "developer",
                 "password": "a raven on a wire", "rateMultiplier": "1.5"},
        unique=("email",), filters=("email", "role"), prepare=prepare, check=_judge, forget=_forget,
    )  # fmt: skip


def normal_email(text: str, param: str = "email") -> str:
    """Write an address in the one form in which it is kept. Raises InvalidRequest."""
    email = unicodedata.normalize("NFKC", text).strip().lower()
    if not _EMAIL.fullmatch(email) or not email.isprintable():
        raise invalid(param, "must be an e-mail address")
    return email


async def add_user(transaction: Transaction, email: str, digest: str) -> str:
    """Add a person; give their id."""
    user_id = f"user_{secrets.token_hex(10)}"
    sql = "INSERT INTO users (id, created_at, email, password) VALUES (?, ?, ?, ?)"
    await transaction.execute(sql, (user_id, int(time.time()), email, digest))
    return user_id


async def leave(transaction: Transaction, member_id: str, user_id: str) -> None:
    """End the sessions of somebody who leaves an organisation, and forget who is in no other."""
    await end_all(transaction, user_id)
    others = "SELECT 1 AS found FROM members WHERE user_id = ? AND id <> ?"
    if await transaction.fetch_one(others, (user_id, member_id)) is None:
        await transaction.execute("DELETE FROM users WHERE id = ?", (user_id,))


# -- the rules ---------------------------------------------------------------------------


async def _judge(change: Change[NewMember]) -> None:
    caller, before = change.caller, change.before
    new = change.body = _tidy(change.body)
    _check_rank(caller, before, new.role)
    _check_multiplier(caller, new, before)
    if new.password is not None:
        check_strength(new.password, new.email)
    if before is None:
        await _join(change)
    else:
        await _alter(change, before)


async def _join(change: Change[NewMember]) -> None:
    new, transaction = change.body, change.transaction
    change.columns["joined_ns"] = time.time_ns()  # a person's first organisation is the one that they act for
    known = await transaction.fetch_one("SELECT id FROM users WHERE email = ?", (new.email,))
    if known is None:
        if new.password is None:
            raise invalid("password", "somebody who is new here needs one")
        change.columns["user_id"] = await add_user(transaction, new.email, change.prepared)
        return
    sql = "SELECT 1 AS found FROM members WHERE user_id = ? AND organization_id = ?"
    if not await transaction.fetch_one(sql, (known["id"], change.caller.organization_id)):
        if not change.caller.is_operator:
            raise Refused(
                "email: this person is a member elsewhere; who runs the gateway can add them here.",
                status=409, param="email",
            )  # fmt: skip
        if new.password is not None:
            raise invalid("password", "this person has one already; leave it out")
    change.columns["user_id"] = known["id"]


async def _alter(change: Change[NewMember], before: Record[NewMember]) -> None:
    new, transaction, old = change.body, change.transaction, before.body
    user_id = before.columns["user_id"]
    if new.email != old.email or new.password is not None:
        await _check_own_person(change, before)
    if new.email != old.email:
        if await transaction.fetch_one("SELECT 1 AS found FROM users WHERE email = ?", (new.email,)):
            raise Refused("email: there is somebody with this address already.", status=409, param="email")
        await transaction.execute("UPDATE users SET email = ? WHERE id = ?", (new.email, user_id))
        await transaction.execute("UPDATE members SET email = ? WHERE user_id = ?", (new.email, user_id))
    if new.password is not None:
        await transaction.execute("UPDATE users SET password = ? WHERE id = ?", (change.prepared, user_id))
    if old.role == "owner" and old.is_active and (new.role != "owner" or not new.is_active):
        await _check_last_owner(transaction, before)
    has_changed = (new.role, new.is_active, new.email) != (old.role, old.is_active, old.email)
    if has_changed or new.password is not None:
        await end_all(transaction, user_id)  # they sign in again, as who they are now


async def _forget(caller: Caller, record: Record[NewMember], transaction: Transaction) -> None:
    _check_rank(caller, record, record.body.role)
    if record.body.role == "owner" and record.body.is_active:
        await _check_last_owner(transaction, record)
    await leave(transaction, record.id, record.columns["user_id"])


def _check_rank(caller: Caller, before: Record[NewMember] | None, role: str) -> None:
    if caller.is_operator:
        return
    if not outranks(caller.role, role):
        raise Forbidden(f"Nobody gives a role above their own; yours is {caller.role}.", param="role")
    if before is not None and not outranks(caller.role, before.body.role):
        raise Forbidden(f"Nobody changes somebody above them; your role is {caller.role}.")
    if before is not None and before.columns["is_operator"]:
        raise Forbidden("Only who runs the gateway changes who runs the gateway.")


def _check_multiplier(caller: Caller, new: NewMember, before: Record[NewMember] | None) -> None:
    """Refuse to make somebody cheaper: it is the one who runs the gateway who would pay for it."""
    old = Decimal(1) if before is None else Decimal(str(before.body.rate_multiplier))
    if Decimal(str(new.rate_multiplier)) < old and not caller.is_operator:
        raise Forbidden(
            "Only who runs the gateway lowers what somebody's requests cost.", param="rateMultiplier"
        )


async def _check_own_person(change: Change[NewMember], before: Record[NewMember]) -> None:
    """Refuse to take over somebody who is not this organisation's alone, or oneself in passing."""
    if change.caller.actor == before.id and change.body.password is not None:
        raise Forbidden("Change your own password with POST /auth/password.", param="password")
    sql = "SELECT 1 AS found FROM members WHERE user_id = ? AND id <> ?"
    others = await change.transaction.fetch_one(sql, (before.columns["user_id"], before.id))
    if others is not None and not change.caller.is_operator:
        raise Forbidden("This person belongs to other organisations too; they change it themselves.")


async def _check_last_owner(transaction: Transaction, record: Record[NewMember]) -> None:
    there = "SELECT 1 AS found FROM organizations WHERE id = ?"
    if await transaction.fetch_one(there, (record.organization_id,)) is None:
        return  # it goes, and its last owner with it
    sql = """SELECT 1 AS found FROM members
             WHERE organization_id = ? AND role = 'owner' AND is_active = 1 AND id <> ?"""
    if await transaction.fetch_one(sql, (record.organization_id, record.id)) is None:
        raise Refused("This is the organisation's last owner; make another one first.", status=409)


def _tidy(new: NewMember) -> NewMember:
    """Write what was sent in the form in which it is kept. Raises InvalidRequest."""
    if not new.name.isprintable():
        raise invalid("name", "must have printable characters only")
    multiplier = Decimal(str(new.rate_multiplier))
    exponent = multiplier.normalize().as_tuple().exponent
    is_finite = isinstance(exponent, int)
    if not is_finite or not 0 <= multiplier <= _MAX_MULTIPLIER or -int(exponent) > _MAX_DECIMALS:
        raise invalid("rateMultiplier", 'must be a decimal of at most six decimals, such as "1.25"')
    text = f"{multiplier.normalize():f}"
    return msgspec.structs.replace(
        new, email=normal_email(new.email), name=new.name.strip(), rate_multiplier=text
    )
