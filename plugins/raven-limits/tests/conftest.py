"""A gateway with limits: callers by their attributes, a vendor that answers as it is told, a clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from raven_proxy import Principal, counters, shared_counters
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def reply(usage: Any = USAGE, **fields: Any) -> ScriptedReply:
    message = {"role": "assistant", "content": "Hello there."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return ScriptedReply.of_json(document | ({"usage": usage} if usage is not None else {}), **fields)


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "mock/m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]} | fields


def caller(**attributes: Any) -> Principal:
    return msgspec.structs.replace(ADMINISTRATOR, attributes=attributes)


class Answer(msgspec.Struct):
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        return self.body["error"]["code"]

    @property
    def left(self) -> int:
        return int(self.headers["X-RateLimit-Remaining"])

    @property
    def tokens_left(self) -> int:
        return int(self.headers["x-ratelimit-remaining-tokens"])

    @property
    def retry_after(self) -> int:
        return int(self.headers["Retry-After"])


class Site:
    """A gateway, its upstream "mock", and the clock of its counters."""

    def __init__(self, gateway: RunningGateway, upstream: MockUpstream, clock: Clock) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.clock = clock

    async def chat(self, path: str = CHAT, **fields: Any) -> Answer:
        return await self.ask("POST", path, json=question(**fields))

    async def ask(self, method: str, path: str, **request: Any) -> Answer:
        async with self.gateway.client.request(method, path, **request) as got:
            body = await got.read()
            is_json = got.headers.get("Content-Type", "").startswith("application/json")
            return Answer(got.status, got.headers.copy(), msgspec.json.decode(body) if is_json else body)


class Clock:
    """The counters' clock: the real one, and what a test adds to it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.ahead = 0.0
        self._now = now

    def __call__(self) -> float:
        return self._now() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(counters.time.monotonic)
    monkeypatch.setattr(counters, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(shared_counters, "time", SimpleNamespace(time=clock))
    return clock


Start = Callable[..., Awaitable[Site]]


@pytest.fixture
def site(raven: GatewayStarter, upstream: MockUpstream, clock: Clock) -> Start:
    async def start(
        attributes: Mapping[str, Any] = {},
        settings: Mapping[str, Any] = {},
        plans: Mapping[str, Any] = {},
        plugins: Any = (),
        base: Any = ("limits", "openai"),
        principal: Principal | None = None,
        **config: Any,
    ) -> Site:
        table = {"access_log": False, "plugin": {"limits": settings}, "plans": plans} | config
        gateway = await raven(
            plugins,
            upstreams=[upstream],
            base=base,
            config=table,
            principal=principal or caller(**attributes),
        )
        return Site(gateway, upstream, clock)

    return start
