"""Keeping secrets that must be read again: AES-256-GCM under the gateway's secret.

Used for provider keys, webhook secrets and the like. What a gateway only compares (its own keys,
passwords) is hashed and not sealed. A sealed value is bound to its place: moved to another row or
column it does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["SealBroken", "Sealer"]

_VERSION = b"\x01"
_NONCE_BYTES = 12
_HINT_BYTES = 4
_MIN_FOR_HINT = 12  # a hint of a shorter secret would give away too much of it
_PURPOSE = b"raven-proxy/sealed"


class SealBroken(Exception):
    """No known secret opens a sealed value: `RAVEN_SECRET` was changed, or the value was moved."""


class Sealer:
    """Seals with the present secret; opens what was sealed with it or with a former one.

    A sealed value is: version, length of the hint, hint (the last four characters, in the clear), nonce,
    ciphertext with its tag (NIST SP 800-38D).
    """

    def __init__(self, secret: bytes, former: Sequence[bytes] = ()) -> None:
        self._ciphers = [AESGCM(hmac.digest(one, _PURPOSE, hashlib.sha256)) for one in (secret, *former)]

    def seal(self, text: str, place: str, *, show_hint: bool = True) -> bytes:
        """Encrypt `text` for one place ("providers/prov_1/api_key"); what is no key shows no hint."""
        hint = text[-_HINT_BYTES:].encode() if show_hint and len(text) >= _MIN_FOR_HINT else b""
        head = _VERSION + bytes([len(hint)]) + hint
        nonce = os.urandom(_NONCE_BYTES)
        return head + nonce + self._ciphers[0].encrypt(nonce, text.encode(), head + place.encode())

    def open(self, sealed: bytes, place: str) -> str:
        """Decrypt. Raises SealBroken."""
        for cipher in self._ciphers:
            text = _decrypt(cipher, sealed, place)
            if text is not None:
                return text
        raise SealBroken(
            f"{place} cannot be opened: RAVEN_SECRET was changed. Set the former one as "
            "RAVEN_PREVIOUS_SECRET, or store the secret again."
        )

    @property
    def has_former(self) -> bool:
        """Whether there is a former secret."""
        return len(self._ciphers) > 1

    def renew(self, sealed: bytes, place: str) -> bytes | None:
        """Seal anew what a former secret sealed; None for what the present one opens, or none does."""
        if _decrypt(self._ciphers[0], sealed, place) is not None:
            return None
        texts = (_decrypt(cipher, sealed, place) for cipher in self._ciphers[1:])
        text = next((text for text in texts if text is not None), None)
        return self.seal(text, place) if text is not None else None

    @staticmethod
    def hint(sealed: bytes) -> str:
        """Give what may be shown of a sealed value."""
        return "…" + sealed[2 : 2 + sealed[1]].decode("utf-8", "replace")


def _decrypt(cipher: AESGCM, sealed: bytes, place: str) -> str | None:
    start = 2 + sealed[1]
    head, nonce, rest = sealed[:start], sealed[start:][:_NONCE_BYTES], sealed[start + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, rest, head + place.encode()).decode()
    except InvalidTag:
        return None
