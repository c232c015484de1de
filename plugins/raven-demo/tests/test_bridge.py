"""The demo answers clients of any dialect that the hub knows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import Dialect, Face, hookimpl, hub
from raven_proxy.errors import envelope
from raven_proxy.exchange import Usage
from raven_proxy.faces import Call

TOOL = hub.Tool(name="get_weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})


class Client:
    """A client's dialect of a few lines: the question is a text, the answer is the hub's own JSON."""

    def read_request(self, exchange: Any) -> hub.ChatRequest:
        asked = msgspec.json.decode(exchange.body)
        parts: list[hub.Part] = [hub.Text(text=asked["text"])]
        messages = [hub.Message(role="user", parts=parts)]
        return hub.ChatRequest(
            model="m", messages=messages, tools=[TOOL] * asked.get("tools", 0), dropped=["x"]
        )

    def write_reply(self, reply: hub.ChatReply, exchange: Any) -> bytes:
        return msgspec.json.encode(reply)

    def open_writer(self, exchange: Any) -> Any:
        return self

    def write(self, event: hub.Event) -> bytes:
        return type(event).__name__.encode() + b"\n"


class Vendor:
    """Reads that dialect again, for metering."""

    def read_reply(self, body: bytes) -> hub.ChatReply:
        usage = msgspec.json.decode(body)["usage"]
        return hub.ChatReply(usage=msgspec.convert(usage, Usage))


PLAIN = Dialect("plain", envelope, None, client_side=Client(), provider_side=Vendor())


def read_call(body: bytes) -> Call:
    asked = msgspec.json.decode(body)
    return Call(model=asked["model"], stream=asked.get("stream", False))


class Plain:
    @hookimpl
    def register_faces(self, register: Any) -> None:
        register(Face(name="plain", path="/v1/plain", dialect=PLAIN, scope="chat:write", read_call=read_call))


@pytest.fixture
async def gateway(raven):
    return await raven([Plain], config={"plugin": {"demo": {"delay_s": 0.0}}})


async def ask(gateway: Any, **fields: Any) -> tuple[int, str, bytes]:
    question = {"model": "demo/chat", "text": "What is the weather in Oslo?"} | fields
    headers = {"X-Raven-Strict": "true"} if fields.get("strict") else {}
    async with gateway.client.post("/v1/plain", json=question, headers=headers) as reply:
        return reply.status, reply.headers["Content-Type"], await reply.read()


async def test_a_whole_reply(gateway):
    status, kind, body = await ask(gateway)
    reply = msgspec.json.decode(body)
    assert (status, kind) == (200, "application/json")
    assert "What is the weather in Oslo?" in reply["choices"][0]["parts"][0]["text"]
    assert reply["usage"]["total_tokens"] > 0


async def test_a_tool_call(gateway):
    _, _, body = await ask(gateway, tools=1)
    [choice] = msgspec.json.decode(body)["choices"]
    assert choice["finish"] == "tool_calls"
    assert msgspec.json.decode(choice["parts"][0]["arguments"]) == {"city": "Oslo"}


async def test_a_stream(gateway):
    status, kind, body = await ask(gateway, stream=True)
    events = body.decode().split()
    assert (status, kind) == (200, "text/event-stream")
    assert (events[0], events[-1]) == ("Started", "Ended")
    assert events.count("TextDelta") > 3


async def test_strict_is_strict_here_too(gateway):
    status, _, body = await ask(gateway, strict=True)
    assert (status, msgspec.json.decode(body)["error"]["param"]) == (400, "x")
