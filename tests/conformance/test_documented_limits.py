"""Rate limits do what the published systems document of them (contract 5)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from raven_auth_keys import KeyStore, NewKey

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, fits

BASE = ("auth-keys", "limits", "meter", "byok", "openai", "demo")
NUMBER = re.compile(r"^\d+$")
DURATION = re.compile(r"^(\d+h)?(\d+m)?\d+s$")


async def _key(gateway: RunningGateway, **fields: Any) -> str:
    return (await KeyStore(gateway.gateway.storage).create(NewKey(name="mine", **fields))).secret


async def _ask(
    gateway: RunningGateway, key: str, path: str = "/v1/chat/completions", method: str = "POST", **fields: Any
) -> tuple[int, Mapping[str, str], Any]:
    headers = {"Authorization": f"Bearer {key}"}
    body = CHAT | fields if method == "POST" else None
    async with gateway.client.request(method, path, json=body, headers=headers) as reply:
        text = await reply.read()
        is_json = reply.headers.get("Content-Type") == "application/json"
        return reply.status, reply.headers.copy(), msgspec.json.decode(text) if is_json else text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions"])
async def test_RX_the_free_plan(path: str, documented: VendorStarter, upstream: MockUpstream) -> None:
    """RX: 60 requests a minute; the next is a 429 that says when, and nothing goes upstream."""
    gateway = await documented(base=BASE, config={"plugin": {"limits": {"default_plan": "free"}}})
    key = await _key(gateway)
    answers = await asyncio.gather(*(_ask(gateway, key, path, max_tokens=20) for _ in range(62)))
    assert sorted(status for status, _, _ in answers) == [200] * 60 + [429] * 2
    assert len(upstream.seen) == 60
    refused, headers = next((body, headers) for status, headers, body in answers if status == 429)
    fits(
        {"type": "rate_limit_error", "code": "rate_limit_exceeded", "status": 429, "message": str},
        refused["error"],
    )
    assert 1 <= int(headers["Retry-After"]) <= 62
    fits(
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": NUMBER}, dict(headers)
    )


async def test_RX_the_free_plans_tokens(documented: VendorStarter, upstream: MockUpstream) -> None:
    """RX: 100,000 tokens a day; what was used counts, and over it a 429."""
    gateway = await documented(base=BASE, config={"plugin": {"limits": {"default_plan": "free"}}})
    key = await _key(gateway)
    usage = {"prompt_tokens": 60_000, "completion_tokens": 39_900, "total_tokens": 99_900}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    upstream.reply(json={"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
    status, headers, _ = await _ask(gateway, key)
    assert (status, headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == (
        200,
        "100000",
        "100",
    )
    status, headers, body = await _ask(gateway, key)
    assert (status, body["error"]["code"]) == (429, "token_limit_exceeded")
    assert int(headers["Retry-After"]) > 80_000


async def test_RX_the_pro_plan(documented: VendorStarter) -> None:
    """RX: 600 requests a minute, tokens unlimited; a key's plan goes before the default one."""
    gateway = await documented(base=BASE, config={"plugin": {"limits": {"default_plan": "free"}}})
    status, headers, _ = await _ask(gateway, await _key(gateway, plan="pro"))
    assert (status, headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == (200, "600", "599")
    assert "x-ratelimit-limit-tokens" not in headers


async def test_R_AV_a_keys_own_limits(documented: VendorStarter) -> None:
    """R AV: rateLimitRpm, Rpd, Tpm, Tpd and maxConcurrency of a key hold without any plan."""
    gateway = await documented(base=BASE)
    for fields, code in (
        ({"rate_limit_rpm": 1}, "rate_limit_exceeded"),
        ({"rate_limit_rpd": 1}, "rate_limit_exceeded"),
        ({"rate_limit_tpm": 1}, "token_limit_exceeded"),
        ({"rate_limit_tpd": 1}, "token_limit_exceeded"),
    ):
        key = await _key(gateway, **fields)
        assert (await _ask(gateway, key))[0] == 200
        status, headers, body = await _ask(gateway, key)
        assert (status, body["error"]["code"]) == (429, code)
        assert NUMBER.match(headers["Retry-After"])
    key = await _key(gateway, max_concurrency=2)
    answers = await asyncio.gather(*(_ask(gateway, key, model="fx-slow-0.3") for _ in range(5)))
    assert sorted(status for status, _, _ in answers) == [200] * 2 + [429] * 3
    codes = {body["error"]["code"] for status, _, body in answers if status == 429}
    assert codes == {"concurrency_limit_exceeded"}


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/v1/chat/completions", {}, 200),
        ("POST", "/v1/chat/completions", {"stream": True}, 200),
        ("POST", "/v1/openai/chat/completions", {}, 200),
        ("POST", "/v1/embeddings", {"model": "text-embedding-3", "input": "Hi"}, 200),
        ("GET", "/v1/models", {}, 200),
        ("GET", "/v1/usage", {}, 200),
        ("POST", "/v1/chat/completions", {"messages": "x"}, 400),
        ("POST", "/v1/chat/completions", {"model": "fx-500"}, 500),
        ("POST", "/v1/chat/completions", {"model": "fx-redirect-http://127.0.0.1:1"}, 502),
    ],
)
async def test_AV_RX_the_headers(
    method: str, path: str, fields: Any, status: int, documented: VendorStarter
) -> None:
    """AV RX: every answer says what is left after it, OpenAI's names beside the plain ones; errors too."""
    gateway = await documented(base=BASE)
    key = await _key(gateway, rate_limit_rpm=100, rate_limit_tpm=50_000)
    await _ask(gateway, key)
    got, headers, body = await _ask(gateway, key, path, method, **fields)
    assert got == status, body
    left = "99" if status == 400 else "98"
    fits(
        {
            "X-RateLimit-Limit": "100",
            "X-RateLimit-Remaining": left,
            "X-RateLimit-Reset": NUMBER,
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": DURATION,
            "x-ratelimit-limit-tokens": "50000",
            "x-ratelimit-remaining-tokens": NUMBER,
            "x-ratelimit-reset-tokens": DURATION,
        },
        dict(headers),
    )
    assert 0 < int(headers["X-RateLimit-Reset"]) - time.time() < 63
    assert len(headers.getall("X-RateLimit-Limit")) == 1  # type: ignore[attr-defined]


async def test_R_AV_RX_a_limit_is_changed(documented: VendorStarter) -> None:
    """R AV RX: what is changed of a plan holds from the next request on; what was counted stays."""
    gateway = await documented(base=BASE, config={"plans": {"team": {"requests_per_minute": 3}}})
    key = await _key(gateway, plan="team")
    assert [(await _ask(gateway, key))[0] for _ in range(4)] == [200, 200, 200, 429]
    await gateway.reload({"plans": {"team": {"requests_per_minute": 5}}})
    assert [(await _ask(gateway, key))[0] for _ in range(3)] == [200, 200, 429]
