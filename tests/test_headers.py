"""Headers: who may see which, and heads that cannot be broken out of."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.errors import InvalidRequest, Unauthenticated, UpstreamError
from raven_proxy.headers import (
    client_address,
    collect_request,
    forward_reply,
    forward_request,
    guard_headers,
    read_reply,
    write_head,
)

PROXY = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_repeated_request_headers_are_joined_under_a_lower_case_name() -> None:
    assert collect_request([("Accept", "a"), ("accept", "b")]) == {"accept": "a, b"}


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
def test_two_credentials_are_refused_as_such(name: str) -> None:
    with pytest.raises(Unauthenticated):
        collect_request([(name, "Bearer a"), (name.lower(), "Bearer b")])


@pytest.mark.parametrize(
    "name", ["Content-Type", "Content-Length", "X-Provider-Key", "X-Org-Id", "X-Raven-Strict"]
)
def test_a_header_that_must_be_single_is_refused_twice(name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        collect_request([(name, "a"), (name, "a")])
    assert refusal.value.param == name.lower()


@pytest.mark.parametrize("value", ["a" * 65, "a b", "a\x1b[31m", "", "ü"])
def test_a_request_id_that_is_not_harmless_is_forgotten(value: str) -> None:
    assert "x-request-id" not in collect_request([("X-Request-ID", value)])
    assert collect_request([("X-Request-ID", "mine_1-2")]) == {"x-request-id": "mine_1-2"}


def test_vendor_headers_go_upstream_and_credentials_and_hop_headers_do_not() -> None:
    kept = {
        "openai-organization": "o",
        "anthropic-beta": "b",
        "content-type": "c",
        "x-vendor": "v",
        "user-agent": "u",
    }
    dropped = dict.fromkeys(
        "authorization x-api-key cookie host connection te transfer-encoding x-provider-key x-org-id "
        "forwarded x-forwarded-for x-real-ip x-raven-strict x_raven_anything proxy-authorization "
        "sec-fetch-site accept-encoding content-length expect x-request-id".split(),
        "secret",
    )
    assert forward_request(kept | dropped) == kept


def test_what_connection_names_stays_on_this_hop() -> None:
    assert forward_request({"connection": "X-One, keep-alive", "x-one": "1", "x-two": "2"}) == {"x-two": "2"}


def test_a_reply_passes_by_an_allow_list() -> None:
    kept = {"content-type": "c", "retry-after": "1", "openai-processing-ms": "3", "x-ms-region": "r"}
    dropped = dict.fromkeys(
        "set-cookie server alt-svc connection keep-alive content-length content-encoding authorization "
        "x-goog-api-key x-ms-client-secret openai-session-token x-unknown".split(),
        "no",
    )
    assert forward_reply(kept | dropped) == kept


def test_a_control_character_in_a_reply_header_is_the_providers_fault() -> None:
    assert read_reply([(b"A", b"x"), (b"a", b"y\t\xff")])["a"].startswith("x, y\t")
    with pytest.raises(UpstreamError):
        read_reply([(b"A", b"fine"), (b"X", b"\x01")])


@given(st.dictionaries(st.text("abc-", min_size=1), st.text(), max_size=4))
def test_a_head_has_as_many_lines_as_headers_or_is_refused(headers: dict[str, str]) -> None:
    try:
        head = write_head("GET / HTTP/1.1", headers)
    except (InvalidRequest, UnicodeEncodeError):
        return
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == len(headers) + 2
    assert head.endswith(b"\r\n\r\n")
    assert b"\0" not in head


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rb", "a\0b"])
def test_a_value_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(InvalidRequest, match="x-bad"):
        write_head("GET / HTTP/1.1", {"x-good": "1", "x-bad": value})
    with pytest.raises(InvalidRequest):
        write_head("GET / HTTP/1.1", {f"x-bad{value}": "1"})


def test_bytes_that_are_no_utf8_pass_through_a_head_unchanged() -> None:
    assert b"x: \xff\xe9\r\n" in write_head("HTTP/1.1 200 OK", read_reply([(b"X", b"\xff\xe9")]))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not a proxy of ours: what it says is ignored
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (
            "10.0.0.1",
            "1.1.1.1, 198.51.100.1",
            "198.51.100.1",
        ),  # the client may write what it likes on the left
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1, garbage", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_client_address_comes_through_trusted_proxies_only(
    peer: str, forwarded: str, address: str
) -> None:
    assert client_address(peer, {"x-forwarded-for": forwarded} if forwarded else {}, PROXY) == address
    assert client_address(peer, {"x-forwarded-for": forwarded}, ()) == peer


def test_a_long_forwarded_list_is_read_from_the_right() -> None:
    hops = ["198.51.100.1", *["10.0.0.2"] * 200]
    assert client_address("10.0.0.1", {"x-forwarded-for": ", ".join(hops)}, PROXY) == "10.0.0.2"


@pytest.mark.parametrize(
    ("content_type", "is_sandboxed"),
    [
        ("application/json", False),
        ("application/json; charset=utf-8", False),
        ("TEXT/EVENT-STREAM", False),
        ("audio/mpeg", False),
        ("image/png", False),
        ("application/octet-stream", False),
        ("text/html", True),
        ("text/html; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/xhtml+xml", True),
        ("application/xml", True),
        ("application/pdf", True),
        ("text/javascript", True),
        ("", True),
    ],
)
def test_t141_a_providers_page_runs_nothing_here(content_type: str, is_sandboxed: bool) -> None:
    """What is no plain data is shown in a sandbox, and nothing is taken for something else."""
    headers = guard_headers(content_type)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("Content-Security-Policy" in headers) is is_sandboxed
    if is_sandboxed:
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_a_plugins_header_may_be_a_number() -> None:
    numbers: dict[str, Any] = {"x-left": 3}
    assert write_head("HTTP/1.1 200 OK", numbers) == b"HTTP/1.1 200 OK\r\nx-left: 3\r\n\r\n"
