"""The plugin `byok`: a caller's own provider key (`X-Provider-Key`), for one request.

Responsible for where that key may go: to the provider that the request addresses and to no other,
fallbacks included. It is never stored, logged or put into an error, and while it is there no key of
the gateway's own is used in its place. Keeping it from providers as a header is the core's affair.
"""

from __future__ import annotations

import re

from raven_proxy import Candidate, Credential, Exchange, Finding, GatewayError, InvalidRequest, hookimpl
from raven_proxy.errors import NoActiveKey

__all__ = ["Byok"]

_HEADER = "x-provider-key"
_PARAM = "X-Provider-Key"
_MAX_LENGTH = 4096
_NOTE = "byok"  # exchange.notes["byok"]: the place that the key is for
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")  # what every HTTP library can send
_OUR_KEYS = ("rk_live_", "rk_test_")

Place = tuple[str, str, int]


class Byok:
    """Uses the caller's key for the provider of the first candidate, and for that one alone."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Judge the header, and leave only candidates that the key is for."""
        key = exchange.headers.get(_HEADER)
        if key is None:
            return
        _check(key, exchange)
        if exchange.candidates:
            place = _place(exchange.candidates[0])
            exchange.notes[_NOTE] = place
            exchange.candidates = tuple(c for c in exchange.candidates if _place(c) == place)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say whose key would be used."""
        if _HEADER not in exchange.headers:
            return []
        try:
            await self.check_request(exchange)
        except GatewayError as error:
            return [Finding.refusing("X-Provider-Key", error)]
        places = ", ".join(one.upstream.label for one in exchange.candidates)
        reason = f"The caller's own key goes to {places} and nowhere else."
        return [Finding(rule="X-Provider-Key", verdict="changes", reason=reason)]

    @hookimpl
    async def provide_credential(self, exchange: Exchange) -> Credential | None:
        """Give the key to the place that `check_request` saw; refuse any that came in since.

        Raises NoActiveKey (503, tried on the next candidate) rather than let the gateway's key stand in.
        """
        key = exchange.headers.get(_HEADER)
        if key is None:
            return None
        candidate = exchange.candidate
        if candidate is None or exchange.notes.get(_NOTE) != _place(candidate):
            raise NoActiveKey("The key in X-Provider-Key is for another provider.")
        return Credential(key, source="byok")


def _place(candidate: Candidate) -> Place:
    """Name the provider of a candidate: its preset and its host.

    The preset alone would not do: many vendors are configured as "openai" with a base URL of their own.
    """
    upstream = candidate.upstream
    return upstream.preset, upstream.host, upstream.port


def _check(key: str, exchange: Exchange) -> None:
    """Refuse what is no provider key. Raises InvalidRequest, which never repeats the value."""
    if not key.strip():
        raise InvalidRequest("X-Provider-Key is empty; leave it out to use the gateway's key.", param=_PARAM)
    if len(key) > _MAX_LENGTH:
        raise InvalidRequest(f"X-Provider-Key is longer than {_MAX_LENGTH} characters.", param=_PARAM)
    if not _KEY.fullmatch(key):
        raise InvalidRequest("X-Provider-Key has a character that no key has.", param=_PARAM)
    headers = exchange.headers
    ours = (headers.get("authorization", "")[7:], headers.get("x-api-key"), headers.get("x-goog-api-key"))
    if key.startswith(_OUR_KEYS) or key in ours:
        raise InvalidRequest("X-Provider-Key holds a key of this gateway, not of a provider.", param=_PARAM)
