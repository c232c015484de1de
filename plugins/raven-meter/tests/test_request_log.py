"""`/logs`: what every request came to, for its organisation only."""

from __future__ import annotations

from typing import Any

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
    """The newest first, failed ones too, in the shape of contract section 11; no prompt stands in it."""
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
