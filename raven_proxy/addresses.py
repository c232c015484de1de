"""Which network addresses are public: what somebody else's words may lead the gateway to.

Asked when a connection is made, after the name was resolved, and when a URL is saved.
"""

from __future__ import annotations

import ipaddress

__all__ = ["is_public"]

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64 (RFC 6052): the last four bytes are IPv4
_RELAYED = ipaddress.ip_network("2002::/16")  # 6to4 (RFC 3056): the four bytes behind the prefix are
_PROTOCOL = ipaddress.ip_network("192.0.0.0/24")  # IETF assignments; Oracle's cloud has its metadata there
_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")  # Azure's own services; public by number only


def is_public(text: str) -> bool:
    """Say whether an IP address can be reached by everybody: not private, loopback, link-local (where
    clouds keep their metadata), multicast, or one of these inside IPv6. Raises ValueError for no address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(address.packed[12:])
        elif address in _RELAYED:
            inner = ipaddress.IPv4Address(address.packed[2:6])
        if inner is not None:
            address = inner
    if address in _PROTOCOL or address == _WIRE_SERVER:
        return False
    return address.is_global and not address.is_multicast
