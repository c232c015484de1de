"""Thresholds and stops of a provider's day do what the "Proxy API Key" product documents (contract 5)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import VENDOR_KEY, VendorStarter
from .documented import CHAT, REQUEST_ID, fits

PLUGINS = ("auth-keys", "meter", "alerts", "byok", "openai", "demo")
THREE = {"name": "three a day", "when": "provider_day", "measure": "requests", "threshold": 3}
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [MESSAGE]}
SECRET = "whsec-0123456789abcdef"


class Mailbox:
    """A real SMTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 taken"


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, dict[str, Any]]]:
    """A mail server, and the settings that lead there."""
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="mail.test"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mail = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "raven@example.com"}
    yield box, {"mail": mail | {"hello_name": "raven.test"}, "mail_to": ["ops@example.com"]}
    server.close()
    await server.wait_closed()


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
    async with gateway.client.request(method, path, json=body) as reply:
        return reply.status, await reply.json(), reply.headers


async def chat(gateway: RunningGateway, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    return await ask(gateway, "POST", path, CHAT | fields)


async def test_PK_a_threshold_mails_once_a_day(
    documented: VendorStarter, upstream: MockUpstream, mailbox: tuple[Mailbox, dict[str, Any]]
) -> None:
    """PK: the daily counter of a provider reaches its threshold: one mail that day, and requests go on."""
    box, settings = mailbox
    gateway = await documented(base=PLUGINS, config={"plugin": {"alerts": {"rules": [THREE], **settings}}})
    for _ in range(6):
        assert (await chat(gateway))[0] == 200
    await upstream.wait_until(lambda: box.mails, 5.0)
    await asyncio.sleep(0.5)
    [mail] = box.mails
    assert b"openai-main has come to 3 requests today" in mail
    assert gateway.key.encode() not in mail
    assert VENDOR_KEY.encode() not in mail
    _, shown, _ = await ask(gateway, "GET", "/alerts")
    [total] = [row for row in shown["counters"] if row["organizationId"] is None]
    [ours] = [row for row in shown["counters"] if row["organizationId"] is not None]
    assert (total["upstream"], total["requests"], ours["requests"]) == ("openai-main", 6, 6)


async def test_PK_a_stop_pauses_the_provider_until_an_administrator_reactivates_it(
    documented: VendorStarter, upstream: MockUpstream
) -> None:
    """PK: 429 `provider_paused` on every face, naming the provider; others serve; reactivated, 200."""
    rules = [THREE | {"stop": True, "upstream": "openai-main"}]
    gateway = await documented(base=PLUGINS, config={"plugin": {"alerts": {"rules": rules}}})
    for _ in range(3):
        assert (await chat(gateway))[0] == 200
    calls = (
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/openai/chat/completions", {}),
        ("/v1/openai-main/models", {}),
        ("/v1/chat/completions", {"model": "fast"}),
    )
    for path, fields in calls:
        status, body, headers = await chat(gateway, path, **fields)
        assert status == 429, (path, body)
        error = {"type": "rate_limit_error", "code": "provider_paused", "status": 429, "param": None}
        fits({"error": error | {"request_id": REQUEST_ID}}, body)
        assert "openai-main" in body["error"]["message"]
        assert int(headers["Retry-After"]) >= 1
    assert len(upstream.seen) == 3
    for model in ("deepseek-chat", "spread"):
        upstream.reply(json=ANSWER)
        assert (await chat(gateway, model=model))[0] == 200
    status, body, _ = await ask(gateway, "DELETE", "/alerts/paused/openai-main")
    assert (status, body) == (200, {"success": True})
    assert (await chat(gateway))[0] == 200


async def test_PK_only_an_administrator_reactivates(documented: VendorStarter) -> None:
    """PK: a key without admin scopes can neither see nor lift a pause."""
    from raven_auth_keys import KeyStore, NewKey

    gateway = await documented(base=PLUGINS)
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="mine"))
    gateway.client.headers["Authorization"] = f"Bearer {issued.secret}"
    for method, path in (("GET", "/alerts"), ("DELETE", "/alerts/paused/openai-main")):
        status, body, _ = await ask(gateway, method, path)
        assert (status, body["error"]["code"]) == (403, "missing_scope")


async def test_R_a_signed_webhook(
    documented: VendorStarter, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R: an alert's webhook is JSON, signed in `X-Raven-Signature`, tried again on failure."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setattr("raven_webhooks.outbox.PAUSES_S", (0.05, 0.05))
    async with MockUpstream() as receiver:
        receiver.script(ScriptedReply(status=503), ScriptedReply(status=204))
        webhook = {"url": receiver.origin + "/hook", "secret": {"env": "HOOK_SECRET"}, "allow_private": True}
        settings = {"alerts": {"rules": [THREE]}, "webhooks": {"endpoints": [webhook | {"name": "ops"}]}}
        gateway = await documented(base=("webhooks", *PLUGINS), config={"plugin": settings})
        for _ in range(3):
            await chat(gateway)
        await receiver.wait_until(lambda: len(receiver.seen) == 2, 5.0)
        await asyncio.sleep(0.2)
        first, second = receiver.seen
        assert first.body == second.body
        fits(
            {"rule": "three a day", "upstream": "openai-main", "value": 3},
            first.json["data"],
        )
        assert first.json["type"] == "provider.threshold"
        moment, digest = (part.partition("=")[2] for part in second.headers["x-raven-signature"].split(","))
        signed = f"{moment}.".encode() + second.body
        assert digest == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        for needle in (gateway.key, VENDOR_KEY, SECRET):
            assert needle.encode() not in first.raw
