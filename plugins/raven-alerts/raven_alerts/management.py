"""What administrators can ask of the alerts: `GET /alerts`, and `DELETE /alerts/paused/{upstream}`.

Who runs the gateway sees everything, unless they act for some organisation (`X-Org-Id`). An organisation
sees its own counts and alerts, and the pauses that hold for it; it can lift only those that are its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from raven_proxy import Exchange, Forbidden, InvalidRequest, NotFound, Principal, Reply, Unauthenticated
from raven_proxy.events import Event
from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import Records, audit
from raven_proxy.resources.routes import caller_of
from raven_proxy.storage import Row, Transaction

from .messages import iso
from .pauses import EVERYBODY, Pauses
from .register import Register
from .rules import Rule, dollars
from .tallies import Tallies, Tally, day_of

__all__ = ["Management"]

_log = structlog.get_logger("raven_alerts.management")
_PAGE = 100


class Management:
    """The routes."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        tallies: Tallies,
        register: Register,
        pauses: Pauses,
        publish: Callable[[Event], None],
        records: Records,
    ) -> None:
        self._records = records
        self._rules = rules
        self._tallies = tallies
        self._register = register
        self._pauses = pauses
        self._publish = publish

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /alerts`: rules, today's counts, what fired (`limit`, `after`) and what is paused."""
        caller = _caller(exchange)
        organization, sees_all = caller.organization_id, _runs_gateway(caller)
        query = exchange.request.query
        limit = _read_limit(query.get("limit"))
        tallies = await self._tallies.refresh()
        alerts = await self._register.list_alerts(
            None if sees_all else organization, query.get("after"), limit
        )
        deliveries = await self._register.deliveries_of([row["id"] for row in alerts]) if sees_all else {}
        owner_of = exchange.pipeline.catalogue.holdings.owner_of
        pauses = [
            row
            for row in await self._register.list_pauses()
            if sees_all
            or row["organization_id"] == organization
            or (row["organization_id"] == EVERYBODY and owner_of(row["upstream"]) in {None, organization})
        ]
        return _json(
            {
                "day": day_of(time.time()),
                "rules": [_show_rule(rule) for rule in self._rules] if sees_all else [],
                "counters": [
                    _show_tally(tally)
                    for tally in sorted(tallies, key=_place)
                    if sees_all or tally.organization == organization
                ],
                "alerts": [_show_alert(row, deliveries.get(row["id"], [])) for row in alerts],
                "paused": [_show_pause(row) for row in pauses],
            }
        )

    async def reactivate(self, exchange: Exchange) -> Reply:
        """`DELETE /alerts/paused/{upstream}`: let requests pass again, from the next one on.

        With `?organization=` the pause of that one; without, the pause for everybody, or else the caller's
        own organisation's.
        """
        caller, upstream = _caller(exchange), exchange.params["upstream"]
        wanted = exchange.request.query.get("organization")
        places = [EVERYBODY, caller.organization_id] if wanted is None else [wanted]
        if not _runs_gateway(caller):
            if wanted not in {None, caller.organization_id}:
                raise NotFound(f"The upstream {upstream!r} is not paused.")
            places = [caller.organization_id]
        if exchange.pipeline.catalogue.holdings.owner_of(upstream) == caller.organization_id:
            places = [EVERYBODY, caller.organization_id]  # nobody else uses it
        for place in places:
            written = await self._register.reactivate(upstream, place)
            if self._pauses.end(upstream, place) or written:
                _log.warning("upstream reactivated", upstream=upstream, organization=place, by=caller.key_id)
                data = {"upstream": upstream, "keyId": caller.key_id}
                self._publish(Event(type="provider.reactivated", organization_id=place or None, data=data))
                changes = audit.compare({}, {"organization": place or None})
                await self._records.note(caller_of(exchange), "alerts.reactivate", upstream, changes)
                return _json({"success": True})
        rows = await self._register.list_pauses()
        if any(row["upstream"] == upstream and row["organization_id"] == EVERYBODY for row in rows):
            raise Forbidden("This upstream is paused for everybody; the gateway's administrators lift that.")
        raise NotFound(f"The upstream {upstream!r} is not paused.")

    async def lift(self, transaction: Transaction, upstream: str, place: str) -> None:
        """End a pause within a transaction; `place` is an organisation, or `EVERYBODY`."""
        await self._register.reactivate(upstream, place, within=transaction)
        self._pauses.end(upstream, place)


def _caller(exchange: Exchange) -> Principal:
    if exchange.principal is None:
        raise Unauthenticated("Send a key.")
    return exchange.principal


def _runs_gateway(caller: Principal) -> bool:
    return caller.is_operator and caller.organization_id == DEFAULT


def _place(tally: Tally) -> tuple[str, str]:
    return tally.upstream, tally.organization or ""


def _show_rule(rule: Rule) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": rule.name,
        "when": rule.when,
        "measure": rule.measure,
        "upstream": rule.upstream,
        "organization": rule.organization,
        "mailTo": list(rule.mail_to),
    }
    if rule.when == "budget":
        return shown | {"threshold": None if rule.share is None else str(rule.share), "stop": None}

    def amount(value: int | None) -> str | int | None:
        return dollars(value) if value is not None and rule.measure == "cost" else value

    return shown | {"threshold": amount(rule.threshold), "stop": amount(rule.stop)}


def _show_tally(tally: Tally) -> dict[str, Any]:
    cost = tally.amount("cost")
    return {
        "upstream": tally.upstream,
        "organizationId": tally.organization,
        "requests": tally.amount("requests"),
        "tokens": tally.amount("tokens"),
        "cost": dollars(cost),
        "costNano": cost,
    }


def _show_alert(row: Row, deliveries: list[Row]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "rule": row["rule"],
        "subject": row["subject"],
        "day": row["day"],
        "level": row["level"],
        "createdAt": iso(row["created_at"]),
        "organizationId": row["organization_id"],
        "message": row["message"],
        "details": row["details"],
        "deliveries": [
            {
                "channel": one["channel"], "destination": one["destination"], "state": one["state"],
                "tries": one["tries"], "error": one["error"], "changedAt": iso(one["changed_at"]),
            }
            for one in deliveries
        ],
    }  # fmt: skip


def _show_pause(row: Row) -> dict[str, Any]:
    return {
        "upstream": row["upstream"],
        "organizationId": row["organization_id"] or None,
        "rule": row["rule"],
        "since": iso(row["since"]),
        "alertId": row["alert_id"],
    }


def _read_limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 1000:
        return int(text[:9])
    raise InvalidRequest("limit: send a whole number from 1 to 1000.", type="validation_error", param="limit")


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, msgspec.json.encode(value))
