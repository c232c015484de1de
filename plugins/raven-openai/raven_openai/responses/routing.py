"""Where a request that continues or addresses a stored response goes, and whether this key may make it.

`admit` is the gate: a response that another organisation owns, or nobody is known to, does not exist for
the caller, and no provider is asked. `choose` then keeps the request at the upstream that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raven_openai.stored.ownership import Ownership
from raven_openai.stored.routing import check_models, own
from raven_proxy.errors import InvalidRequest, NotFound
from raven_proxy.exchange import Candidate, Exchange

from .calls import ResponseCall
from .dialect import COMPACT, COUNT, ITEM, RESPONSES, read_id
from .requests import not_found

__all__ = ["NOTE", "Admitted", "admit", "choose"]

NOTE = "openai.responses.owner"
"""The key in `exchange.notes` under which `Admitted` stands."""

_KIND = "response"


class Admitted(msgspec.Struct):
    """What became of a request at the gate: the table for new ids, and the id and place of an old one."""

    ownership: Ownership
    organization_id: str
    response_id: str = ""
    upstream: str = ""

    def note(self, response_id: str, upstream: str) -> None:
        """Remember who made a response, and where it lies."""
        self.ownership.note(_KIND, response_id, upstream, self.organization_id)

    def forget(self) -> None:
        """Forget the response that was addressed: its vendor has deleted it."""
        self.ownership.forget(_KIND, self.response_id)


async def admit(exchange: Exchange, ownership: Ownership) -> None:
    """Check the owner and fix the place of a request for responses; others pass.

    Raises NotFound for a response that is not the caller's, InvalidRequest (400,
    `previous_response_not_found`) for one that is to be continued.
    """
    principal, dialect = exchange.principal, exchange.face.dialect
    if principal is None or dialect not in (RESPONSES, COMPACT, COUNT, ITEM):
        return
    exchange.notes[NOTE] = admitted = Admitted(ownership, principal.organization_id)
    if dialect is ITEM:
        await _admit_item(exchange, admitted)
    elif isinstance(exchange.call, ResponseCall) and exchange.call.previous_response_id:
        await _admit_continuation(exchange, admitted, exchange.call.previous_response_id)


def choose(exchange: Exchange) -> Sequence[Candidate] | None:
    """Give the place that `admit` fixed; None for requests that may go anywhere."""
    admitted = exchange.notes.get(NOTE)
    if not isinstance(admitted, Admitted) or not admitted.upstream:
        return None
    return [found for found in exchange.candidates if found.upstream.name == admitted.upstream]


async def _admit_item(exchange: Exchange, admitted: Admitted) -> None:
    found = exchange.params.get("response_id") or read_id(exchange.params.get("endpoint", ""))
    upstream = await own(exchange, admitted.ownership, _KIND, found)
    check_models(exchange, upstream)
    admitted.response_id, admitted.upstream = found, upstream.name
    exchange.candidates = (Candidate(upstream, None),)


async def _admit_continuation(exchange: Exchange, admitted: Admitted, previous: str) -> None:
    try:
        upstream = await own(exchange, admitted.ownership, _KIND, previous)
    except NotFound:
        raise not_found(previous) from None
    admitted.upstream = upstream.name
    exchange.candidates = tuple(choose(exchange) or ())
    if not exchange.candidates:
        raise InvalidRequest(
            f"previous_response_id: this response lies at {upstream.name}; choose a model there.",
            param="previous_response_id",
        )
