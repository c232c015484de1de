"""Which network addresses are public: what somebody else's words may lead the gateway to.

Asked when a connection is made, after the name was resolved, and when a URL is saved.
"""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["OWN_NAMES", "is_public", "is_public_host"]

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64 (RFC 6052): the last four bytes are IPv4
_RELAYED = ipaddress.ip_network("2002::/16")  # 6to4 (RFC 3056): the four bytes behind the prefix are
_PROTOCOL = ipaddress.ip_network("192.0.0.0/24")  # IETF assignments; Oracle's cloud has its metadata there
_LOCALLY_TRANSLATED = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215: for private IPv4 too
_STATELESS = ipaddress.ip_network("::ffff:0:0:0/96")  # SIIT (RFC 2765): wherever a translator stands
_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291 section 2.5.5.1: deprecated, nobody's
_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")  # Azure's own services; public by number only

OWN_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
"""Endings of names that are nobody else's: RFC 6761, 6762, 8375, and usage."""


def is_public(text: str) -> bool:
    """Say whether an IP address can be reached by everybody: not private, loopback, link-local (where
    clouds keep their metadata), multicast, or one of these inside IPv6. Raises ValueError for no address.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in (_LOCALLY_TRANSLATED, _STATELESS, _COMPATIBLE)):
            return False
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


def is_public_host(host: str) -> bool:
    """Say whether a URL's host can be public, as far as its text tells: a name may resolve to anything.

    Whatever a resolver takes for an address counts as one: `127.1`, `0x7f000001`, `017700000001`.
    """
    name = host.rstrip(".").lower()
    try:
        return is_public(name)
    except ValueError:
        pass
    try:
        return is_public(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, ValueError):
        return name != "localhost" and not name.endswith(OWN_NAMES)
