"""The keys as a request sees them: a dict in memory, from a secret's digest to who it is.

Responsible for what is decided once per change of a key, so that it need not be decided once per
request. It is read from the table as a whole and replaced as a whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Mapping

import msgspec

from raven_proxy import Principal
from raven_proxy.headers import Network
from raven_proxy.storage import Row, Storage

__all__ = ["NOBODY", "Entry", "load_entries"]

_ATTRIBUTES = (
    "environment", "prefix", "plan", "member_id", "max_concurrency",
    "rate_limit_rpm", "rate_limit_rpd", "rate_limit_tpm", "rate_limit_tpd",
)  # fmt: skip
_BREATH = 500  # entries built before other work of the event loop gets its turn


class Entry(msgspec.Struct, frozen=True):
    """One secret that is accepted until `expires_at` (Unix seconds), from `networks` if there are any."""

    digest: str
    principal: Principal
    expires_at: float = math.inf
    networks: tuple[Network, ...] | None = None


NOBODY = Entry("0" * 64, Principal(key_id=""), expires_at=0.0)
"""What an unknown secret stands for, so that it takes the same steps as a known one."""


async def load_entries(storage: Storage) -> dict[str, Entry]:
    """Read every active key, and the former secrets that still have their grace."""
    entries: dict[str, Entry] = {}
    for number, row in enumerate(await storage.fetch_all("SELECT * FROM keys WHERE is_active = 1")):
        expires_at = math.inf if row["expires_at"] is None else float(row["expires_at"])
        entry = Entry(row["digest"], _read_principal(row), expires_at, _read_networks(row["ip_allowlist"]))
        entries[entry.digest] = entry
        if row["previous_digest"] is not None:
            until = min(expires_at, float(row["previous_until"]))
            former = Entry(row["previous_digest"], entry.principal, until, entry.networks)
            entries[former.digest] = former
        if number % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
    return entries


def _read_principal(row: Row) -> Principal:
    allowed_models = row["allowed_models"]
    attributes: Mapping[str, object] = {name: row[name] for name in _ATTRIBUTES}
    return Principal(
        key_id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        scopes=frozenset(msgspec.json.decode(row["scopes"])),
        allowed_models=None if allowed_models is None else tuple(msgspec.json.decode(allowed_models)),
        on_disconnect=row["on_disconnect"],
        role="owner" if row["is_operator"] else "admin",
        is_operator=bool(row["is_operator"]),
        attributes=attributes,
    )


def _read_networks(text: str | None) -> tuple[Network, ...] | None:
    if text is None:
        return None
    return tuple(ipaddress.ip_network(network) for network in msgspec.json.decode(text))
