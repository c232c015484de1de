"""Which addresses are public: nothing private hides in another notation."""

from __future__ import annotations

import pytest

from raven_proxy.addresses import is_public, is_public_host


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_what_everybody_can_reach_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "0.0.0.0", "169.254.169.254", "100.100.100.200",
        "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%lo",
        "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b:1::7f00:1",
        "64:ff9b:1:1::808:808",
        "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "::127.0.0.1", "::169.254.169.254", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_what_only_some_can_reach_is_not(address: str) -> None:
    """Loopback, private, link-local and metadata; IPv4 inside IPv6 counts as itself."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST.", "a.localhost", "printer.local", "db.internal.", "0x7f000001", "0X7F.1",
        "127.1", "017700000001", "2130706433", "127.0.0.1.", "0", "10.1", "0xa9fea9fe", "::1", "fe80::1%lo",
    ],
)  # fmt: skip
def test_a_host_that_only_some_can_reach_is_not_public_however_it_is_written(host: str) -> None:
    """As a resolver reads it: shortened, in hexadecimal, in octal, with a dot at its end."""
    assert not is_public_host(host)


@pytest.mark.parametrize(
    "host",
    ["api.openai.com", "api.openai.com.", "1.1.1.1", "0x01010101", "localhost.example.com", "beef.example"],
)
def test_other_hosts_may_be_public(host: str) -> None:
    assert is_public_host(host)
