"""T68, T76: money in several processes on one database, and after the first byte."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession  # noqa: TID251 - the client's side of a test

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream, ScriptedReply

from .running import serve, write_config

AUTH = {"Authorization": f"Bearer {ADMIN_KEY}"}
PRICES = {"m-1": {"input": "1000", "output": "2000"}}
QUESTION = {"model": "mock/m-1", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def config_of(folder: Path, upstream: MockUpstream, **settings: Any) -> Path:
    catalog = folder / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))
    plugins = ["auth-keys", "meter", "openai"]
    fixed = {"catalog": str(catalog), "plugins": plugins, "models_refresh_s": 0, "access_log": False}
    return write_config(folder, upstream, **fixed, **settings)


def reply(**fields: Any) -> ScriptedReply:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice]}
    return ScriptedReply.of_json(document | {"usage": USAGE}, **fields)


async def ask(session: ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with session.request(method, path, json=body) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


@pytest.mark.parametrize("by_flag", [False, True], ids=["config", "flag"])
async def test_t68_workers_share_one_budget(tmp_path: Path, upstream: MockUpstream, by_flag: bool) -> None:
    """Fifty at once on three workers and a balance for ten: never more than it, and the books agree."""
    config = config_of(tmp_path, upstream, **({} if by_flag else {"workers": 3}))
    arguments = ("--workers", "3") if by_flag else ()
    async with serve(config, *arguments) as running, ClientSession(running.url, headers=AUTH) as session:
        async with asyncio.timeout(20):
            while len(running.workers()) < 3 or await running.status("/health/ready") != 200:
                await asyncio.sleep(0.05)
        assert (await ask(session, "POST", "/credits/grants", {"amount": "0.2"}))[0] == 201
        await asyncio.sleep(0.5)  # a grant reaches the other workers within the watch's interval
        upstream.script(*[reply(delay_s=0.2) for _ in range(60)])

        async def one() -> int:
            # A connection of its own each, so that every worker gets some.
            async with ClientSession(running.url, headers=AUTH) as own:
                return (await ask(own, "POST", "/v1/chat/completions", QUESTION))[0]

        statuses = await asyncio.gather(*(one() for _ in range(50)))
        assert set(statuses) == {200, 402}
        assert len(upstream.seen) == statuses.count(200)
        await asyncio.sleep(0.5)
        _, money = await ask(session, "GET", "/credits")
        spent = Decimal("0.02") * statuses.count(200)
        assert (Decimal(money["balance"]), money["reserved"]) == (Decimal("0.2") - spent, "0")
        assert Decimal(money["balance"]) >= 0
        # What was held is given back: the rest of the money can be spent, to the last request it covers.
        for _ in range(20):
            await one()
        await asyncio.sleep(0.5)  # what another worker charged is in the ledger a moment later
        _, money = await ask(session, "GET", "/credits")
        assert 0 <= Decimal(money["balance"]) < Decimal("0.2")
        running.send(signal.SIGTERM)
        assert await running.ended() == 0
    database = sqlite3.connect(tmp_path / "data" / "raven.db")
    rows = database.execute("SELECT SUM(cost_nano) FROM exchanges").fetchone()
    entries = database.execute("SELECT SUM(amount_nano) FROM entries WHERE kind = 'charge'").fetchone()
    database.close()
    assert rows == entries
    assert (Decimal(rows[0]) / 10**9) == Decimal("0.2") - Decimal(money["balance"])


async def test_t68_gateways_of_one_machine_share_one_budget(tmp_path: Path, upstream: MockUpstream) -> None:
    """Two gateways on one data directory count together where the config says so."""
    config = config_of(tmp_path, upstream, counters="machine")
    async with (
        serve(config) as one,
        serve(config) as two,
        ClientSession(one.url, headers=AUTH) as first,
        ClientSession(two.url, headers=AUTH) as second,
    ):
        await ask(first, "POST", "/credits/grants", {"amount": "0.2"})
        await asyncio.sleep(0.5)
        upstream.script(*[reply(delay_s=0.2) for _ in range(60)])
        sessions = (first, second)
        asking = (ask(sessions[n % 2], "POST", "/v1/chat/completions", QUESTION) for n in range(40))
        statuses = [status for status, _ in await asyncio.gather(*asking)]
        assert set(statuses) == {200, 402}
        await asyncio.sleep(0.5)
        _, money = await ask(second, "GET", "/credits")
        assert Decimal(money["balance"]) == Decimal("0.2") - Decimal("0.02") * statuses.count(200)
        assert money["reserved"] == "0"


async def test_t76_a_failure_after_the_first_byte_is_one_record(
    tmp_path: Path, upstream: MockUpstream
) -> None:
    """No retry, no fallback, one charge for what came."""
    config = config_of(tmp_path, upstream, models=[{"name": "two", "targets": ["mock/m-1", "mock/m-1"]}])
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    delta = {"index": 0, "delta": {"content": "words " * 20}, "finish_reason": None}
    frame = b"data: " + msgspec.json.encode(chunk | {"choices": [delta]}) + b"\n\n"
    head = {"Content-Type": "text/event-stream"}
    upstream.script(ScriptedReply(chunks=[frame, 0.1, frame], headers=head, end="reset"))
    async with serve(config) as running, ClientSession(running.url, headers=AUTH) as session:
        question = QUESTION | {"model": "two", "stream": True}
        async with session.post("/v1/chat/completions", json=question) as answer:
            try:
                body = await answer.read()
            except Exception:
                body = b""
        assert b"[DONE]" not in body
        running.send(signal.SIGTERM)
        await running.ended()
    assert len(upstream.seen) == 1
    database = sqlite3.connect(tmp_path / "data" / "raven.db")
    sql = "SELECT outcome, attempts, estimated, cost_nano > 0 FROM exchanges WHERE face = 'openai-chat'"
    rows = database.execute(sql).fetchall()
    database.close()
    assert rows == [("truncated", 1, 1, 1)]
