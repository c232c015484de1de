"""The plugin `bodies`: keeps what was asked and answered, where the operator chose that. By default nothing.

It comes last wherever it stands: what guardrails took out is not there to be kept, nor what did not come
past all of them. Reading takes an administrator and is noted in the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta

from raven_proxy import Exchange, Face, NotFound, Outcome, Refused, Reply, Stage, hookimpl, read_nothing
from raven_proxy.documents import is_collected
from raven_proxy.faces import Doc
from raven_proxy.gateway import Gateway
from raven_proxy.resources.routes import caller_of, reply_json
from raven_proxy.sealing import SealBroken
from raven_proxy.tasks import Tasks

from .copying import Copy
from .shelf import MIGRATIONS, Kept, Shelf

__all__ = ["Bodies"]

_log = structlog.get_logger("raven_bodies")
_NOTE = "bodies"
_WELL = frozenset({Outcome.COMPLETED, Outcome.REPLAYED, Outcome.CANCELLED})
_FORGET_EVERY_S = 3600.0


class Body(msgspec.Struct, kw_only=True, rename="camel"):
    """One body. `text` is its beginning, with U+FFFD for what is no UTF-8; `size` is all of it, in bytes."""

    content_type: str
    text: str
    size: int
    is_truncated: bool


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What was kept of a request. `error` is the gateway's own word for what went wrong."""

    request_id: str
    request: Body
    response: Body
    error: str | None


class _Passed(msgspec.Struct):
    """What stands in an exchange's notes: it came past the gates. `reply` is a copy of what went out."""

    reply: Copy | None = None


class Bodies:
    """Copies, seals, keeps, shows."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.bodies]`.

        `keep` is "none", "errors" (of requests that were refused or failed) or "all". Of each body at most
        `max_bytes` are kept, for `keep_days`.
        """

        keep: Literal["none", "errors", "all"] = "none"
        max_bytes: Annotated[int, Meta(ge=1, le=1024 * 1024)] = 64 * 1024
        keep_days: Annotated[float, Meta(gt=0)] = 7.0

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Bodies.Config()
        self._gateway: Gateway
        self._shelf: Shelf
        self._tasks = Tasks()
        self._background: list[asyncio.Task[None]] = []

    @hookimpl
    def register_routes(self, register: Callable[[Face], None]) -> None:
        """Offer `GET /logs/bodies/{requestId}`."""
        doc = Doc(summary="What was kept of a request and its answer", tag="bodies", reply=Shown)
        register(
            Face(name="bodies", path="/logs/bodies/{requestId}", methods=("GET",), scope="admin:read",
                 role="admin", read_call=read_nothing, json_body=False, serve=self.serve, doc=doc)
        )  # fmt: skip

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Make the table, and drop what is old whatever is chosen now."""
        await gateway.storage.migrate("bodies", MIGRATIONS)
        gateway.records.clear_also("kept_bodies")
        self._gateway, self._shelf = gateway, Shelf(gateway.storage, gateway.sealer)
        self._background = [
            self._tasks.spawn(self._shelf.run(), "bodies-write"),
            self._tasks.spawn(self._keep_forgetting(), "bodies-forget"),
        ]

    @hookimpl
    async def shutdown(self) -> None:
        """Write what waits."""
        for task in self._background:
            task.cancel()
        await self._tasks.settle(1.0)
        await self._shelf.flush()

    @hookimpl(trylast=True)
    async def check_request(self, exchange: Exchange) -> None:
        """Note that a request came past every gate: its text was judged, and is as it was redacted."""
        if self._config.keep != "none" and exchange.face.serve is None:
            exchange.notes[_NOTE] = _Passed()

    @hookimpl(trylast=True)
    def open_stage(self, exchange: Exchange) -> Stage | None:
        """Copy a stream, if it may have to be kept."""
        passed: _Passed | None = exchange.notes.get(_NOTE)
        if passed is None or is_collected(exchange):
            return None
        passed.reply = copy = Copy(self._config.max_bytes)
        return copy

    @hookimpl(trylast=True)
    async def check_reply(self, exchange: Exchange) -> None:
        """Copy a whole reply, which nobody refused."""
        passed: _Passed | None = exchange.notes.get(_NOTE)
        if passed is not None:
            passed.reply = Copy(self._config.max_bytes)
            _ = passed.reply.feed(exchange.reply_body or b"")

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Keep it, if that was chosen for how it ended."""
        principal, keep = exchange.principal, self._config.keep
        if keep == "none" or principal is None or exchange.face.serve is not None:
            return
        if keep == "errors" and exchange.outcome in _WELL:
            return
        self._shelf.put(exchange.id, principal.organization_id, self._take(exchange))

    async def serve(self, exchange: Exchange) -> Reply:
        """Show what was kept of one of the organisation's requests. Raises NotFound."""
        caller, name = caller_of(exchange), exchange.params["requestId"]
        try:
            kept = await self._shelf.get(name, caller.organization_id)
        except SealBroken as error:
            raise Refused(f"These bodies cannot be opened: {error}", status=409) from None
        if kept is None:
            raise NotFound("Nothing was kept of such a request.")
        await self._gateway.records.note(caller, "bodies.read", name)
        request = _show(kept.request_type, kept.request, kept.request_size)
        response = _show(kept.response_type, kept.response, kept.response_size)
        return reply_json(Shown(request_id=name, request=request, response=response, error=kept.error))

    def _take(self, exchange: Exchange) -> Kept:
        """Take what was judged; of all else its size."""
        passed: _Passed | None = exchange.notes.get(_NOTE)
        reply = passed.reply if passed is not None else None
        return Kept(
            request_type=exchange.headers.get("content-type", "")[:200],
            request=exchange.body[: self._config.max_bytes] if passed is not None else b"",
            request_size=len(exchange.body),
            response_type=exchange.reply_headers.get("content-type", "")[:200],
            response=reply.taken() if reply is not None else b"",
            response_size=reply.size if reply is not None else 0,
            error=exchange.error.message if exchange.error is not None else None,
        )

    async def _keep_forgetting(self) -> None:
        while True:
            try:
                await self._shelf.forget_old(self._config.keep_days)
            except Exception as error:
                _log.error("old bodies are still there", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_FORGET_EVERY_S)


def _show(content_type: str, data: bytes, size: int) -> Body:
    text = data.decode("utf-8", "replace")
    return Body(content_type=content_type, text=text, size=size, is_truncated=len(data) < size)
