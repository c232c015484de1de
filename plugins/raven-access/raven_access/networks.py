"""Networks as an organisation's settings write them, parsed once."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from raven_proxy.headers import Network

__all__ = ["parse_networks"]


@lru_cache(maxsize=4096)
def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Parse CIDR texts; "10.1.2.3" is a network of one address. Raises ValueError."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
