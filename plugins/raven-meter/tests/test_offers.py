"""`GET /models`: what an organisation may call, where it goes, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream

OPERATORS = {
    "gpt-4o-mini": {"input": "9", "multiplier": "1.25", "context_window": 77, "max_output_tokens": 7},
    "house": {"input": "0.5", "output": "1", "image": "0.04"},
}
MODELS = ["own-model", "gpt-4o"]
PEOPLE = {
    name: Principal(
        key_id=f"key_{name}", organization_id=f"org_{name}", scopes=ADMINISTRATOR.scopes, role="owner",
        allowed_models=("nothing/*",),
    )
    for name in "ab"
}  # fmt: skip


class People:
    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return PEOPLE.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))


@pytest.fixture
async def gateway(raven: Any, tmp_path: Path, upstream: MockUpstream) -> Any:
    (tmp_path / "catalog.json").write_bytes(msgspec.json.encode(OPERATORS))
    (tmp_path / "key").write_text("sk-upstream-test")
    tables = [
        {"name": "main", "provider": "openai", "models": ["gpt-4o-mini", "gpt-4o", "house", "nobody-7"]},
        {"name": "google", "provider": "gemini", "models": ["gemini-2.5-pro"]},
        {"name": "hall", "provider": "ollama", "models": ["llama3"]},
    ]
    for table in tables:
        table |= {"base_url": upstream.url, "key": {"file": str(tmp_path / "key")}}
    config = {
        "catalog": str(tmp_path / "catalog.json"),
        "models": [{"name": "fast", "target": "main/gpt-4o"}, {"name": "team/fast", "target": "demo/chat"}],
    }
    base = ("meter", "byok", "providers", "openai", "gemini", "ollama", "demo")
    return await raven([People], base=base, upstreams=tables, config=config)


async def ask(gateway: Any, path: str = "/models", who: str | None = None, **more: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {who}"} if who else {}
    method = "POST" if "json" in more else "GET"
    async with gateway.client.request(method, path, headers=headers, **more) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def test_R_a_model_says_where_it_goes_and_what_it_costs(gateway: Any) -> None:
    """An alias by its target; the operator's word over the catalogue's; nobody's is `unknown`, not free."""
    status, listed = await ask(gateway)
    assert status == 200
    found = {one["id"]: one for one in listed}
    assert {"fast", "team/fast", "gpt-4o-mini", "gpt-4o", "house", "nobody-7", "llama3"} <= set(found)
    assert found["fast"]["prices"] == found["gpt-4o"]["prices"]
    assert found["fast"]["prices"].items() >= {"input": "2.5", "output": "10", "cached_input": "1.25"}.items()
    assert (found["fast"]["provider"], found["fast"]["upstream"]) == ("openai", "main")
    assert (found["fast"]["contextWindow"], found["fast"]["multiplier"]) == (128000, "1")
    assert found["fast"]["source"] == "catalog"
    mini = found["gpt-4o-mini"]
    assert (mini["source"], mini["multiplier"]) == ("operator", "1.25")
    assert mini["prices"].items() >= {"input": "9", "output": "0.6"}.items()
    assert (mini["contextWindow"], mini["maxOutputTokens"]) == (77, 7)
    assert found["house"]["prices"] == {"input": "0.5", "output": "1", "image": "0.04"}
    assert found["house"]["source"] == "operator"
    for name in ("nobody-7", "llama3"):
        assert (found[name]["source"], found[name]["prices"]) == ("unknown", {})
    assert found["gemini-2.5-pro"]["tiers"]["input"] == [{"above": 200000, "price": "2.5"}]
    assert found["gemini-2.5-pro"]["prices"]["input"] == "1.25"
    assert found["team/fast"]["upstream"] == "demo"


async def test_an_organisation_sees_its_own_accounts_and_no_others(gateway: Any) -> None:
    """Its own come first, one that is off is not offered, and a key's `allowedModels` do not count."""
    account = {"provider": "groq", "name": "Ours", "apiKey": "gsk-test-0123456789", "models": MODELS}
    for fields in ({}, {"name": "Off", "models": ["off-model"], "isEnabled": False}):
        status, made = await ask(gateway, "/providers", "a", json=account | fields)
        assert status == 201, made
    theirs = {one["id"]: one for one in (await ask(gateway, who="a"))[1]}
    assert (theirs["own-model"]["provider"], theirs["own-model"]["upstream"]) == ("groq", "ours")
    assert "off-model" not in theirs
    assert theirs["gpt-4o"]["upstream"] == "ours"
    others = {one["id"]: one for one in (await ask(gateway, who="b"))[1]}
    assert "own-model" not in others
    assert others["gpt-4o"]["upstream"] == "main"


async def test_it_pages_as_every_list_does(gateway: Any) -> None:
    whole = [one["id"] for one in (await ask(gateway))[1]]
    walked: list[str] = []
    path: str | None = "/models?limit=3"
    while path:
        async with gateway.client.get(path) as reply:
            walked += [one["id"] for one in await reply.json()]
            link = reply.headers.get("Link")
        path = link.split(">")[0][1:] if link else None
    assert walked == whole
    status, answer = await ask(gateway, "/models?after=none")
    assert (status, answer["error"]["param"]) == (400, "after")
