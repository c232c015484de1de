"""Responses, passed to vendors that serve them: new ones, and what is done with those that are stored.

A request keeps every byte but the model's where an alias stands for it, a reply keeps every byte. The id of
a new response is noted with its owner (`routing`) when the usage tap sees it, which is before the client.
"""

from __future__ import annotations

import msgspec

from raven_openai.operations import Operation
from raven_openai.presets import Preset
from raven_proxy import hub, splice
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Dialect, Stage
from raven_proxy.metering import WholeTap
from raven_proxy.providers import UsageTap

from .calls import ResponseCall
from .dialect import COMPACT, COUNT, ITEM, RESPONSES
from .reader import read_reply
from .routing import NOTE, Admitted
from .taps import StreamTap

__all__ = ["OPERATIONS"]


class _Create:
    """New responses, and what vendors tell of requests for them."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself."""
        return RESPONSES.name in preset.serves

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request: the client's body with the model's own name in it."""
        call, candidate, body = exchange.call, exchange.candidate, exchange.body
        assert candidate is not None
        headers.setdefault("content-type", "application/json")
        if candidate.model is not None and candidate.model != call.model:
            body = splice.put(body, call.members, "model", candidate.model)
        resource, slash, rest = exchange.face.endpoint.partition("/")
        resource = preset.endpoints.get(resource, resource)
        target = f"{candidate.upstream.base_path}/{resource}{slash}{rest}"
        return Outgoing("POST", target, headers, body)

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give nothing: every byte passes."""
        del exchange, head, preset
        return None

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter the reply, and note whose it is."""
        del preset
        if self.dialect is COUNT:
            return None  # nothing was made
        if self.dialect is COMPACT:
            return WholeTap(exchange, read_reply)
        note = _Noting(exchange)
        if "event-stream" in head.headers.get("content-type", ""):
            return StreamTap(exchange, note.note)
        return WholeTap(exchange, note.read)


class _Noting:
    """Notes the owner of a response that is new."""

    def __init__(self, exchange: Exchange) -> None:
        call = exchange.call
        stores = not isinstance(call, ResponseCall) or call.stores  # else its id leads nowhere
        self._admitted = exchange.notes.get(NOTE) if stores else None
        self._upstream = exchange.candidate.upstream.name if exchange.candidate is not None else ""

    def note(self, response_id: str) -> None:
        if response_id and isinstance(self._admitted, Admitted):
            self._admitted.note(response_id, self._upstream)

    def read(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply; its id is noted even if it tells of a failure."""
        try:
            reply = read_reply(body)
        except GatewayError:
            self.note(_read_id(body))
            raise
        self.note(reply.id)
        return reply


class _Id(msgspec.Struct):
    id: str = ""


def _read_id(body: bytes) -> str:
    return msgspec.json.decode(body, type=_Id).id


class _Stored:
    """Responses that a vendor has stored. Their tokens were metered when they were made."""

    dialect: Dialect = ITEM

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself."""
        return RESPONSES.name in preset.serves

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request: the client's, at the vendor's path."""
        candidate, admitted = exchange.candidate, exchange.notes.get(NOTE)
        if candidate is None or not isinstance(admitted, Admitted):
            raise GatewayError("This request did not pass the gate for stored responses.")
        if candidate.upstream.name != admitted.upstream:
            raise GatewayError("This request was sent to an upstream that does not hold its response.")
        resource, slash, rest = exchange.face.endpoint.format_map(exchange.params).partition("/")
        _, mark, query = exchange.request.raw_path.partition("?")
        resource = preset.endpoints.get(resource, resource)
        target = f"{candidate.upstream.base_path}/{resource}{slash}{rest}{mark}{query}"
        return Outgoing(exchange.request.method, target, headers, exchange.body)

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give nothing: every byte passes."""
        del exchange, head, preset
        return None

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter nothing; forget a response that its vendor has just deleted."""
        del preset
        admitted = exchange.notes.get(NOTE)
        if exchange.request.method == "DELETE" and head.status < 300 and isinstance(admitted, Admitted):
            admitted.forget()
        return None


OPERATIONS: tuple[Operation, ...] = (*map(_Create, (RESPONSES, COMPACT, COUNT)), _Stored())
