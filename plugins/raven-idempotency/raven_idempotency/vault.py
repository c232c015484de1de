"""Replies as they are kept: status, headers and bytes in one sealed piece (AES-256-GCM).

Each entry has a key of its own, derived from the gateway's secret and the entry's name, and is bound to
the request that it answers: a piece that was moved to another row does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .identity import Identity

__all__ = ["Kept", "Vault", "derive"]

_NONCE_BYTES = 12


class Kept(msgspec.Struct, array_like=True):
    """What a client got. Header names are lower case; `request_id` is the first request's."""

    status: int
    headers: dict[str, str]
    body: bytes
    request_id: str


def derive(secret: bytes, purpose: str) -> bytes:
    """Derive 32 bytes for one purpose from the gateway's secret."""
    return hmac.digest(secret, b"raven-idempotency/" + purpose.encode(), hashlib.sha256)


class Vault:
    """Seals and opens kept replies."""

    def __init__(self, secret: bytes) -> None:
        self._secret = derive(secret, "replies")

    def seal(self, identity: Identity, kept: Kept) -> bytes:
        """Encrypt a reply for one entry."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(identity).encrypt(
            nonce, msgspec.msgpack.encode(kept), _bound_to(identity)
        )

    def open(self, identity: Identity, sealed: bytes) -> Kept | None:
        """Decrypt it; None if it is not what was sealed for this entry."""
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher(identity).decrypt(nonce, text, _bound_to(identity))
            return msgspec.msgpack.decode(plain, type=Kept)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return None

    def _cipher(self, identity: Identity) -> AESGCM:
        return AESGCM(derive(self._secret, identity.id))


def _bound_to(identity: Identity) -> bytes:
    return f"{identity.id}/{identity.fingerprint}".encode()
