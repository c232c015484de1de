"""What a request leaves behind: nothing that only the garbage collector would find.

Its thresholds are high while the gateway serves, so whatever it has to find is memory that grows.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, hookimpl
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
MESSAGE = {"role": "assistant", "content": "x" * 100_000}
WHOLE = msgspec.json.encode(
    {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    }
)  # fmt: skip


def event(**choice: Any) -> bytes:
    document = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + msgspec.json.encode(document | {"choices": [{"index": 0} | choice]}) + b"\n\n"


WORD, END, DONE = event(delta={"content": "abc"}), event(delta={}, finish_reason="stop"), b"data: [DONE]\n\n"
REPLIES = {
    "a reply at once": lambda: ScriptedReply(body=WHOLE, headers=JSON),
    "a reply in pieces": lambda: ScriptedReply(chunks=[WHOLE[:9], 0.02, WHOLE[9:]], headers=JSON),
    "a reply that breaks off": lambda: ScriptedReply(
        chunks=[WHOLE[:9], 0.02, WHOLE[9:99]], headers=JSON, end="cut"
    ),
    "a stream": lambda: ScriptedReply(chunks=[WORD, 0.02, END, DONE], headers=EVENTS),
    "a stream that breaks off": lambda: ScriptedReply(chunks=[WORD, 0.02, WORD], headers=EVENTS, end="cut"),
    "a stream without its end": lambda: ScriptedReply(chunks=[WORD, 0.02, WORD], headers=EVENTS),
    "a stream with an error": lambda: ScriptedReply(
        chunks=[WORD, b'data: {"error":{"message":"no"}}\n\n'], headers=EVENTS
    ),
    "no JSON": lambda: ScriptedReply(body=b"<html>", headers=JSON),
    "an error": lambda: ScriptedReply.of_json({"error": {"message": "no " * 10_000}}, status=400),
    "an error that another could mend": lambda: ScriptedReply.of_json({}, status=503),
    "a redirect": lambda: ScriptedReply(status=302, headers=[("Location", "/elsewhere")]),
    "silence": lambda: ScriptedReply(delay_s=9.0),
}
CALLS = {
    "untouched": ("/v1/chat/completions", {"model": "two"}),
    "translated": ("/v1/messages", {"model": "two", "max_tokens": 9}),
    "raw": ("/v1/mock/chat/completions", {"model": "m"}),
    "unknown": ("/v1/mock/other", {"model": "m"}),
    "refused": ("/v1/chat/completions", {"model": 7}),
}


ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


class Watching:
    """Keeps a weak eye on each exchange, as a stage."""

    def __init__(self) -> None:
        self.stages: list[weakref.ref[Stage]] = []

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage:
        stage = Stage(exchange)
        self.stages.append(weakref.ref(stage))
        return stage


class Stage:
    """Holds the exchange, as a plugin may."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> bytes:
        return b""


@pytest.fixture
async def gateway(raven: GatewayStarter, upstream: MockUpstream) -> RunningGateway:
    """Two candidates, and every plugin that keeps something of an exchange."""
    config = {
        "access_log": False,
        "log_level": "error",
        "first_byte_timeout_s": 0.5,
        "models": [{"name": "two", "targets": ["mock/m", "mock2/m"]}],
    }
    base = ("meter", "limits", "idempotency", "byok", "openai", "anthropic")
    return await raven([Watching], upstreams=[upstream, upstream], base=base, config=config)


@pytest.fixture(scope="module")
def frozen() -> Iterator[None]:
    """What was there before is looked at once, not in every test: the whole suite's modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def uncollected(frozen: None) -> Iterator[None]:
    """No garbage collector while the test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def find_garbage(gateway: RunningGateway) -> Counter[str]:
    """Count what only the collector finds, of the gateway's and the plugins' own types."""
    async with asyncio.timeout(10):
        while gateway.gateway.in_flight or any(
            t.get_name() == "finish_exchange" for t in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    names = (f"{type(thing).__module__}.{type(thing).__name__}" for thing in gc.garbage)
    found = Counter(name for name in names if name.startswith("raven_") and ".mock" not in name)
    gc.garbage.clear()
    return found


async def ask(gateway: RunningGateway, path: str, body: dict[str, Any]) -> None:
    """Ask, and forget what came."""
    try:
        async with gateway.client.post(path, json=body) as reply:
            await reply.read()
    except OSError:
        pass
    except Exception as error:
        assert "aiohttp" in type(error).__module__  # noqa: PT017 - broken off, as the case wants


PAIRS = [(call, reply) for call in CALLS for reply in REPLIES if call != "refused" or reply == "a stream"]


@pytest.mark.parametrize(("call", "reply"), PAIRS)
async def test_a_request_leaves_no_garbage(
    gateway: RunningGateway, upstream: MockUpstream, uncollected: None, call: str, reply: str
) -> None:
    """However it ends: what it held goes with it, at once."""
    path, fields = CALLS[call]
    body = ASKED | {"stream": "stream" in reply} | fields
    for _ in range(2):  # the first makes what stays
        while upstream.scripted < 2:
            upstream.script(REPLIES[reply]())
        await ask(gateway, path, body)
        found = await find_garbage(gateway)
    assert found == {}


async def test_a_client_that_leaves_leaves_no_garbage(
    gateway: RunningGateway, upstream: MockUpstream, uncollected: None
) -> None:
    """In the middle of a stream, and before a whole reply has come."""
    for _ in range(2):
        for reply, stream in (("a stream", True), ("a reply in pieces", False)):
            upstream.script(REPLIES[reply](), REPLIES[reply]())
            body = ASKED | {"model": "two", "stream": stream}
            asking = asyncio.create_task(ask(gateway, "/v1/chat/completions", body))  # noqa: TID251 - who leaves
            seen = len(upstream.seen)
            await upstream.wait_until(lambda seen=seen: len(upstream.seen) > seen)
            await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.wait([asking])
        found = await find_garbage(gateway)
    assert found == {}


async def test_large_replies_are_not_kept(
    gateway: RunningGateway, upstream: MockUpstream, uncollected: None
) -> None:
    """No exchange, and no body of a megabyte, outlives its reply."""
    large = WHOLE.replace(b"x" * 100, b"y" * 1100)
    watching = next(
        plugin.instance for plugin in gateway.gateway.pipeline.plugins if plugin.name.startswith("watching")
    )
    for _ in range(5):
        upstream.script(ScriptedReply(chunks=[large[:500_000], 0.02, large[500_000:]], headers=JSON))
        await ask(gateway, "/v1/chat/completions", ASKED | {"model": "two"})
    await find_garbage(gateway)
    assert [stage() for stage in watching.stages] == [None] * 5
