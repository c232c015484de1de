"""Virtual keys do what the published systems document of them (contract 4)."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from raven_auth_keys import ADMIN_SCOPES, PROXY_SCOPES, KeyStore, NewKey

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, fits


async def _ask(
    gateway: RunningGateway, key: str, path: str = "/v1/chat/completions", **fields: Any
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with gateway.client.post(path, json=CHAT | fields, headers=headers) as reply:
        return reply.status, (await reply.json()).get("error", {}).get("code")


@pytest.mark.parametrize("environment", ["live", "test"])
async def test_R_RR_AV_a_new_key(environment: Any, documented: VendorStarter) -> None:
    """R RR AV: a key has its prefix, 160 random bits and every proxy scope; only its digest is stored."""
    gateway = await documented()
    store = KeyStore(gateway.gateway.storage)
    issued = await store.create(NewKey(name="mine", environment=environment))
    random = issued.secret.removeprefix(f"rk_{environment}_")
    assert re.fullmatch(r"[0-9A-Za-z]{27,}", random)  # 27 letters of 62 are 160.7 bits
    assert set(issued.key.scopes) == set(PROXY_SCOPES)
    assert not set(issued.key.scopes) & set(ADMIN_SCOPES)
    assert issued.secret.startswith(issued.key.prefix)
    assert len(issued.key.prefix) < len(issued.secret) / 2
    assert await _ask(gateway, issued.secret) == (200, None)
    rows = await gateway.gateway.storage.fetch_all("SELECT * FROM keys")
    assert hashlib.sha256(issued.secret.encode()).hexdigest() in str(rows)
    await gateway.gateway.storage.flush()
    for file in (gateway.folder / "data").rglob("*"):
        assert issued.secret.encode() not in (file.read_bytes() if file.is_file() else b"")


async def test_AV_a_scope(documented: VendorStarter, upstream: MockUpstream) -> None:
    """AV: a key without the scope is refused, on the raw path too."""
    gateway = await documented()
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="reader", scopes=("models:read",)))
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions", "/v1/openai/responses"):
        assert await _ask(gateway, issued.secret, path) == (403, "missing_scope")
    async with gateway.client.get(
        "/v1/models", headers={"Authorization": f"Bearer {issued.secret}"}
    ) as reply:
        assert reply.status == 200
    assert upstream.seen == []


async def test_R_AV_allowed_models(documented: VendorStarter, upstream: MockUpstream) -> None:
    """R AV: a key may call its models by any of their names, and nothing else by any alias or path."""
    gateway = await documented()
    issued = await KeyStore(gateway.gateway.storage).create(
        NewKey(name="small", allowed_models=("gpt-4o-mini",))
    )
    for model in ("gpt-4o-mini", "openai/gpt-4o-mini", "openai-main/gpt-4o-mini", "fast"):
        assert await _ask(gateway, issued.secret, model=model) == (200, None)
    for model in ("gpt-4o", "openai/gpt-4o", "spread", "demo/demo-chat"):
        assert await _ask(gateway, issued.secret, model=model) == (403, "model_not_allowed")
    raw = "/v1/openai/chat/completions"
    assert await _ask(gateway, issued.secret, raw, model="gpt-4o-mini") == (200, None)
    assert await _ask(gateway, issued.secret, raw, model="gpt-4o") == (403, "model_not_allowed")
    assert {seen.model for seen in upstream.seen} == {"gpt-4o-mini"}


async def test_R_AV_revoking_and_rotating(documented: VendorStarter) -> None:
    """R AV: revoking and rotating a key hold from the very next request."""
    gateway = await documented()
    store = KeyStore(gateway.gateway.storage)
    first = await store.create(NewKey(name="mine"))
    assert await _ask(gateway, first.secret) == (200, None)
    second = await store.rotate(first.key.id)
    assert await _ask(gateway, first.secret) == (401, "invalid_api_key")
    assert await _ask(gateway, second.secret) == (200, None)
    await store.revoke(first.key.id)
    assert await _ask(gateway, second.secret) == (401, "invalid_api_key")


async def test_R_AV_expiring(documented: VendorStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """R AV: a key that has expired is refused from that moment on."""
    gateway = await documented()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="short", expires_at=tomorrow))
    assert await _ask(gateway, issued.secret) == (200, None)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    assert await _ask(gateway, issued.secret) == (401, "invalid_api_key")


async def test_R_AV_addresses(documented: VendorStarter) -> None:
    """R AV: a key may be used from its networks only; nobody can claim another address."""
    gateway = await documented()
    store = KeyStore(gateway.gateway.storage)
    here = await store.create(NewKey(name="here", ip_allowlist=("127.0.0.0/8",)))
    elsewhere = await store.create(NewKey(name="elsewhere", ip_allowlist=("192.0.2.0/24",)))
    assert await _ask(gateway, here.secret) == (200, None)
    assert await _ask(gateway, elsewhere.secret) == (403, "ip_not_allowed")
    headers = {"Authorization": f"Bearer {elsewhere.secret}", "X-Forwarded-For": "192.0.2.1"}
    async with gateway.client.post("/v1/chat/completions", json=CHAT, headers=headers) as reply:
        assert reply.status == 403


async def test_R_RR_PK_AV_RX_a_bad_key_learns_nothing(documented: VendorStarter) -> None:
    """R RR PK AV RX: unknown, revoked and malformed keys get one and the same answer."""
    gateway = await documented()
    store = KeyStore(gateway.gateway.storage)
    revoked = await store.create(NewKey(name="gone"))
    await store.revoke(revoked.key.id)
    messages = set()
    for key in ("rk_live_" + "0" * 32, revoked.secret, "x", revoked.secret[:-1], revoked.key.prefix):
        async with gateway.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) as reply:
            error = (await reply.json())["error"]
        fits({"type": "authentication_error", "code": "invalid_api_key", "status": 401}, error)
        messages.add(error["message"])
    assert len(messages) == 1


async def test_R_draining(documented: VendorStarter, upstream: MockUpstream) -> None:
    """R: with `on_disconnect = "drain"` the rest of a stream is read for its usage when the client leaves."""
    gateway = await documented()
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="drains", on_disconnect="drain"))
    question = CHAT | {"model": "fx-paced-20", "stream": True}
    headers = {"Authorization": f"Bearer {issued.secret}"}
    async with gateway.client.post("/v1/chat/completions", json=question, headers=headers) as reply:
        await reply.content.readany()
    await upstream.wait_until(lambda: upstream.seen[0].ended_at is not None and not gateway.gateway.in_flight)
    assert not upstream.seen[0].closed_early
    await upstream.wait_until(lambda: not len(gateway.gateway.tasks))
    await gateway.gateway.storage.flush()
    row = await gateway.gateway.storage.fetch_one("SELECT * FROM exchanges")
    fits({"outcome": "cancelled", "estimated": 0}, row)
