"""The routes of /docs/pricing: open or closed as the config says, and never more than their own files."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_meter import pricing_page
from raven_meter.catalogue import load_packaged
from raven_meter.catalogue.operator import OperatorModel, find, read_catalog
from raven_meter.pricing import tariff_of
from raven_meter.pricing_page import build

from raven_proxy.harness import ADMINISTRATOR

FOLDER = Path(pricing_page.__file__).parent
PATHS = ["/docs/pricing", "/docs/pricing.css", "/docs/pricing.js", "/docs/pricing.json"]
NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("path", PATHS)
async def test_it_needs_no_key_and_its_policy_is_strict(raven: Any, path: str) -> None:
    """Public: no key, also a bad one; scripts and styles only from its own files."""
    gateway = await raven(base=("meter", "demo"))
    for key in ("", "Bearer nonsense"):
        async with gateway.client.get(path, headers={"Authorization": key}) as reply:
            body = await reply.text()
        assert reply.status == 200
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "public, max-age=300"
        assert re.search(r"https?://", body if not path.endswith("json") else "") is None
    async with gateway.client.post(path, json={}) as reply:
        assert reply.status == 405


@pytest.mark.parametrize("path", PATHS)
async def test_an_operator_can_close_it(raven: Any, path: str) -> None:
    """Then it takes a key with models:read, like the list of models."""
    config = {"plugin": {"meter": {"public_pricing": False}}}
    principal = msgspec.structs.replace(ADMINISTRATOR, scopes=frozenset({"chat:write"}))
    for scopes, status in ((ADMINISTRATOR, 200), (principal, 403)):
        gateway = await raven(base=("meter", "demo"), config=config, principal=scopes)
        async with gateway.client.get(path) as reply:
            assert reply.status == status
        async with gateway.client.get(path, headers={"Authorization": ""}) as reply:
            assert reply.status == 401


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (FOLDER / "page.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|\sstyle=|javascript:", page)
    script = (FOLDER / "page.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script
    )


async def test_the_document_holds_every_model_once(raven: Any) -> None:
    """Small enough to be sent at once; amounts are decimal strings."""
    gateway = await raven(base=("meter", "demo"))
    async with gateway.client.get("/docs/pricing.json") as reply:
        data = await reply.read()
    document = msgspec.json.decode(data)
    assert len(data) < 400_000
    assert len(document["rows"]) == sum(len(entry.models) for entry in load_packaged().providers())
    assert max(Counter((row[0], row[1]) for row in document["rows"]).values()) == 1
    amount = re.compile(r"([0-9]+(\.[0-9]{1,12})?)?")
    assert all(amount.fullmatch(price) for row in document["rows"] for price in row[4:8])


def test_it_shows_what_is_charged() -> None:
    """The shown prices of input and output are those of the tariff that charges, the operator's first."""
    packaged = load_packaged()
    own = msgspec.convert({"gpt-4o": {"provider": "openai", "output": "11"}}, dict[str, OperatorModel])
    checked = 0
    for row in build(packaged, own, NOW):
        entry = packaged.find(row.provider, row.model)
        tariff = tariff_of(entry, find(own, row.provider, row.model), NOW) if entry is not None else None
        if entry is None or entry.id != row.model or tariff is None:
            continue
        for kind, shown in (("input", row.input), ("output", row.output)):
            if shown:
                assert abs(Decimal(tariff.steps[kind][0][1]) / 10**15 - Decimal(shown)) < Decimal(10) ** -12
                checked += 1
    assert checked > 3000
    found = next(
        row for row in build(packaged, own, NOW) if (row.provider, row.model) == ("openai", "gpt-4o")
    )
    assert (found.output, found.notes[0]) == ("11", "set here")


def test_the_gateways_names_of_a_provider_are_shown(tmp_path: Path) -> None:
    """Whoever looks for "bedrock" or "vertex" finds what the price library files elsewhere."""
    providers = {row.provider for row in build(load_packaged(), {}, NOW)}
    assert {"aws (bedrock, bedrock_mantle)", "google (gemini, gemini_openai, vertex)"} <= providers
    path = tmp_path / "catalog.json"
    path.write_text('{"bedrock/amazon.nova-lite-v1:0": {"input": "9"}}')
    own = build(load_packaged(), read_catalog(str(path)), NOW)[0]
    assert (own.provider, own.model, own.input) == ("bedrock", "amazon.nova-lite-v1:0", "9")
