"""Passwords: Argon2id digests (RFC 9106), made and compared in threads, a few at a time.

Where there is no digest to compare with, the same work is done all the same: nobody learns from the time
that an answer takes whether an account exists.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from raven_proxy.errors import Overloaded
from raven_proxy.resources import invalid

__all__ = ["MAX_LENGTH", "MEMORY_KIB", "MIN_LENGTH", "ROUNDS", "Passwords", "check_strength"]

MEMORY_KIB = 47_104
ROUNDS = 2
"""More than OWASP asks for at the least (19 MiB and 2 rounds, Password Storage Cheat Sheet)."""

MIN_LENGTH = 10
MAX_LENGTH = 1024
_MIN_LETTERS = 4  # different ones, once the words of every list of passwords are taken out
_MAX_WAITING = 64
_SALT_BYTES = 16
_DIGEST_BYTES = 32
_WORDS = re.compile(
    r"password|passwort|passw0rd|qwerty\w*|azerty|letmein|welcome|changeme|iloveyou|administrator|admin|"
    r"0?123456(?:7890?|78)?|9876543210?|abcdefghij\w*|secret|raven",
    re.IGNORECASE,
)


class Passwords:
    """Digests with one set of parameters; older ones with others can still be compared.

    `memory_kib` KiB are worked over `rounds` times.
    """

    def __init__(self, memory_kib: int = MEMORY_KIB, rounds: int = ROUNDS) -> None:
        self._hasher = PasswordHasher(
            time_cost=rounds, memory_cost=memory_kib, parallelism=1,
            hash_len=_DIGEST_BYTES, salt_len=_SALT_BYTES,
        )  # fmt: skip
        # Of no password at all, in the form of a digest: comparing with it costs what any other costs.
        noise = (_encode(secrets.token_bytes(size)) for size in (_SALT_BYTES, _DIGEST_BYTES))
        self._nobodys = f"$argon2id$v=19$m={memory_kib},t={rounds},p=1${'$'.join(noise)}"
        self._at_once = asyncio.Semaphore(min(4, os.cpu_count() or 1))
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Give a digest with a salt of its own. Raises Overloaded if too many wait already."""
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def matches(self, digest: str | None, password: str) -> bool:
        """Compare; None never matches, and takes as long. Raises Overloaded."""
        async with self._turn():
            return await asyncio.to_thread(self._verify, digest or self._nobodys, password)

    def is_outdated(self, digest: str) -> bool:
        """Say whether a digest was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(digest)

    def _verify(self, digest: str, password: str) -> bool:
        try:
            return self._hasher.verify(digest, _normal(password))
        except (VerificationError, InvalidHashError):
            return False

    def _turn(self) -> _Turn:
        return _Turn(self)


class _Turn:
    """A place among those at work; the queue for it is bounded."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    async def __aenter__(self) -> None:
        passwords = self._passwords
        if passwords._waiting >= _MAX_WAITING:
            raise Overloaded("Too many people sign in at once; try again in a moment.")
        passwords._waiting += 1
        try:
            await passwords._at_once.acquire()
        finally:
            passwords._waiting -= 1

    async def __aexit__(self, *error: object) -> None:
        self._passwords._at_once.release()


def check_strength(password: str, email: str, param: str = "password") -> None:
    """Refuse what is guessed first: short, the e-mail address, or a word of every list. Raises
    InvalidRequest.
    """
    if len(password) < MIN_LENGTH:
        raise invalid(param, f"must have at least {MIN_LENGTH} characters")
    plain = password.casefold()
    local = email.partition("@")[0]
    if plain in {email, local, email[::-1]} or (len(local) >= MIN_LENGTH and local in plain):
        raise invalid(param, "must not be the e-mail address")
    if len(set(_WORDS.sub("", plain))) < _MIN_LETTERS:
        raise invalid(param, "is one that is guessed first; take several words, or a password manager's")


def _normal(password: str) -> bytes:
    """Write a password in one form, whatever keyboard it came from (NIST SP 800-63B section 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
