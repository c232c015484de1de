"""What can be asked of a webhook beside the usual: a test, and the log of its deliveries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from raven_proxy import Refused
from raven_proxy.events import Event
from raven_proxy.faces import Query
from raven_proxy.resources import Action, ActionCall, invalid
from raven_proxy.sealing import SealBroken
from raven_proxy.storage import Row

from .endpoints import Endpoints
from .outbox import Outbox, name_delivery
from .sending import post, write_event
from .topics import TEST

__all__ = ["Actions"]

_PAGE = 100


class Delivery(msgspec.Struct, kw_only=True, rename="camel"):
    """One delivery: `status` is what the other side answered last, `error` what went wrong last."""

    id: str
    event_id: str
    type: str
    state: Literal["pending", "delivered", "failed"]
    tries: int
    status: int | None
    error: str | None
    duration_ms: float | None
    created_at: datetime
    tried_at: datetime | None
    next_try_at: datetime | None


class Tested(msgspec.Struct, kw_only=True, rename="camel"):
    """How a test went."""

    success: bool
    delivery_id: str
    status: int | None
    error: str | None
    duration_ms: float


class Actions:
    """`POST /webhooks/{id}/test` and `GET /webhooks/{id}/deliveries`."""

    def __init__(self, outbox: Callable[[], Outbox], endpoints: Callable[[], Endpoints]) -> None:
        self._outbox = outbox
        self._endpoints = endpoints

    @property
    def all(self) -> tuple[Action, ...]:
        """Give both, for the resource."""
        paging = (
            Query(name="limit", type=Annotated[int, Meta(ge=1, le=_PAGE)], summary="At most so many"),
            Query(name="after", summary="The id of the last one that you have seen"),
        )
        return (
            Action(name="test", summary="Send a test event at once", run=self._test, reply=Tested),
            Action(
                name="deliveries", method="GET", summary="What was delivered and what was not, newest first",
                run=self._list, reply=list[Delivery], query=paging,
            ),
        )  # fmt: skip

    async def _test(self, call: ActionCall) -> Tested:
        record = call.record
        assert record is not None
        try:
            endpoint = self._endpoints().open(call.records, record)
        except SealBroken:
            raise Refused("The secret of this webhook cannot be opened; set a new one.", status=409) from None
        event = Event(type=TEST, organization_id=record.organization_id, data={"message": "This is a test."})
        name = name_delivery()
        result = await post(endpoint.target, name, TEST, write_event(event))
        await self._outbox().record_test(name, record.id, event.id, TEST, result)
        await call.records.note(call.caller, "webhooks.test", record.id)
        return Tested(
            success=result.error is None, delivery_id=name, status=result.status, error=result.error,
            duration_ms=result.duration_ms,
        )  # fmt: skip

    async def _list(self, call: ActionCall) -> list[Delivery]:
        assert call.record is not None
        text = call.query.get("limit", str(_PAGE))
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _PAGE):
            raise invalid("limit", f"must be a whole number from 1 to {_PAGE}")
        rows = await self._outbox().list_of(call.record.id, int(text[:9]), call.query.get("after"))
        return [_show(row) for row in rows]


def _show(row: Row) -> Delivery:
    return Delivery(
        id=row["id"], event_id=row["event_id"], type=row["type"], state=row["state"], tries=row["tries"],
        status=row["status"], error=row["error"], duration_ms=row["duration_ms"],
        created_at=_time(row["created_at"]),
        tried_at=None if row["tried_at"] is None else _time(row["tried_at"]),
        next_try_at=_time(row["next_at"]) if row["state"] == "pending" else None,
    )  # fmt: skip


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
