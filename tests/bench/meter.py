"""What the meter adds to a request, in microseconds of CPU: `python -m tests.bench.meter [exchanges]`.

In one process, without sockets: admission, both records of the journal, the charge and the row. The
database's own work is left out; it has a thread of its own and no request waits for it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raven_meter import Meter

from raven_proxy import Exchange, Principal, Usage
from raven_proxy.config import Config
from raven_proxy.counters import LocalCounters
from raven_proxy.exchange import Attempt, Candidate, Outcome
from raven_proxy.faces import Call, Face, read_nothing
from raven_proxy.resources import Records
from raven_proxy.storage import SQLiteStorage
from raven_proxy.tasks import Tasks

__all__ = ["main"]

_FACE = Face(name="openai-chat", path="/v1/chat/completions", scope="chat:write", read_call=read_nothing)
_BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"word " * 60 + b'"}]}'
_ROUNDS = 7


class _Bench:
    """A meter whose rows go nowhere, and exchanges to feed it."""

    def __init__(self, folder: Path, storage: SQLiteStorage) -> None:
        self.counters = LocalCounters()
        self.meter = Meter(Meter.Config(fsync="never"))
        self.gateway: Any = SimpleNamespace(
            storage=storage,
            config=Config(),
            counters=self.counters,
            tasks=Tasks(),
            data_dir=folder,
            pipeline=SimpleNamespace(plugins=()),
            records=None,
        )
        described = SimpleNamespace(max_tokens=16384)  # an upstream keeps them too
        upstream: Any = SimpleNamespace(
            name="openai-main", preset="openai", implicit=False, host="api.openai.com", credential=None,
            provider=SimpleNamespace(needs_key=lambda _: True),
            describe=lambda _: described,
        )  # fmt: skip
        self.candidate = Candidate(upstream, "gpt-4o-mini")
        self.attempt = Attempt("openai-main", "openai", "gpt-4o-mini", 200)
        self.principal = Principal(key_id="key_0123456789", organization_id="org_default")
        self.made = 0

    def make(self, count: int) -> list[Exchange]:
        """Make exchanges as they are when their requests have been judged."""
        return [self._make() for _ in range(count)]

    def _make(self) -> Exchange:
        self.made += 1
        nothing: Any = None
        exchange = Exchange(nothing, nothing, f"req_{self.made:024x}")
        exchange.principal, exchange.face, exchange.body = self.principal, _FACE, _BODY
        exchange.call = Call(model="gpt-4o-mini", max_output_tokens=500)
        exchange.candidates = (self.candidate,)
        exchange.attempts = [self.attempt]
        exchange.status, exchange.outcome = 200, Outcome.COMPLETED
        exchange.usage = Usage(prompt_tokens=80, completion_tokens=120, total_tokens=200, cached_tokens=16)
        return exchange

    def run(self, exchanges: list[Exchange]) -> dict[str, float]:
        """Lead them through the three hooks; give the CPU of each in µs an exchange."""
        took = {"admit": 0.0, "send": 0.0, "settle": 0.0}
        meter, number = self.meter, len(exchanges)

        def step(name: str, call: Callable[[Exchange], Any], *, waits: bool) -> None:
            began = time.process_time()
            for exchange in exchanges:
                work = call(exchange)
                if waits:
                    try:
                        work.send(None)
                    except StopIteration:
                        continue
                    raise RuntimeError(f"{name} waited")
            took[name] = (time.process_time() - began) / number * 1e6

        step("admit", meter.check_request, waits=True)
        for exchange in exchanges:
            exchange.candidate = self.candidate
        step("send", meter.before_send, waits=True)
        step("settle", meter.settle_exchange, waits=False)
        return took


async def _measure(count: int, *, limits: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        storage = await SQLiteStorage.open(Path(folder) / "raven.db")
        bench = _Bench(Path(folder), storage)
        try:
            await bench.meter.startup(bench.gateway)
            if limits:
                await _limit(storage)
            storage.write_behind = lambda sql, row: None  # type: ignore[method-assign]
            found = [bench.run(bench.make(count)) for _ in range(_ROUNDS)]
        finally:
            await bench.meter.shutdown()
            await storage.close()
    best = {name: min(one[name] for one in found) for name in found[0]}
    return best | {"journal": await _journal(count)}


async def _limit(storage: SQLiteStorage) -> None:
    from raven_meter import ledger
    from raven_meter.budgets import TOPIC, BudgetStore, NewBudget

    entry = ledger.grant("grant_1", 10**15, int(time.time()), organization_id="org_default", note=None)
    await storage.execute(ledger.INSERT_ENTRY, entry.row())
    await Records(storage).migrate()
    await BudgetStore(storage).create(NewBudget(name="a", limit="900000"), "org_default")
    await storage.bump(TOPIC)


async def _journal(count: int) -> float:
    """Give what the two appends alone cost, records as they are written now."""
    from raven_meter.journal import Journal
    from raven_meter.segment import Segment, read_records

    with tempfile.TemporaryDirectory() as folder:
        storage = await SQLiteStorage.open(Path(folder) / "raven.db")
        bench = _Bench(Path(folder), storage)
        await bench.meter.startup(bench.gateway)
        bench.run(bench.make(1))
        [path] = (Path(folder) / "journal").glob("*.log")
        records = list(read_records(Segment(path, -1)))
        await bench.meter.shutdown()
        await storage.close()
        journal = Journal(Path(folder) / "other", "never")
        began = time.process_time()
        for _ in range(count):
            for record in records:
                journal.append(record)
        took = (time.process_time() - began) / count * 1e6
        journal.close()
    return took


def main() -> None:
    """Measure without limits, and with a balance and a budget."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    print(f"{'µs of CPU an exchange':<26} {'admit':>7} {'send':>7} {'settle':>7} {'all':>7}   of it journal")
    for name, limits in (("no limits", False), ("a balance and a budget", True)):
        took = asyncio.run(_measure(count, limits=limits))
        steps = [took[step] for step in ("admit", "send", "settle")]
        cells = " ".join(f"{one:7.2f}" for one in (*steps, sum(steps)))
        print(f"{name:<26} {cells}   {took['journal']:13.2f}")


if __name__ == "__main__":
    main()
