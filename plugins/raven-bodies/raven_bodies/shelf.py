"""The table of kept bodies: sealed on the way in, opened for one request on the way out, dropped in time.

A row is compressed and sealed (AES-256-GCM under the gateway's secret, bound to its request), with no hint of
its end in the clear. Rows wait a moment in memory, so that many are written at once; where too many wait, the
newest are not kept.
"""

from __future__ import annotations

import asyncio
import base64
import time
import zlib

import msgspec
import structlog

from raven_proxy.sealing import Sealer
from raven_proxy.storage import Storage

__all__ = ["MIGRATIONS", "Kept", "Shelf"]

MIGRATIONS = (
    """CREATE TABLE kept_bodies (
      request_id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL,
      sealed BLOB NOT NULL
    );
    CREATE INDEX kept_bodies_by_time ON kept_bodies (created_at);""",
)
_INSERT = """INSERT INTO kept_bodies (request_id, organization_id, created_at, sealed) VALUES (?, ?, ?, ?)
             ON CONFLICT (request_id) DO NOTHING"""
_MAX_WAITING = 32 * 1024 * 1024  # bytes
_WRITE_EVERY_S = 0.2
_LEVEL = 1  # of zlib: the quickest; text shrinks to a third all the same

_log = structlog.get_logger("raven_bodies.shelf")


class Kept(msgspec.Struct, kw_only=True):
    """What is kept of one exchange: as many bytes as the settings allow, and how many there were."""

    request_type: str
    request: bytes
    request_size: int
    response_type: str
    response: bytes
    response_size: int
    error: str | None


class Shelf:
    """The kept bodies of one gateway's database. `lost` counts those that could not be kept."""

    def __init__(self, storage: Storage, sealer: Sealer) -> None:
        self._storage = storage
        self._sealer = sealer
        self._waiting: list[tuple[str, str, int, bytes]] = []
        self._size = 0
        self.lost = 0

    def put(self, request_id: str, organization_id: str, kept: Kept) -> None:
        """Seal and queue what is to be kept."""
        packed = base64.b85encode(zlib.compress(msgspec.msgpack.encode(kept), _LEVEL)).decode()
        sealed = self._sealer.seal(packed, _place(request_id), show_hint=False)
        if self._size + len(sealed) > _MAX_WAITING:
            self.lost += 1
            if self.lost % 1000 == 1:
                _log.error("bodies could not be kept", lost=self.lost)
            return
        self._size += len(sealed)
        self._waiting.append((request_id, organization_id, int(time.time()), sealed))

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await self.flush()
            except Exception as error:
                _log.error("bodies have to wait", reason=f"{type(error).__name__}: {error}")

    async def flush(self) -> None:
        """Write what waits. Raises the database's error; the rows are kept."""
        rows = self._waiting[:]
        if not rows:
            return
        async with self._storage.transaction() as transaction:
            for row in rows:
                await transaction.execute(_INSERT, row)
        del self._waiting[: len(rows)]
        self._size -= sum(len(row[3]) for row in rows)

    async def get(self, request_id: str, organization_id: str) -> Kept | None:
        """Open what was kept of an organisation's request. Raises SealBroken."""
        await self.flush()
        row = await self._storage.fetch_one(
            "SELECT sealed FROM kept_bodies WHERE request_id = ? AND organization_id = ?",
            (request_id, organization_id),
        )
        if row is None:
            return None
        packed = self._sealer.open(bytes(row["sealed"]), _place(request_id))
        return msgspec.msgpack.decode(zlib.decompress(base64.b85decode(packed)), type=Kept)

    async def forget_old(self, keep_days: float) -> None:
        """Drop what is older."""
        before = int(time.time() - keep_days * 86_400)
        await self._storage.execute("DELETE FROM kept_bodies WHERE created_at < ?", (before,))


def _place(request_id: str) -> str:
    return f"kept_bodies/{request_id}"
