"""What keys, limits and money add to a request, in microseconds of CPU: `python -m tests.bench.policies`.

In one process, without sockets: each hook is called for thousands of exchanges in a row, so caches are warm.
In a gateway the same code meets cold ones: `python -m tests.bench --plugins` shows what it comes to there.
The database's own work is left out here; it has a thread of its own and no request waits for it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from raven_auth_keys import AuthKeys
from raven_limits import Limits
from raven_meter import Meter, ledger
from raven_meter.budgets import TOPIC, BudgetStore, NewBudget
from raven_meter.journal import Journal
from raven_meter.segment import Segment, read_records

from raven_proxy import Exchange, Principal, Usage
from raven_proxy.config import Config, Plan
from raven_proxy.counters import LocalCounters
from raven_proxy.exchange import Attempt, Candidate, Outcome
from raven_proxy.faces import Call, Face, read_nothing
from raven_proxy.organizations import Organizations
from raven_proxy.resources import Records
from raven_proxy.storage import SQLiteStorage
from raven_proxy.tasks import Tasks

__all__ = ["main"]

_FACE = Face(name="openai-chat", path="/v1/chat/completions", scope="chat:write", read_call=read_nothing)
_BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"word " * 60 + b'"}]}'
_ROUNDS = 7
_PLANS = {
    "requests": Plan(requests_per_minute=2**31),
    "everything": Plan(requests_per_minute=2**31, tokens_per_minute=2**31, max_concurrency=10**6),
}
# In the order in which a request meets them.
_STEPS = (
    ("keys", "authenticate"),
    ("limits", "authenticate"),
    ("limits", "check_request"),
    ("meter", "check_request"),
    ("meter", "before_send"),
    ("limits", "settle_exchange"),
    ("meter", "settle_exchange"),
)


class _Bench:
    """The plugins on a gateway whose rows go nowhere, and exchanges to feed them."""

    def __init__(self, folder: Path, storage: SQLiteStorage, *, plan: str | None = None) -> None:
        self.plugins: dict[str, Any] = {
            "keys": AuthKeys(),
            "limits": Limits(Limits.Config(default_plan=plan)),
            "meter": Meter(Meter.Config(fsync="never")),
        }
        told: dict[str, str] = {}
        self.gateway: Any = SimpleNamespace(
            storage=storage,
            config=Config(plans=_PLANS),
            counters=LocalCounters(),
            tasks=Tasks(),
            data_dir=folder,
            organizations=Organizations(),
            announce=told.__setitem__,
            pipeline=SimpleNamespace(plugins=(), resources=()),
            records=None,
        )
        self._told = told
        described = SimpleNamespace(max_tokens=16384)  # an upstream keeps them too
        upstream: Any = SimpleNamespace(
            name="openai-main", preset="openai", implicit=False, host="api.openai.com", credential=None,
            provider=SimpleNamespace(needs_key=lambda _: True),
            describe=lambda _: described,
        )  # fmt: skip
        self._candidate = Candidate(upstream, "gpt-4o-mini")
        self._attempt = Attempt("openai-main", "openai", "gpt-4o-mini", 200)
        self._request = SimpleNamespace(method="POST")
        self._made = 0

    async def open(self) -> None:
        for plugin in self.plugins.values():
            await plugin.startup(self.gateway)

    async def close(self) -> None:
        await self.plugins["meter"].shutdown()
        await self.plugins["keys"].shutdown()

    def make(self, count: int) -> list[Exchange]:
        """Make exchanges as they are when their requests have been judged."""
        return [self._make() for _ in range(count)]

    def _make(self) -> Exchange:
        self._made += 1
        pipeline: Any = None
        request: Any = self._request
        exchange = Exchange(request, pipeline, f"req_{self._made:024x}")
        exchange.headers = {"authorization": f"Bearer {self._told['admin_key']}"}
        exchange.face, exchange.body = _FACE, _BODY
        exchange.call = Call(model="gpt-4o-mini", max_output_tokens=500)
        exchange.candidates = (self._candidate,)
        exchange.attempts = [self._attempt]
        exchange.status, exchange.outcome = 200, Outcome.COMPLETED
        exchange.usage = Usage(prompt_tokens=80, completion_tokens=120, total_tokens=200, cached_tokens=16)
        return exchange

    def run(self, exchanges: list[Exchange]) -> dict[tuple[str, str], float]:
        """Lead them through the hooks; give the CPU of each in µs an exchange."""
        took = {}
        for name, hook in _STEPS:
            call = getattr(self.plugins[name], hook)
            began = time.process_time()
            for exchange in exchanges:
                work = call(exchange)
                if work is not None:
                    _finish(work, exchange)
            took[name, hook] = (time.process_time() - began) / len(exchanges) * 1e6
            for exchange in exchanges:
                exchange.candidate = self._candidate
        return took


def _finish(work: Any, exchange: Exchange) -> None:
    try:
        work.send(None)
    except StopIteration as stop:
        if isinstance(stop.value, Principal):
            exchange.principal = stop.value
    else:
        raise RuntimeError("a hook waited")


async def _measure(count: int, plan: str | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        storage = await SQLiteStorage.open(Path(folder) / "raven.db")
        bench = _Bench(Path(folder), storage, plan=plan)
        await bench.open()
        try:
            if plan is not None:
                await _limit(storage)
            storage.write_behind = lambda sql, row: None  # type: ignore[method-assign]
            found = [bench.run(bench.make(count)) for _ in range(_ROUNDS)]
        finally:
            await bench.close()
            await storage.close()
    best = {step: min(one[step] for one in found) for step in _STEPS}
    sums = {name: sum(took for (plugin, _), took in best.items() if plugin == name) for name in bench.plugins}
    return sums | {"all": sum(sums.values()), "journal": await _journal(count)}


async def _limit(storage: SQLiteStorage) -> None:
    entry = ledger.grant("grant_1", 10**15, int(time.time()), organization_id="org_default", note=None)
    await storage.execute(ledger.INSERT_ENTRY, entry.row())
    await Records(storage).migrate()
    await BudgetStore(storage).create(NewBudget(name="a", limit="900000"), "org_default")
    await storage.bump(TOPIC)


async def _journal(count: int) -> float:
    """Give what the two appends alone cost, records as they are written now."""
    with tempfile.TemporaryDirectory() as folder:
        storage = await SQLiteStorage.open(Path(folder) / "raven.db")
        bench = _Bench(Path(folder), storage)
        await bench.open()
        bench.run(bench.make(1))
        [path] = (Path(folder) / "journal").glob("*.log")
        admitted, finished = read_records(Segment(path, -1))
        records = [
            msgspec.Raw(msgspec.json.encode(admitted)),
            finished,
        ]  # the first is kept encoded
        await bench.close()
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
    """Measure without limits; with a balance, a budget and limited requests; with tokens and slots too."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    columns = ("keys", "limits", "meter", "all", "journal")
    print(f"{'µs of CPU an exchange':<24}" + "".join(f"{name:>9}" for name in columns))
    for name, plan in (
        ("nothing limited", None),
        ("requests and money", "requests"),
        ("everything", "everything"),
    ):
        took = asyncio.run(_measure(count, plan))
        print(f"{name:<24}" + "".join(f"{took[column]:9.2f}" for column in columns))


if __name__ == "__main__":
    main()
