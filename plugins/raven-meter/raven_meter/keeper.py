"""Keeps the journal: what is under way, how far it has come, and when a segment has served its time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import structlog

from raven_proxy import Exchange, GatewayError
from raven_proxy.storage import Storage

from . import records
from .journal import Journal

__all__ = ["Keeper"]

_log = structlog.get_logger("raven_meter.keeper")
_LOOK_EVERY_S = 1.0
_TURN_OVER_BYTES = 25_000_000  # some 60,000 records


class _UnderWay(msgspec.Struct):
    """An exchange whose end is to come, its record, and what the journal knows of its progress."""

    exchange: Exchange
    record: msgspec.Raw
    sent: int = 0
    progress: dict[str, Any] | None = None


class Keeper:
    """Writes one process's journal, beside a database that gets the same a moment later."""

    def __init__(self, journal: Journal, storage: Storage) -> None:
        self._journal = journal
        self._storage = storage
        self._under_way: dict[str, _UnderWay] = {}
        self._lost_rows = storage.lost_rows

    def begin(self, exchange: Exchange, record: msgspec.Raw) -> None:
        """Write down to whom it goes. Raises GatewayError (503): unrecorded, it does not go."""
        try:
            self._journal.append(record)
        except OSError as error:
            _log.error("the journal cannot be written", reason=str(error))
            raise GatewayError(
                "The gateway cannot record this request.", status=503, code="service_unavailable"
            ) from error
        self._under_way[exchange.id] = _UnderWay(exchange, record)

    def end(self, exchange_id: str, row: tuple[Any, ...]) -> None:
        """Write down how it ended; `row` is on its way into the database already."""
        self._under_way.pop(exchange_id, None)
        try:
            self._journal.append(records.finished(row))
        except OSError as error:  # the database will have it all the same, unless we die first
            _log.error("the journal cannot be written", reason=str(error))

    async def keep(self) -> None:
        """Look at what is under way every second, and turn the journal over; runs until it is cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                self.record_progress()
                looks += 1
                if looks % 5 == 0 or self._journal.size > _TURN_OVER_BYTES:
                    await self.turn_over()
            except OSError as error:
                _log.error("the journal cannot be written", reason=str(error))

    async def turn_over(self) -> None:
        """Begin a new segment; delete the old one once the database has all that it says."""
        if not self._journal.is_waiting:  # else the database is behind: one old segment is enough
            self._journal.turn_over()
        if not self._journal.is_waiting:
            return
        for one in self._under_way.values():  # their ends will stand in the new one
            self._journal.append(one.record)
            if one.progress is not None:
                self._journal.append(one.progress)
        try:
            await self._storage.flush()
            await self._book_what_was_lost()
        except Exception as error:
            _log.error("the journal has to wait for the database", reason=str(error))
            return
        self._journal.discard()

    def record_progress(self) -> None:
        """Write down how far everything has come that is under way."""
        for one in list(self._under_way.values()):
            if one.exchange.produced_bytes != one.sent:
                one.sent = one.exchange.produced_bytes
                one.progress = records.progress(one.exchange)
                self._journal.append(one.progress)

    async def _book_what_was_lost(self) -> None:
        """Where the database was away for so long that rows were dropped: the journal still has them."""
        lost = self._storage.lost_rows
        if lost != self._lost_rows:
            self._journal.turn_over()  # they stand in the old segment or in this one
            await records.book_again(self._journal, self._storage)
            self._lost_rows = lost
