"""Sessions: their names, their cookie, and the rows that they are.

A session's id is 256 random bits with a tag that only this gateway can make; the table holds its SHA-256.
The tag lets a worker that has not heard of a new session yet tell it from what anybody could invent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import time

import msgspec

from raven_proxy.storage import Transaction

__all__ = [
    "COOKIE", "TOPIC", "Names", "Session", "clear_cookie", "digest_of", "end_all", "open_session",
    "read_cookie", "set_cookie",
]  # fmt: skip

COOKIE = "raven_session"
TOPIC = "sessions"
_ID_BYTES = 32
_TAG_BYTES = 16
_MAX_LENGTH = 128
_MAX_PER_USER = 20


class Session(msgspec.Struct, frozen=True):
    """One row. Times are Unix seconds; `seen_at` lags by up to a minute."""

    digest: str
    user_id: str
    created_at: int
    seen_at: int


class Names:
    """Makes and knows the ids of one gateway's sessions, by its secret."""

    def __init__(self, secret: bytes) -> None:
        self._tag_key = hmac.digest(secret, b"raven-accounts: session", "sha256")
        self._csrf_key = hmac.digest(secret, b"raven-accounts: csrf", "sha256")

    def make(self) -> str:
        """Invent an id."""
        token = secrets.token_urlsafe(_ID_BYTES)
        return f"{token}.{self._tag(token)}"

    def is_ours(self, session_id: str) -> bool:
        """Say whether this gateway made it once; not whether it is still good."""
        token, _, tag = session_id.partition(".")
        return hmac.compare_digest(tag, self._tag(token))

    def csrf_token(self, session_id: str) -> str:
        """Give what a page must send along to change anything."""
        return hmac.new(self._csrf_key, session_id.encode(), "sha256").hexdigest()

    def _tag(self, token: str) -> str:
        tag = hmac.digest(self._tag_key, token.encode(), "sha256")[:_TAG_BYTES]
        return base64.urlsafe_b64encode(tag).decode().rstrip("=")


def digest_of(session_id: str) -> str:
    """Give what the table holds of an id."""
    return hashlib.sha256(session_id.encode()).hexdigest()


# -- the cookie --------------------------------------------------------------------------


def read_cookie(header: str) -> str | None:
    """Find the session's id in a `Cookie` header; "" if it cannot be one, or there are two."""
    found = {
        value.strip().strip('"')
        for name, equals, value in (part.partition("=") for part in header.split(";"))
        if equals and name.strip() == COOKIE
    }
    if not found:
        return None
    session_id = found.pop()
    # Two could be one that a neighbouring host has planted.
    is_sound = not found and len(session_id) <= _MAX_LENGTH and session_id.isascii()
    return session_id if is_sound else ""


def set_cookie(session_id: str, *, max_age_s: int, is_tls: bool) -> str:
    """Write the `Set-Cookie` header of a session (RFC 6265bis)."""
    secure = "; Secure" if is_tls else ""
    return f"{COOKIE}={session_id}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"


def clear_cookie(*, is_tls: bool) -> str:
    """Write the `Set-Cookie` header that ends it."""
    return set_cookie("", max_age_s=0, is_tls=is_tls)


# -- the rows ----------------------------------------------------------------------------


async def open_session(
    transaction: Transaction, session_id: str, user_id: str, *, idle_s: float, lifetime_s: float
) -> None:
    """Add a session; what is over and what a person has too many of goes."""
    now = time.time()
    await transaction.execute(
        "DELETE FROM sessions WHERE created_at < ? OR seen_at < ?",
        (int(now - lifetime_s), int(now - idle_s) - 60),
    )
    rows = await transaction.fetch_all(
        "SELECT digest FROM sessions WHERE user_id = ? ORDER BY seen_at DESC, digest", (user_id,)
    )
    for row in rows[_MAX_PER_USER - 1 :]:
        await transaction.execute("DELETE FROM sessions WHERE digest = ?", (row["digest"],))
    await transaction.execute(
        "INSERT INTO sessions (digest, user_id, created_at, seen_at) VALUES (?, ?, ?, ?)",
        (digest_of(session_id), user_id, int(now), math.ceil(now)),
    )
    await transaction.bump(TOPIC)


async def end_all(transaction: Transaction, user_id: str) -> None:
    """End every session of a person."""
    await transaction.execute("DELETE FROM sessions WHERE user_id = ?", (user_id,))
    await transaction.bump(TOPIC)
