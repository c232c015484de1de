"""Keeps provider keys out of replies: what was sent as authorization comes back as asterisks.

Before anybody else sees what a provider says: headers, whole bodies, streams, errors. Each byte of a key
becomes one `*`, so that lengths and framing stay; a reply without the key stays byte for byte. Covered are
the key as it was sent, and with JSON's escaped slashes; not other ways of writing it (`u0073` escapes,
percent-encoding, base64), and no key of fewer than eight bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from .exchange import Credential, Outgoing

__all__ = ["Mask", "blot", "sent_secrets"]

_LEAST = 8  # bytes; a shorter one would turn up by chance
_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"})


def sent_secrets(outgoing: Outgoing, credential: Credential | None) -> tuple[bytes, ...]:
    """List what must not come back: the credential, and whatever else the request shows as its right."""
    headers = outgoing.headers
    texts = {headers[name].rpartition(" ")[2] for name in _HEADERS & headers.keys()}
    if credential is not None:
        texts.add(credential.value.strip())
    secrets = set()
    for text in texts:
        secret = text.encode("utf-8", "surrogateescape")
        if len(secret) >= _LEAST:
            secrets.add(secret)
            secrets.add(secret.replace(b"/", b"\\/"))
    return tuple(sorted(secrets, key=len, reverse=True))  # one may be a part of another


def blot(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """Mask `secrets` in what is whole."""
    for secret in secrets:
        if secret in data:
            data = data.replace(secret, b"*" * len(secret))
    return data


class Mask:
    """A stage that masks `secrets` however they are cut; it holds back only what may be the start of one."""

    __slots__ = ("_held", "_inner", "_secrets")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._inner = b"".join([secret[:-1] for secret in secrets])  # the bytes of such a start
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; give those of which it is certain what they are."""
        if self._held:
            data, self._held = self._held + data, b""
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, b"*" * len(secret))
        if data and data[-1] in self._inner and (size := self._count_start(data)):
            data, self._held = data[:-size], data[-size:]
        return data

    def close(self) -> bytes:
        """Give what was no secret after all."""
        data, self._held = self._held, b""
        return data

    def _count_start(self, data: bytes) -> int:
        """Count the bytes at the end of `data` that a secret begins with."""
        longest = 0
        for secret in self._secrets:
            place = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
            while place >= 0 and not secret.startswith(data[place:]):
                place = data.find(secret[:1], place + 1)
            if place >= 0:
                longest = max(longest, len(data) - place)
        return longest
