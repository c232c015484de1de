"""`/logs`: what every request came to, for its organisation only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "a word that no log has"}]}
ROW = {
    "id", "requestId", "createdAt", "keyId", "face", "model", "provider", "status", "outcome", "stream",
    "promptTokens", "completionTokens", "cachedTokens", "reasoningTokens", "cost", "costNano", "estimated",
    "attempts", "latencyMs", "firstByteMs",
}  # fmt: skip


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(base=("meter", "openai"), upstreams=[upstream])


async def get(gateway: Any, path: str) -> tuple[int, Any, Any]:
    async with gateway.client.get(path) as reply:
        return reply.status, await reply.json(), reply.headers


async def chat(gateway: Any, **fields: Any) -> str:
    async with gateway.client.post("/v1/chat/completions", json=CHAT | fields) as reply:
        await reply.read()
        return str(reply.headers["X-Request-ID"])


async def test_R_each_request_is_a_row(gateway: Any, upstream: MockUpstream) -> None:
    """The newest first, failed ones too, in the documented shape; no prompt stands in it."""
    first = await chat(gateway)
    upstream.script(ScriptedReply.of_json({"error": {"message": "no"}}, status=400))
    second = await chat(gateway)
    status, rows, _ = await get(gateway, "/logs?face=openai-chat")
    assert status == 200
    assert [row["requestId"] for row in rows] == [second, first]
    assert set(rows[0]) >= ROW
    assert [(row["status"], row["outcome"]) for row in rows] == [(400, "upstream_error"), (200, "completed")]
    assert (rows[1]["model"], rows[1]["provider"], rows[1]["attempts"]) == ("mock/m", "mock", 1)
    assert "a word that no log has" not in msgspec.json.encode(rows).decode()
    assert (await get(gateway, f"/logs/{rows[1]['id']}"))[:2] == (200, rows[1])
    assert (await get(gateway, "/logs/123"))[0] == 404


async def test_logs_page_and_filter(gateway: Any) -> None:
    """`limit` and `after` walk back through all; columns filter."""
    made = [await chat(gateway, stream=bool(number % 2)) for number in range(5)]
    walked: list[str] = []
    path: str | None = "/logs?face=openai-chat&limit=2"
    while path:
        _, page, headers = await get(gateway, path)
        walked += [row["requestId"] for row in page]
        path = headers["Link"].split(">")[0][1:] if "Link" in headers else None
    assert walked == made[::-1]
    assert [row["requestId"] for row in (await get(gateway, f"/logs?requestId={made[0]}"))[1]] == [made[0]]
    assert (await get(gateway, "/logs?outcome=cancelled"))[1] == []
    assert (await get(gateway, "/logs?status=200&model=mock/m"))[1] != []


async def test_logs_are_found_by_time_and_by_words(gateway: Any, upstream: MockUpstream) -> None:
    """`from` and `to` are times or days, `q` is in request id, model or error code; wildcards are letters."""
    upstream.script(ScriptedReply.of_json({"error": {"message": "no"}}, status=400))
    made = [await chat(gateway), await chat(gateway, model="mock/100%_sure"), await chat(gateway)]
    now = datetime.now(UTC)
    today, hour = now.date(), timedelta(hours=1)

    async def found(**query: str) -> list[str]:
        status, rows, _ = await get(gateway, f"/logs?face=openai-chat&{urlencode(query)}")
        assert status == 200, rows
        return [row["requestId"] for row in rows][::-1]

    days = {"from": str(today - timedelta(days=1)), "to": str(today + timedelta(days=1))}
    assert await found(**days) == made
    assert await found(**{"from": (now - hour).isoformat(), "to": (now + hour).isoformat()}) == made
    assert await found(**{"from": (now + hour).isoformat()}) == []
    assert await found(to=(now - hour).strftime("%Y-%m-%dT%H:%M:%SZ")) == []
    assert await found(to=str(today - timedelta(days=2))) == []
    assert await found(q=made[2][8:]) == [made[2]]
    assert await found(q="100%_") == [made[1]]
    assert await found(q="0_%") == await found(q="\\") == []
    [code] = {row["errorCode"] for row in (await get(gateway, "/logs?status=400"))[1]}
    assert await found(q=code[2:-2]) == made[:1]
    for name, text in (
        ("from", "yesterday"),
        ("to", "2026-13-01"),
        ("to", "9999-12-31"),
        ("from", ""),
        ("from", "0001-01-01T00:00:00%2B23:59"),
        ("to", "9999-12-31T23:59:59-23:59"),
    ):
        status, answer, _ = await get(gateway, f"/logs?{name}={text}")
        assert (status, answer["error"]["param"]) == (400, name)
    assert await found(**{"from": "0001-01-01"}) == made
    assert await found(**{"from": "9999-12-31T00:00:00Z"}) == []
