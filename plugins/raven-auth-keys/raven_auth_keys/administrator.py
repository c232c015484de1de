"""The first administrator: from `RAVEN_ADMIN_KEY`, or made up once.

The variable's key is valid while the variable is set. Its digest is in memory and in no table.
"""

from __future__ import annotations

import os
import re

from raven_proxy import ConfigError, Principal
from raven_proxy.secrets import check_strength

from .keys import ADMIN_SCOPES, PROXY_SCOPES, digest_of
from .snapshot import Entry

__all__ = ["ENVIRONMENT_KEY_ID", "VARIABLE", "read_environment"]

VARIABLE = "RAVEN_ADMIN_KEY"
ENVIRONMENT_KEY_ID = "key_admin_env"

_MIN_LENGTH = 20
_REMEDY = f"set {VARIABLE} to the output of: openssl rand -hex 32"
_MIN_LETTERS = 6  # different ones, once the words of every list of defaults are taken out
_DEFAULTS = re.compile(
    r"administrator|admin|root|password|passwd|change-?me|secret|default|letmein|qwerty|123456(?:7890?)?",
    re.IGNORECASE,
)


def read_environment(*, is_loopback: bool) -> Entry | None:
    """Give the administrator that `RAVEN_ADMIN_KEY` names; None if it is not set.

    Raises ConfigError for a key that can be guessed or cannot be sent; where others than this machine
    can reach the gateway, the core's stricter rule for secrets holds as well.
    """
    value = os.environ.get(VARIABLE)
    if value is None:
        return None
    if len(value) < _MIN_LENGTH:
        raise ConfigError(f"{VARIABLE} is too short (at least {_MIN_LENGTH} characters); {_REMEDY}")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{VARIABLE} has characters that no header can carry; {_REMEDY}")
    if len(set(_DEFAULTS.sub("", value))) < _MIN_LETTERS:
        raise ConfigError(f"{VARIABLE} is a default, or hardly better; {_REMEDY}")
    if not is_loopback:
        check_strength(VARIABLE, value)
    principal = Principal(
        key_id=ENVIRONMENT_KEY_ID,
        name="Administrator (environment)",
        scopes=frozenset((*PROXY_SCOPES, *ADMIN_SCOPES)),
        role="owner",
        is_operator=True,
        attributes={"environment": "live"},
    )
    return Entry(digest_of(value), principal)
