"""`GET /logs/stream`: the exchanges of an organisation as server-sent events, each as it is finished.

Responsible for following the table `exchanges` while somebody listens; nobody else has any work with it. A
listener asks for more when the last was taken, so that a slow one costs no memory. Every worker sees the rows
of all. An event's `id` is a `Cursor`: who comes back with `Last-Event-ID` goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from raven_proxy import Exchange, Face, GatewayError, Principal, Reply, read_nothing
from raven_proxy.errors import Overloaded
from raven_proxy.faces import Doc, Query
from raven_proxy.gateway import Gateway
from raven_proxy.pipeline import call_first
from raven_proxy.resources import Record, invalid, outranks
from raven_proxy.resources.rows import columns_of
from raven_proxy.storage import Row, Storage

from .cursor import Cursor, moment, span
from .request_log import LOGS

__all__ = ["Feed"]

_log = structlog.get_logger("raven_meter.feed")
_TICK_S = 0.25  # between two looks, at the table and at whether the caller may still listen
_QUIET_S = 15.0  # after which a comment says that somebody is there
_SETTLED_S = 2.0  # rows come so long after the newest was seen; then nothing new is on its way
_NEAR_S = 5.0  # how far back a usual look goes
_FAR_S = 120.0  # how far back a far look goes; a row that comes later still is in /logs only
_FAR_EVERY_S = 15.0
_PAGE = 100  # rows of one look
_MOST_LISTENERS = 64  # of one process
_MOST_OF_ONE_ORGANIZATION = 16  # so that none takes everybody's
_MOST_OF_ONE_KEY = 8
_OPEN = "retry: 1000\n"  # milliseconds after which a client comes back
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}


class Feed:
    """The feed of one process; `gateway` is there once the plugin has started."""

    def __init__(self) -> None:
        self._gateway: Gateway
        self._listeners: Counter[str] = Counter()  # by organisation and by key; "" is all of them
        self._newest = 0
        self._asked_at = float("-inf")
        columns = columns_of(LOGS.body).names
        self._filters = {name: columns[name] for name in LOGS.filters}

    def start(self, gateway: Gateway) -> None:
        """Serve from this gateway's table."""
        self._gateway = gateway

    def face(self) -> Face:
        """Give the route."""
        queries = tuple(Query(name=name, summary=f"Only those with this {name}") for name in self._filters)
        doc = Doc(
            summary="Follow the requests as they end", tag="feed", media="text/event-stream", query=queries,
            description="Server-sent events, each an entry of `/logs`; `Last-Event-ID` goes on after one.",
        )  # fmt: skip
        return Face(
            name="logs-stream", path="/logs/stream", methods=("GET",), scope="admin:read", role="viewer",
            read_call=read_nothing, json_body=False, serve=self.serve, doc=doc,
        )  # fmt: skip

    async def serve(self, exchange: Exchange) -> Reply:
        """Open the feed. Raises InvalidRequest for a `Last-Event-ID` of somebody else's; Overloaded."""
        given = exchange.headers.get("last-event-id")
        try:
            cursor = Cursor(moment()) if not given else Cursor.read(given)
        except ValueError:
            raise invalid("Last-Event-ID", "send the id of an event of this feed, or none") from None
        if exchange.request.method == "HEAD":
            return Reply(200, dict(_HEADERS))
        assert exchange.principal is not None
        self._check_shares(exchange.principal)
        query: Mapping[str, str] = exchange.request.query
        where = {column: query[name] for name, column in self._filters.items() if name in query}
        return Reply(200, dict(_HEADERS), self._follow(exchange, cursor, where))

    async def _follow(
        self, exchange: Exchange, cursor: Cursor, where: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """Give pieces of whole events until the listener may not go on, or should come back."""
        principal, config = exchange.principal, exchange.pipeline.config
        assert principal is not None
        clock = asyncio.get_running_loop().time
        quiet_s, until = min(_QUIET_S, config.idle_timeout_s / 2), clock() + config.total_timeout_s * 0.9
        reader = _Reader(
            self._gateway.storage, cursor, {"organization_id": principal.organization_id, **where}
        )
        shares = _shares_of(principal)
        self._listeners.update(shares.keys())
        try:
            yield f"{_OPEN}id: {cursor}\n\n".encode()
            sent_at, sent = clock(), 0
            while clock() < until and sent < config.max_stream_bytes // 2:
                rows = await reader.look(await self._look_up_newest())
                if not await self._may_go_on(exchange, principal):
                    return
                piece = await self._write(rows, cursor)
                if not piece and clock() - sent_at >= quiet_s:
                    piece = f": keep-alive\nid: {cursor}\n\n".encode()
                if piece:
                    sent_at, sent = clock(), sent + len(piece)
                    yield piece
                if len(rows) < _PAGE:
                    await asyncio.sleep(_TICK_S)
        except (
            OSError
        ) as error:  # aiosqlite's errors too, see `look`: who listens comes back and misses nothing
            _log.error("the log cannot be read", reason=str(error))
        finally:
            self._listeners -= Counter(shares.keys())  # which forgets whoever has none left

    def _check_shares(self, principal: Principal) -> None:
        """Refuse one more than there may be: of this key, of its organisation, of everybody."""
        for name, (most, whose) in _shares_of(principal).items():
            if self._listeners[name] >= most:
                raise Overloaded(f"{most} {whose} listen to this feed already; close one of them.")

    async def _may_go_on(self, exchange: Exchange, principal: Principal) -> bool:
        """Say whether the caller would still be let in, and whether it is this pipeline that should serve."""
        gateway, face = self._gateway, exchange.face
        if gateway.is_draining or gateway.pipeline is not exchange.pipeline:
            return False
        organization = gateway.organizations.get(principal.organization_id)
        if organization is not None and not organization.is_active:
            return False
        try:
            now = await call_first(exchange.pipeline.authenticate, exchange)
        except GatewayError:
            return False
        return (
            isinstance(now, Principal)
            and now.organization_id == principal.organization_id
            and (face.scope is None or face.scope in now.scopes)
            and (face.role is None or outranks(now.role, face.role))
        )

    async def _look_up_newest(self) -> int:
        """Give the newest row's id: all listeners together ask once a tick."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= _TICK_S:
            self._asked_at = now
            row = await self._gateway.storage.fetch_one("SELECT MAX(id) AS newest FROM exchanges")
            self._newest = (row or {}).get("newest") or 0
        return self._newest

    async def _write(self, rows: list[Row], cursor: Cursor) -> bytes:
        events = []
        for row in rows:
            cursor.take(row["id"])
            record = Record(
                id=str(row["id"]),
                organization_id=row["organization_id"],
                created_at=datetime.fromtimestamp(row["created_at"], UTC),
                body=columns_of(LOGS.body).from_row(row),
                columns=row,
            )
            shown = await self._gateway.records.show(LOGS, record)
            events.append(b"id: %b\ndata: %b\n\n" % (str(cursor).encode(), msgspec.json.encode(shown)))
        return b"".join(events)


def _shares_of(principal: Principal) -> Mapping[str, tuple[int, str]]:
    """Give what a listener counts in: how many there may be, and whose they are."""
    return {
        principal.key_id: (_MOST_OF_ONE_KEY, "connections of this key"),
        principal.organization_id: (_MOST_OF_ONE_ORGANIZATION, "connections of this organisation"),
        "": (_MOST_LISTENERS, "connections"),
    }


class _Reader:
    """Finds what a listener has not read yet, in as few rows as will do.

    A near look begins a few seconds back, where rows may still come in out of order; now and then a far one
    begins at the cursor's floor, and so does the first of a listener who comes back.
    """

    def __init__(self, storage: Storage, cursor: Cursor, where: Mapping[str, str]) -> None:
        self._storage = storage
        self._cursor = cursor
        conditions = "".join(f"{column} = ? AND " for column in where)
        self._sql = f"SELECT * FROM exchanges WHERE {conditions}"  # noqa: S608 - names are ours
        self._values = tuple(where.values())
        self._clock = asyncio.get_running_loop().time
        self._newest = -1
        self._busy_until = self._far_at = 0.0
        self._begin = self._floor = 0
        self._is_behind = True

    async def look(self, newest: int) -> list[Row]:
        """Give at most a page of rows, the oldest first; `newest` says whether the table has grown.

        The cursor must have taken those of the last look, and they are sent.
        """
        self._cursor.raise_floor(self._floor)
        now_s = self._clock()
        if newest != self._newest:
            self._newest, self._busy_until = newest, now_s + _SETTLED_S
        is_far = now_s >= self._far_at
        if not (is_far or self._is_behind or now_s < self._busy_until):
            return []
        now = moment()
        unread, values = self._cursor.unread(0 if is_far else self._begin)
        sql = f"{self._sql}{unread} ORDER BY id LIMIT {_PAGE}"
        rows = await self._storage.fetch_all(sql, (*self._values, *values))
        self._is_behind = len(rows) == _PAGE
        read = rows[-1]["id"] if self._is_behind else now
        self._begin = read - span(_NEAR_S)
        settled = now - span(_FAR_S)
        if is_far:
            self._floor = min(read, settled)
            if read > settled:
                self._far_at = now_s + _FAR_EVERY_S
        return rows
