"""What is billed where nothing came, and what costs nothing at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import FormData

from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.organizations import Organization

PRICES = {"m-1": {"input": "1000", "output": "2000"}}  # a tenth of a cent for a token that is read
WORDS = "word " * 2000
MESSAGES = [{"role": "user", "content": WORDS}]


@pytest.fixture
async def start(raven: Any, tmp_path: Path, upstream: MockUpstream) -> Any:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))

    async def make(
        *, base: tuple[str, ...] = ("meter", "openai"), provider: str = "openai", **meter: Any
    ) -> Any:
        table = {"name": "up", "provider": provider, "base_url": upstream.url, "key": {"env": "PATH"}}
        config = {"catalog": str(catalog), "upstreams": [table], "plugin": {"meter": meter}}
        return await raven(base=base, config=config)

    return make


async def last_row(gateway: Any) -> dict[str, Any]:
    """The newest exchange that reached a provider, once it is written."""
    storage = gateway.gateway.storage
    async with asyncio.timeout(5):
        while True:
            await storage.flush()
            row = await storage.fetch_one("SELECT * FROM exchanges WHERE model IS NOT NULL ORDER BY id DESC")
            if row is not None:
                return dict(row)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
async def test_T73_who_leaves_before_the_first_byte_pays_for_the_prompt(
    start: Any, upstream: MockUpstream, stream: bool
) -> None:
    """The provider has read it: billed within 2 s, marked as estimated, and nothing stays reserved."""
    gateway = await start()
    async with gateway.client.post("/credits/grants", json={"amount": "100"}) as granted:
        assert granted.status == 201
    upstream.script(ScriptedReply(delay_s=30))
    body = {"model": "up/m-1", "messages": MESSAGES, "stream": stream, "max_tokens": 5}
    asking = asyncio.create_task(gateway.client.post("/v1/chat/completions", json=body))  # noqa: TID251 - who leaves
    await upstream.wait_until(lambda: upstream.seen and upstream.seen[0].body)
    asking.cancel()
    row = await last_row(gateway)
    assert (row["outcome"], row["completion_tokens"], row["estimated"]) == ("cancelled", 0, 1)
    assert len(WORDS) / 4 <= row["prompt_tokens"] <= len(WORDS) / 2
    assert row["cost_nano"] == row["prompt_tokens"] * 1_000_000
    async with gateway.client.get("/credits") as shown:
        assert (await shown.json())["reserved"] == "0"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_T75_who_was_refused_pays_nothing(start: Any, upstream: MockUpstream, status: int) -> None:
    """A provider's refusal is no work of its model."""
    gateway = await start()
    upstream.script(*[ScriptedReply.of_json({"error": {"message": "no"}}, status=status)] * 3)
    async with gateway.client.post(
        "/v1/chat/completions", json={"model": "up/m-1", "messages": MESSAGES}
    ) as got:
        assert got.status == status
    assert (await last_row(gateway))["cost_nano"] == 0


async def test_counting_tokens_is_free(start: Any, upstream: MockUpstream) -> None:
    """It needs no money, no price, and takes none: as at the vendors."""
    gateway = await start(
        base=("meter", "anthropic", "openai"), provider="anthropic", prepaid=True, allow_unpriced=False
    )
    upstream.script(ScriptedReply.of_json({"input_tokens": 7}), ScriptedReply.of_json({"input_tokens": 7}))
    for model in ("up/m-1", "up/nobody-knows-its-price"):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        async with gateway.client.post("/v1/messages/count_tokens", json=body) as got:
            assert (got.status, await got.json()) == (200, {"input_tokens": 7})
    async with gateway.client.post("/v1/messages", json={**body, "model": "up/m-1", "max_tokens": 5}) as got:
        assert got.status == 402


@pytest.mark.parametrize(
    ("config", "own", "status"), [(False, True, 200), (True, False, 400), (False, None, 400)]
)
async def test_T69_an_organisation_may_let_models_without_a_price_pass(
    start: Any, upstream: MockUpstream, config: bool, own: bool | None, status: int
) -> None:
    """What it says of itself goes before the config."""
    gateway = await start(allow_unpriced=config)
    organization = Organization(id=ADMINISTRATOR.organization_id, allow_unpriced=own)
    gateway.gateway.organizations.replace({organization.id: organization})
    body = {"model": "up/nobody-knows-its-price", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.client.post("/v1/chat/completions", json=body) as got:
        assert got.status == status
        if status == 400:
            assert (await got.json())["error"]["code"] == "unknown_model_pricing"


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/up/batches"])
async def test_a_batch_does_not_pass_a_bound(start: Any, upstream: MockUpstream, path: str) -> None:
    """Nobody has read what it will cost: refused where money is bound, and nobody is asked."""
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    gateway = await start(prepaid=True, allow_unpriced=False)
    upstream.script(ScriptedReply.of_json({"id": "file-1", "object": "file", "purpose": "batch"}))
    form = FormData({"purpose": "batch"})
    form.add_field("file", b"{}", filename="a.jsonl")
    async with gateway.client.post("/v1/files", data=form) as put:
        assert put.status == 200
    async with gateway.client.post(path, json=body) as got:
        assert (got.status, (await got.json())["error"]["code"]) == (400, "unknown_model_pricing")
    assert len(upstream.seen) == 1
