"""`/explain` and the gateway say the same of a request, whatever state the gateway is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import FormData

from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

PRICES = {"m-1": {"input": "1000", "output": "2000"}}
TEXT = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "mock/m-1", "messages": TEXT, "max_tokens": 10}
BATCH = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "chat": ("POST", "/v1/chat/completions", CHAT),
    "chat of no known price": ("POST", "/v1/chat/completions", CHAT | {"model": "mock/m-unknown"}),
    "chat of no upstream": ("POST", "/v1/chat/completions", CHAT | {"model": "nobody/m"}),
    "chat of an own account": ("POST", "/v1/chat/completions", CHAT | {"model": "spare/m-1"}),
    "chat without a key": ("POST", "/v1/chat/completions", CHAT | {"model": "keyless/m-1"}),
    "messages": ("POST", "/v1/messages", CHAT),
    "count_tokens": ("POST", "/v1/messages/count_tokens", {"model": "mock/m-1", "messages": TEXT}),
    "models": ("GET", "/v1/models", None),
    "usage": ("GET", "/v1/usage", None),
    "files": ("GET", "/v1/files", None),
    "batches": ("GET", "/v1/batches", None),
    "a batch": ("POST", "/v1/batches", BATCH),
    "raw chat": ("POST", "/v1/mock/chat/completions", CHAT | {"model": "m-1"}),
    "raw models": ("GET", "/v1/mock/models", None),
    "opaque": ("POST", "/v1/mock/things", {"input": "x"}),
    "opaque with a model": ("POST", "/v1/mock/things", {"model": "m-1", "input": "x"}),
    "opaque of no known price": ("POST", "/v1/mock/things", {"model": "m-unknown", "input": "x"}),
    "opaque get": ("GET", "/v1/mock/things", None),
    "raw account": ("POST", "/v1/spare/chat/completions", CHAT | {"model": "m-1"}),
    "nobody's": ("POST", "/v1/nobody/chat/completions", CHAT),
    "management": ("GET", "/credits", None),
}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
ANSWER = {"id": "file-1", "object": "list", "data": [], "choices": [CHOICE], "usage": {}}
PREPAID = {"plugin": {"meter": {"prepaid": True, "allow_unpriced": False}}}
PRICED = {"plugin": {"meter": {"allow_unpriced": False}}}
UNPRICED = {"plugin": {"meter": {"prepaid": True, "allow_unpriced": True}}}
FEW = msgspec.structs.replace(ADMINISTRATOR, allowed_models=frozenset({"mock/m-2"}))
ONCE = {"name": "once", "when": "provider_day", "measure": "requests", "threshold": 1, "stop": True}
STOP = {"plugin": {"alerts": {"rules": [ONCE]}}}
POOR = (402, "insufficient_balance")
STATES: dict[str, tuple[dict[str, Any], tuple[int, str] | None]] = {  # and what becomes of a chat there
    "free": ({}, None),
    "no balance": ({"config": PREPAID}, POOR),
    "known prices only": ({"config": PRICED}, None),
    "a balance": ({"config": PREPAID, "grant": "5"}, None),
    "no balance, unpriced models": ({"config": UNPRICED}, POOR),
    "a balance, unpriced models": ({"config": UNPRICED, "grant": "5"}, None),
    "paused": ({"config": STOP, "keyless": False}, (429, "provider_paused")),
    "few models": ({"principal": FEW}, (403, "model_not_allowed")),
    "a disabled account": ({"account": {"isEnabled": False}}, None),
    "an account without a key": ({"account": {"apiKey": None}}, None),
    "an account": ({"account": {}}, None),
}


class Desk:
    """Asks a gateway in one of the states."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.gateway.client.request(method, path, json=body) as answer:
            data = await answer.read()
            return answer.status, msgspec.json.decode(data) if data else None

    async def explain(self, method: str, path: str, body: Any) -> Any:
        asked = {"method": method, "path": path} | ({"body": body} if body is not None else {})
        status, told = await self.ask("POST", "/explain", asked)
        assert status == 200, told
        error = told["error"]
        return None if error is None else (error["status"], error["code"])

    async def send(self, method: str, path: str, body: Any) -> Any:
        status, answer = await self.ask(method, path, body)
        return None if status < 400 else (status, answer["error"].get("code"))  # Anthropic's has none


@pytest.fixture
async def open_desk(raven: Any, upstream: Any, tmp_path: Path) -> Callable[..., Any]:
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))
    upstream.script(*[ScriptedReply.of_json(ANSWER)] * 100)

    async def open_desk(
        config: Any = None,
        grant: str = "",
        first: Any = None,
        principal: Any = ADMINISTRATOR,
        keyless: bool = True,
        account: Any = None,
    ) -> Desk:
        table = {"catalog": str(catalog)} | (config or {})
        base = ("limits", "byok", "meter", "alerts", "providers", "openai", "anthropic")
        table["allow_private_upstreams"] = True
        second = {"name": "keyless", "provider": "openai", "base_url": upstream.url}
        upstreams = [upstream, second] if keyless else [upstream]
        desk = Desk(await raven(upstreams=upstreams, base=base, config=table, principal=principal))
        if grant:
            assert (await desk.ask("POST", "/credits/grants", {"amount": grant}))[0] == 201
        if account is not None:
            body = {
                "provider": "openai",
                "name": "spare",
                "apiKey": "sk-own-0123456789",
                "baseUrl": upstream.url,
            }
            status, answer = await desk.ask("POST", "/providers", body | account)
            assert status == 201, answer
        form = FormData({"purpose": "batch"})
        form.add_field("file", b"{}", filename="a.jsonl")
        async with desk.gateway.client.post("/v1/files", data=form) as answer:
            await answer.read()
        return desk

    return open_desk


@pytest.mark.parametrize(("options", "chat"), STATES.values(), ids=STATES)
async def test_it_says_what_happens(open_desk: Callable[..., Any], options: Any, chat: Any) -> None:
    """For every request of the table: the same status and code, or that it passes."""
    desk = await open_desk(**options)
    told, happened = {}, {}
    for name, request in REQUESTS.items():
        told[name] = await desk.explain(*request)
        happened[name] = await desk.send(*request)
        if happened[name] is not None and happened[name][1] is None:
            told[name] = told[name] and (told[name][0], None)
    assert told == happened
    assert happened["chat"] == chat
    assert happened["models"] is happened["management"] is None


async def test_what_is_paused_is_no_place(open_desk: Callable[..., Any]) -> None:
    """The next place is judged as if it were the first: here it has no key."""
    desk = await open_desk(config=STOP)
    request = ("POST", "/v1/chat/completions", CHAT | {"model": "m-1"})
    assert await desk.explain(*request) == await desk.send(*request) == (503, "no_active_api_keys")
