"""What `/auth` is sent and answers, in JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "Ended", "KeyShown", "Login", "Me", "MemberShown", "OrganizationShown", "PasswordChange", "Setup",
    "SignedIn",
]  # fmt: skip

Email = Annotated[str, Meta(min_length=3, max_length=254)]
Password = Annotated[
    str, Meta(min_length=1, max_length=1024, extra_json_schema={"writeOnly": True, "format": "password"})
]


class Login(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /auth/login`."""

    email: Email
    password: Password

    def __repr__(self) -> str:
        return "Login(…)"


class Setup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /auth/setup`: the first owner, and what the organisation is to be called."""

    email: Email
    password: Password
    name: Annotated[str, Meta(max_length=200)] = ""
    organization: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    def __repr__(self) -> str:
        return "Setup(…)"


class PasswordChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /auth/password`."""

    current_password: Password
    new_password: Password

    def __repr__(self) -> str:
        return "PasswordChange(…)"


class MemberShown(msgspec.Struct, kw_only=True, rename="camel"):
    """Who is signed in, in the organisation that they act for."""

    id: str
    organization_id: str
    email: str
    name: str
    role: str


class OrganizationShown(msgspec.Struct, kw_only=True):
    """An organisation that somebody belongs to, and as what."""

    id: str
    name: str
    role: str


class SignedIn(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer to a login: `csrf_token` is for the header `X-CSRF-Token` of what changes something."""

    member: MemberShown
    organizations: list[OrganizationShown]
    csrf_token: str


class KeyShown(msgspec.Struct, kw_only=True):
    """The key that was sent."""

    id: str
    name: str


class Me(msgspec.Struct, kw_only=True, rename="camel"):
    """Who asks: a member with a session, or a key."""

    member: MemberShown | None
    key: KeyShown | None
    organization_id: str
    organizations: list[OrganizationShown]
    role: str
    scopes: list[str]
    is_operator: bool
    csrf_token: str | None


class Ended(msgspec.Struct):
    """The answer to a logout."""

    success: bool = True
