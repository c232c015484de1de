"""Which requests are the same, and which keys are none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_idempotency.identity import Identity, identify, read_key
from raven_idempotency.vault import Kept, Vault

from raven_proxy import InvalidRequest, Principal
from raven_proxy.errors import envelope
from raven_proxy.testing import ExchangeFactory

SECRET = b"s" * 32
OWNER = Principal(key_id="key_1", organization_id="org_1")


@pytest.fixture
def known(exchange: ExchangeFactory) -> Any:
    def make(body: Any = b"{}", key: str = "k", owner: Principal = OWNER, **fields: Any) -> Identity:
        return identify(exchange(body, **fields), owner, key, SECRET)

    return make


def test_a_key_belongs_to_its_organisation_and_api_key(known: Any) -> None:
    """Scope: organisation + API key + idempotency key; none of them can be moved into another."""
    other_key = msgspec.structs.replace(OWNER, key_id="key_2")
    other_org = msgspec.structs.replace(OWNER, organization_id="org_2")
    moved = Principal(key_id="key_1k", organization_id="org_1")
    ids = [
        known().id, known(key="K").id, known(owner=other_key).id, known(owner=other_org).id,
        known(owner=moved, key="").id,
    ]  # fmt: skip
    assert len(set(ids)) == 5
    assert known(b'{"a":1}').id == known().id


def test_what_is_asked_is_path_query_and_every_byte_of_the_body(known: Any) -> None:
    """A changed byte, path or query is another request."""
    asked = [
        known(b'{"a":1}'), known(b'{"a": 1}'), known(b'{"a":2}'),
        known(b'{"a":1}', path="/v1/completions"), known(b'{"a":1}', path="/v1/chat/completions?x=1"),
    ]  # fmt: skip
    assert len({one.fingerprint for one in asked}) == 5
    assert known(b'{"a":1}').fingerprint == asked[0].fingerprint


def test_a_forms_boundary_does_not_count() -> None:
    """Clients draw it anew for each retry; what is between counts."""

    def form(boundary: str, text: str, quote: str = "") -> Any:
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{text}\r\n--{boundary}--\r\n'
        kind = f"multipart/form-data; charset=utf-8; boundary={quote}{boundary}{quote}"
        request = SimpleNamespace(method="POST", raw_path="/v1/files")
        made: Any = SimpleNamespace(request=request, headers={"content-type": kind}, body=body.encode())
        return identify(made, OWNER, "k", SECRET).fingerprint

    assert form("aaa", "x") == form("bbb", "x") == form("c'c", "x", '"')
    assert form("aaa", "x") != form("aaa", "y")


def test_the_digests_are_keyed(exchange: ExchangeFactory) -> None:
    """Without the gateway's secret nobody who reads the database can confirm a guess at a prompt."""
    one, other = (identify(exchange(), OWNER, "k", secret) for secret in (SECRET, b"t" * 32))
    assert one.id != other.id
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("key", ["k", " ", "x" * 255, '"quoted"', "~!@#$%^&*()", "9c6bf1f0-5b0e-4a6d"])
def test_a_key_is_printable_ascii(exchange: ExchangeFactory, key: str) -> None:
    """1 to 255 of it."""
    assert read_key(exchange(headers={"Idempotency-Key": key})) == key


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é", "a\x7f", "\x00"])
def test_anything_else_is_a_400_that_names_the_header(exchange: ExchangeFactory, key: str) -> None:
    """And does not repeat it."""
    made = exchange()
    made.headers["idempotency-key"] = key
    with pytest.raises(InvalidRequest) as caught:
        read_key(made)
    assert (caught.value.status, caught.value.param) == (400, "Idempotency-Key")
    assert not key or key.encode() not in envelope(caught.value, "req_1")


def test_a_sealed_reply_opens_for_its_own_request_only() -> None:
    """Another row, another request, another secret or a changed byte opens nothing."""
    vault, one = Vault(SECRET), Identity("id", "fingerprint")
    kept = Kept(200, {"content-type": "text/plain"}, b"\x00 needle \xff", "req_1")
    sealed = vault.seal(one, kept)
    assert vault.open(one, sealed) == kept
    assert b"needle" not in sealed
    assert vault.seal(one, kept) != sealed
    for wrong in (Identity("id2", "fingerprint"), Identity("id", "fingerprint2")):
        assert vault.open(wrong, sealed) is None
    assert Vault(b"t" * 32).open(one, sealed) is None
    for broken in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", b"x" * 12):
        assert vault.open(one, broken) is None
