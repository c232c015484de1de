"""A batch is charged once, when it is first seen to be over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

from .test_money import Bank

PRICES = {"m-1": {"input": "10", "output": "20"}}
BATCH = {"id": "batch_1", "object": "batch", "status": "in_progress", "model": "m-1", "usage": None}
USAGE = {
    "input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500,
    "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 100},
}  # fmt: skip
LINES = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m-1"}}\n'


@pytest.fixture
async def start(raven: Any, upstream: Any, tmp_path: Path) -> Callable[..., Any]:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))

    async def start(**meter: Any) -> Bank:
        table = {"catalog": str(catalog), "access_log": False, "plugin": {"meter": meter}}
        gateway = await raven(
            upstreams=[upstream], base=("meter", "openai"), config=table, principal=ADMINISTRATOR
        )
        upstream.script(ScriptedReply.of_json(BATCH))
        question = {"input_file_id": "file_1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        del question["input_file_id"]
        async with gateway.client.post("/v1/batches", json=question) as answer:
            assert answer.status == 200, await answer.text()
        return Bank(gateway, upstream)

    return start


async def look(bank: Bank, **fields: Any) -> None:
    bank.upstream.script(ScriptedReply.of_json(BATCH | fields))
    async with bank.gateway.client.get("/v1/batches/batch_1") as answer:
        assert answer.status == 200, await answer.text()


async def charged(bank: Bank, nano: int) -> list[Any]:
    async with asyncio.timeout(5):
        while True:
            entries = [one for one in await bank.rows("entries") if one["kind"] == "charge"]
            if sum(one["amount_nano"] for one in entries) == nano:
                return entries
            await asyncio.sleep(0.02)


async def test_a_batch_is_charged_once_at_its_share_of_the_price(start: Any) -> None:
    """Half the list price unless the operator says otherwise; asking again costs nothing."""
    bank = await start()
    await look(bank)
    await look(bank, status="completed", usage=USAGE)
    [entry] = await charged(bank, 10_000_000)
    assert entry["organization_id"] == ADMINISTRATOR.organization_id
    meter = next(p.instance for p in bank.gateway.gateway.pipeline.plugins if p.name == "openai")
    meter._batches._told.clear()  # another process sees it too
    await look(bank, status="completed", usage=USAGE)
    await look(bank, status="completed", usage=USAGE)
    await asyncio.sleep(0.2)
    await charged(bank, 10_000_000)
    [row] = [one for one in await bank.rows() if one["face"] == "batch"]
    assert (row["model"], row["prompt_tokens"], row["completion_tokens"]) == ("m-1", 1000, 500)
    assert row["cost_nano"] == 10_000_000
    await bank.check_invariants()


async def test_the_share_is_the_operators(start: Any) -> None:
    bank = await start(batch_share="1")
    await look(bank, status="expired", usage=USAGE)
    await charged(bank, 20_000_000)


async def test_a_budget_that_came_later_counts_it(start: Any) -> None:
    bank = await start()
    budget = await bank.budget("1")
    await look(bank, status="completed", usage=USAGE)
    await charged(bank, 10_000_000)
    _, shown = await bank.ask("GET", f"/budgets/{budget['id']}")
    assert shown["spent"] == "0.01"
    await bank.check_invariants()


@pytest.mark.parametrize(
    "fields",
    [{"status": "in_progress"}, {"status": "completed", "usage": None}, {"status": "completed", "usage": {}},
     {"status": "failed", "usage": USAGE}, {"status": "completed", "usage": USAGE, "model": 7}],
)  # fmt: skip
async def test_what_says_nothing_costs_nothing(start: Any, fields: Any) -> None:
    bank = await start()
    await look(bank, **fields)
    await asyncio.sleep(0.1)
    await charged(bank, 0)
