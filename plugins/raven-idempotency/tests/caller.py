"""A client that sends idempotency keys to a running gateway, and looks at what became of them."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

__all__ = ["CHAT", "KEY", "Answer", "Caller", "question", "reply", "stream"]

CHAT = "/v1/chat/completions"
KEY = "9c6bf1f0-5b0e-4a6d-9a55-0f3a4e9d1c11"


class Answer(msgspec.Struct):
    """What came back. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        return found


class Caller:
    """Sends chats with a key."""

    def __init__(self, gateway: RunningGateway, upstream: MockUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream

    async def post(
        self, body: Any, key: str | None = KEY, *, path: str = CHAT, headers: Any = None
    ) -> Answer:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = key
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.gateway.client.post(path, data=data, headers=sent) as got:
            return Answer(got.status, {n.lower(): v for n, v in got.headers.items()}, await got.read())

    async def chat(self, key: str | None = KEY, **fields: Any) -> Answer:
        headers = fields.pop("headers", None)
        return await self.post(question(**fields), key, headers=headers)

    async def rows(self, table: str = "idempotency") -> list[dict[str, Any]]:
        await self.gateway.gateway.storage.flush()
        return await self.gateway.gateway.storage.fetch_all(f"SELECT * FROM {table}")

    @property
    def asked(self) -> int:
        """How often the provider was asked."""
        return len(self.upstream.seen)


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "mock/m-1", "messages": [{"role": "user", "content": "Hi"}]} | fields


def reply(text: str = "Hello there.", **fields: Any) -> ScriptedReply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice]}
    return ScriptedReply.of_json(document | {"usage": usage}, **fields)


def stream(*texts: str, **fields: Any) -> ScriptedReply:
    def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m-1",
            "choices": [choice],
        }

    chunks = [chunk({"role": "assistant", "content": text}) for text in texts or ("Hel", "lo.")]
    return ScriptedReply.of_events([*chunks, chunk({}, "stop")], **fields)
