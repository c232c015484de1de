"""aiohttp-sse-client, a generic reader of server-sent events, against the chat face."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp_sse_client.client import EventSource


async def test_a_generic_event_source_reads_a_stream(raven: Any) -> None:
    """Any standard SSE reader understands the stream; it must leave at `[DONE]`, for it would ask again."""
    gateway = await raven(base=("openai", "demo"), config={"plugin": {"demo": {"delay_s": 0.001}}})
    question = {"model": "demo/chat", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    source = EventSource(
        f"{gateway.url}/v1/chat/completions",
        option={"method": "POST"},
        json=question,
        headers={"Authorization": f"Bearer {gateway.key}"},
    )
    text = ""
    async with source:
        async for event in source:
            if event.data == "[DONE]":
                break
            for choice in msgspec.json.decode(event.data)["choices"]:
                text += choice["delta"].get("content") or ""
    assert "demo model" in text
