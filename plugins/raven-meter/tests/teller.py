"""A meter on real files that can be driven step by step, die and come back, at any time of day."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import raven_meter.accounting
import raven_meter.books
import raven_meter.budgets
import raven_meter.exchanges
import raven_meter.records
from multidict import MultiDict
from raven_meter import Meter

from raven_proxy import Exchange, Outcome, Principal, Usage
from raven_proxy.config import Config
from raven_proxy.counters import LocalCounters
from raven_proxy.exchange import Candidate
from raven_proxy.faces import Call, Face, read_nothing
from raven_proxy.organizations import Organizations
from raven_proxy.resources import Records
from raven_proxy.storage import SQLiteStorage
from raven_proxy.tasks import Tasks

CHAT = Face(name="chat", path="/v1/chat/completions", read_call=read_nothing)
_TIMED = (
    raven_meter.accounting,
    raven_meter.books,
    raven_meter.budgets,
    raven_meter.exchanges,
    raven_meter.records,
)


class Clock:
    """Stands in the place of `time` in the meter's modules; `now` is in Unix seconds."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.perf_counter = time.perf_counter
        self.monotonic = time.monotonic
        self.time_ns = time.time_ns

    def time(self) -> float:
        return self.now

    def install(self) -> None:
        for module in _TIMED:
            module.time = self  # type: ignore[attr-defined]

    @staticmethod
    def remove() -> None:
        for module in _TIMED:
            module.time = time  # type: ignore[attr-defined]


class Teller:
    """One process with a meter. `counters` are its memory; the files in `folder` outlive it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = Meter.Config(fsync="never", **settings)
        self.counters: Any = LocalCounters()
        self.storage: SQLiteStorage
        self.gateway: Any
        self.meters: list[Meter] = []
        self.is_open = False

    @property
    def meter(self) -> Meter:
        """The one that new exchanges go to."""
        return self.meters[-1]

    async def open(self) -> None:
        self.counters = LocalCounters()
        self.storage = await SQLiteStorage.open(self.folder / "raven.db")
        await Records(self.storage).migrate()
        self.is_open = True
        catalog = self.folder / "catalog.json"
        self.gateway = SimpleNamespace(
            pipeline=SimpleNamespace(plugins=()),
            records=None,
            storage=self.storage,
            config=msgspec.structs.replace(Config(), catalog=str(catalog) if catalog.exists() else None),
            counters=self.counters,
            tasks=Tasks(),
            data_dir=self.folder,
            organizations=Organizations(),
        )
        await self.reload()

    async def reload(self) -> None:
        """Start another meter beside the one that is there, as a reload does."""
        meter = Meter(self.settings)
        await meter.startup(self.gateway)
        self.meters.append(meter)

    async def retire(self, meter: Meter) -> None:
        self.meters.remove(meter)
        await meter.shutdown()

    async def close(self) -> None:
        while self.meters:
            await self.retire(self.meters[-1])
        self.is_open = False
        await self.storage.close()

    async def abandon(self) -> None:
        """Leave no thread behind, whatever state a failure left."""
        if self.is_open:
            await self.die()

    async def die(self) -> None:
        """End as kill -9 does: what waits for the database is gone, locks are let go of."""
        self.is_open = False
        for meter in self.meters:
            for task in meter._background:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*meter._background, return_exceptions=True)
            for segment in (meter._journal._segment, *meter._journal._kept):
                if segment._window is not None:
                    segment._window.close()
                os.close(segment.fd)
        self.meters.clear()
        for task in self.storage._background:
            task.cancel()
        await asyncio.wait(self.storage._background)
        await self.storage._connection.close()

    async def rows(self, table: str = "exchanges") -> list[dict[str, Any]]:
        await self.storage.flush()
        return await self.storage.fetch_all(f"SELECT * FROM {table} ORDER BY id")

    async def reconcile(self) -> list[Any]:
        return await self.meter._accounting._books.reconcile()


def upstream(name: str = "openai-main", preset: str = "openai", longest: int | None = None) -> Any:
    return SimpleNamespace(
        name=name,
        preset=preset,
        implicit=False,
        provider=SimpleNamespace(needs_key=lambda preset: True),
        describe=lambda model: SimpleNamespace(max_tokens=longest),
    )


def exchange_of(name: str, principal: Principal, model: str, **fields: Any) -> Exchange:
    """Make an exchange as it is when its request has been judged."""
    request: Any = SimpleNamespace(query=MultiDict())
    pipeline: Any = None
    exchange = Exchange(request, pipeline, name)
    exchange.principal = principal
    exchange.face = CHAT
    exchange.body = fields.pop("body", b'{"messages":[]}')
    exchange.call = Call(model=model, stream=True, max_output_tokens=fields.pop("max_tokens", 100))
    exchange.candidates = (Candidate(upstream(), model),)
    for key, value in fields.items():
        setattr(exchange, key, value)
    return exchange


def finish(exchange: Exchange, usage: Usage | None, outcome: Outcome = Outcome.COMPLETED) -> None:
    """Let it end; the meter is not told yet."""
    exchange.usage, exchange.outcome = usage, outcome
    exchange.status = {Outcome.COMPLETED: 200, Outcome.CANCELLED: 499}.get(outcome, 502)


def tokens(prompt: int, completion: int, **fields: Any) -> Usage:
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **fields
    )
