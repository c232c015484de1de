"""The gateway's own secret: from `RAVEN_SECRET`, or generated once into a file only we can read.

It encrypts what must be stored and read again (`sealing`). Here it is found, judged and kept; nothing
else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from .errors import ConfigError

__all__ = ["check_strength", "load_secret", "read_environment", "read_former"]

_MIN_LENGTH = 20
_WORDS = (
    "secret",
    "password",
    "changeme",
    "change-me",
    "default",
    "admin",
    "example",
    "test",
    "raven",
    "1234",
)


def check_strength(name: str, value: str) -> None:
    """Refuse a secret that can be guessed. Raises ConfigError that names it and the remedy."""
    remedy = f"set {name} to the output of: openssl rand -hex 32"
    if not value.strip():
        raise ConfigError(f"{name} is empty; {remedy}")
    plain = value.lower()
    for word in _WORDS:
        plain = plain.replace(word, "")
    if len(value) < _MIN_LENGTH or len(set(plain)) < 8:
        raise ConfigError(f"{name} is too weak (at least {_MIN_LENGTH} random characters); {remedy}")


def load_secret(data_dir: Path, *, is_loopback: bool) -> bytes:
    """Give 32 bytes of key material, the same at every start.

    `RAVEN_SECRET` wins; a weak one is refused on any address that is not loopback, an empty one
    always. Without it a secret is generated into `data_dir/secret` (mode 0600).
    """
    value = read_environment(is_loopback=is_loopback)
    if value is not None:
        return hashlib.sha256(value.encode()).digest()
    path = data_dir / "secret"
    try:
        text = _read_or_make(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the secret {path}: {getattr(error, 'strerror', None) or error}") from error
    return hashlib.sha256(text.encode()).digest()


def read_former() -> list[bytes]:
    """Give the key material of `RAVEN_PREVIOUS_SECRET`: what it sealed is still opened."""
    value = os.environ.get("RAVEN_PREVIOUS_SECRET", "")
    return [hashlib.sha256(value.encode()).digest()] if value.strip() else []


def read_environment(*, is_loopback: bool) -> str | None:
    """Give `RAVEN_SECRET`, or None where it is not set. Raises ConfigError for a bad one."""
    value = os.environ.get("RAVEN_SECRET")
    if value is not None and (not value.strip() or not is_loopback):
        check_strength("RAVEN_SECRET", value)
    return value


def _read_or_make(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        check_strength(str(path), text)
    else:
        text = secrets.token_hex(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
    return text
