"""What makes two requests the same: the header, whose it is, and what was asked.

Responsible for judging `Idempotency-Key` and for two digests of a request. Both are keyed with the
gateway's secret, so that nobody who reads the database can confirm a guess at a prompt.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import msgspec

from raven_proxy import Exchange, InvalidRequest, Principal

__all__ = ["HEADER", "Identity", "identify", "read_key"]

HEADER = "idempotency-key"
_PARAM = "Idempotency-Key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_BOUNDARY = re.compile(r'multipart/[^;]+;.*?boundary="?([^";,\s]+)', re.IGNORECASE)


class Identity(msgspec.Struct, frozen=True):
    """`id` names organisation, API key and idempotency key; `fingerprint` method, path, body and whose
    account at the provider was meant. Both hex.
    """

    id: str
    fingerprint: str


def read_key(exchange: Exchange) -> str:
    """Give the request's idempotency key.

    An opaque word, quotes and all: a client that writes the header as a structured string (the draft)
    writes it so each time. Raises InvalidRequest, which never repeats the value.
    """
    if len(exchange.request.headers.getall(_PARAM, ())) > 1:
        raise InvalidRequest("Idempotency-Key appears more than once.", param=_PARAM)
    key = exchange.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key: send 1 to 255 printable ASCII characters.", param=_PARAM)
    return key


def identify(exchange: Exchange, principal: Principal, key: str, secret: bytes) -> Identity:
    """Digest whose key it is, and what was asked under it. `secret` is key material of ours alone."""
    owner = msgspec.msgpack.encode((principal.organization_id, principal.key_id, key))
    asked = hmac.new(secret, digestmod=hashlib.sha256)
    request = exchange.request
    own_key = exchange.headers.get("x-provider-key", "")  # what was bought on one account is not another's
    asked.update(msgspec.msgpack.encode((request.method, request.raw_path, own_key)))
    asked.update(_body(exchange))
    return Identity(hmac.new(secret, owner, hashlib.sha256).hexdigest(), asked.hexdigest())


def _body(exchange: Exchange) -> bytes:
    """Give the body as it counts: clients draw a form's boundary anew for each retry."""
    found = _BOUNDARY.match(exchange.headers.get("content-type", ""))
    return exchange.body.replace(b"--" + found[1].encode(), b"--") if found else exchange.body
