"""Delivery: a reply is whole or an error, passes every stage, and loses nothing on its way."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError

from raven_proxy import Exchange, Face, Outcome, Refused, Reply, Stage, hookimpl, read_nothing
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "hi"}]}
BODY = (
    b'{ "id":"x",  "object":"chat.completion","choices":[],"unknown":{"a" : 1.0}, '
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5} }\n'
)
JSON = {"Content-Type": "application/json"}


class Recorder:
    """Keeps how every exchange ended."""

    def __init__(self) -> None:
        self.ended: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


class Brackets:
    """A stage that holds everything back and puts brackets around it."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        self.held += data
        return b""

    def close(self) -> bytes:
        return b"[" + self.held + b"]"


async def ask(gateway: RunningGateway, **extra: Any) -> tuple[int, bytes]:
    async with gateway.client.post("/v1/chat/completions", json={**CHAT, **extra}) as reply:
        return reply.status, await reply.read()


@pytest.mark.parametrize("framing", ["content-length", "chunked", "close"])
async def test_a_whole_reply_passes_byte_for_byte(
    raven: GatewayStarter, upstream: MockUpstream, framing: Any
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    upstream.script(ScriptedReply(body=BODY, headers=JSON, framing=framing))
    assert await ask(gateway) == (200, BODY)
    await upstream.wait_until(lambda: recorder.ended)
    (ended,) = recorder.ended
    assert (ended.outcome, ended.status, ended.produced_bytes) == (Outcome.COMPLETED, 200, len(BODY))
    assert ended.usage is not None
    assert ended.usage.total_tokens == 5


@pytest.mark.parametrize(
    "reply",
    [
        ScriptedReply(body=BODY[:50], headers=JSON, content_length=len(BODY), end="cut"),
        ScriptedReply(chunks=[BODY[:50]], headers=JSON, end="cut"),
        ScriptedReply(body=BODY[:50], headers=JSON, framing="close"),
        ScriptedReply(body=gzip.compress(BODY)[:-9], headers={**JSON, "Content-Encoding": "gzip"}),
        ScriptedReply(body=BODY, headers={**JSON, "Content-Encoding": "br"}),
        ScriptedReply(body=BODY, headers={**JSON, "X-Bad": "\x01"}),
    ],
)
async def test_a_broken_reply_is_a_502_and_not_half_a_document(
    raven: GatewayStarter, upstream: MockUpstream, reply: ScriptedReply
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    upstream.script(reply)
    status, body = await ask(gateway)
    assert (status, msgspec.json.decode(body)["error"]["type"]) == (502, "upstream_error")
    await upstream.wait_until(lambda: recorder.ended)
    assert recorder.ended[0].outcome is Outcome.UPSTREAM_ERROR


async def test_an_encoding_that_was_not_asked_for_is_undone(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    upstream.script(ScriptedReply(body=gzip.compress(BODY), headers={**JSON, "Content-Encoding": "gzip"}))
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as reply:
        assert "Content-Encoding" not in reply.headers
        assert await reply.read() == BODY


async def test_a_stage_sees_whole_replies_of_upstreams_and_of_plugins(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Plugin:
        @hookimpl
        async def answer(self, exchange: Exchange) -> Reply | None:
            return Reply(200, dict(JSON), b"{}") if exchange.model == "demo/x" else None

        @hookimpl
        def open_stage(self) -> Stage:
            return Brackets()

    gateway = await raven([Plugin], upstreams=[upstream])
    upstream.script(ScriptedReply(body=BODY, headers=JSON))
    assert await ask(gateway) == (200, b"[" + BODY + b"]")
    assert await ask(gateway, model="demo/x") == (200, b"[{}]")


async def test_a_whole_reply_may_be_judged_and_replaced(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Judge:
        @hookimpl
        async def check_reply(self, exchange: Exchange) -> None:
            if exchange.reply_body == b'{"bad":1}':
                raise Refused("The reply is not for you.", code="guardrail_blocked")
            exchange.reply_body = b'{"seen":true}'

    gateway = await raven([Judge], upstreams=[upstream])
    upstream.script(ScriptedReply(body=BODY, headers=JSON), ScriptedReply(body=b'{"bad":1}', headers=JSON))
    assert await ask(gateway) == (200, b'{"seen":true}')
    status, body = await ask(gateway)
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (403, "guardrail_blocked")


async def test_a_stage_that_breaks_on_a_whole_reply_is_an_error(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Broken:
        def feed(self, data: bytes) -> bytes:
            raise KeyError("inside")

        def close(self) -> bytes:
            return b""

    class Plugin:
        @hookimpl
        def open_stage(self, exchange: Exchange) -> Stage:
            if exchange.model == "mock/open":
                raise KeyError("inside")
            return Broken()

    recorder = Recorder()
    gateway = await raven([Plugin, recorder], upstreams=[upstream])
    for model in ("mock/feed", "mock/open"):
        upstream.script(ScriptedReply(body=BODY, headers=JSON))
        status, body = await ask(gateway, model=model)
        assert status == 500
        assert b"inside" not in body
        assert b"unknown" not in body
    await upstream.wait_until(lambda: len(recorder.ended) == 2)
    assert {ended.outcome for ended in recorder.ended} == {Outcome.FAILED}


async def test_a_reply_without_a_body_has_none(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven(upstreams=[upstream])
    upstream.script(ScriptedReply(status=204), ScriptedReply(body=BODY, headers=JSON))
    async with gateway.client.delete("/v1/mock/things/1") as reply:
        assert (reply.status, await reply.read()) == (204, b"")
        assert "Content-Length" not in reply.headers
    async with gateway.client.head("/v1/mock/items/1") as reply:
        assert (reply.status, await reply.read()) == (200, b"")
        assert "Content-Length" not in reply.headers  # it would be a claim about what GET gives


async def test_bytes_that_are_no_json_are_relayed_as_they_come(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    sound = bytes(range(256)) * 1000
    upstream.script(
        ScriptedReply(chunks=[sound[:1000], 0.01, sound[1000:]], headers={"Content-Type": "audio/mpeg"})
    )
    async with gateway.client.get("/v1/mock/audio/1") as reply:
        assert reply.headers["Content-Type"] == "audio/mpeg"
        assert "Cache-Control" not in reply.headers
        assert await reply.read() == sound


async def test_a_providers_own_headers_pass_by_the_allow_list(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    theirs = {
        **JSON,
        "Openai-Version": "2020-10-01",
        "Set-Cookie": "a=b",
        "Server": "x",
        "Alt-Svc": "h3",
        "X-Request-Id": "req_theirs",
    }
    upstream.script(ScriptedReply(body=BODY, headers=theirs))
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as reply:
        assert reply.headers["Openai-Version"] == "2020-10-01"
        assert {"Set-Cookie", "Server", "Alt-Svc"}.isdisjoint(reply.headers)
        assert reply.headers["X-Request-ID"].startswith("req_")
        assert reply.headers["X-Request-ID"] != "req_theirs"
        assert (reply.headers["X-Raven-Provider"], reply.headers["X-Raven-Model"]) == ("mock", "m")
        assert int(reply.headers["X-Raven-Latency-Ms"]) >= 0


class Collects:
    """Wants streams whole, in `check_reply`, and turns their "o" to "0"."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage | None:
        exchange.collects = True
        self.seen.append((exchange.content_type, b""))
        return None

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        assert exchange.reply_body is not None
        self.seen[-1] = (self.seen[-1][0], exchange.reply_body)
        if b"secret" in exchange.reply_body:
            raise Refused("No.")
        exchange.reply_body = exchange.reply_body.replace(b"o", b"0")


class Iterates:
    """Answers with an iterator, as a cache might."""

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply:
        async def pieces() -> Any:
            for piece in (b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"):
                yield piece

        return Reply(200, {"Content-Type": "text/event-stream"}, pieces())


async def test_a_stream_can_be_collected_to_be_judged(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """`exchange.collects`: it comes whole to `check_reply`, which may replace or refuse it."""
    collects = Collects()
    gateway = await raven([collects], upstreams=[upstream])
    async with gateway.client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
        data = await reply.read()
        assert reply.status == 200
        assert reply.headers["Content-Length"] == str(len(data))
    content_type, body = collects.seen[-1]
    assert content_type.startswith("text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    assert data == body.replace(b"o", b"0")
    upstream.script(ScriptedReply.of_events([{"choices": [], "said": "secret"}, b"[DONE]"]))
    assert (await ask(gateway, stream=True))[0] == 403


async def test_a_collected_stream_that_breaks_off_is_a_502(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """Nothing of it is out yet, so it is an error and not half a stream."""
    gateway = await raven([Collects()], upstreams=[upstream])
    status, body = await ask(gateway, stream=True, model="mock/fx-reset-mid")
    assert (status, b"upstream_error" in body) == (502, True)


async def test_an_answer_in_pieces_is_collected_too(raven: GatewayStarter) -> None:
    """Whoever gave it."""
    gateway = await raven([Collects(), Iterates()])
    assert await ask(gateway, model="demo/chat", stream=True) == (
        200,
        b'data: {"ch0ices":[]}\n\ndata: [DONE]\n\n',
    )


class Trickles:
    """A route whose reply comes in pieces, the second one never."""

    def __init__(self) -> None:
        self.is_closed = False

    @hookimpl
    def register_routes(self, register: Any) -> None:
        register(
            Face(name="trickle", path="/trickle/{first}", methods=("GET",), read_call=read_nothing,
                 json_body=False, serve=self.serve)
        )  # fmt: skip

    async def serve(self, exchange: Exchange) -> Reply:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                if exchange.params["first"] == "some":
                    yield b"some"
                await asyncio.Event().wait()
                yield b"never"
            finally:
                self.is_closed = True

        return Reply(200, {"Content-Type": "text/plain"}, pieces())


@pytest.mark.parametrize("plugins", [[], [Collects()]], ids=["as it comes", "collected"])
async def test_an_iterator_that_never_goes_on_is_a_504(raven: GatewayStarter, plugins: list[Any]) -> None:
    """The limits of a provider's reply hold for what a plugin gives, too; its iterator is closed."""
    trickles = Trickles()
    limits = {"idle_timeout_s": 0.2, "total_timeout_s": 0.4}
    gateway = await raven([trickles, *plugins], config=limits)
    async with asyncio.timeout(10), gateway.client.get("/trickle/nothing") as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (504, "upstream_timeout")
    assert trickles.is_closed


async def test_an_iterator_that_stops_half_way_is_cut(raven: GatewayStarter) -> None:
    """What is out cannot be taken back: the client sees that it is not the whole."""
    trickles = Trickles()
    gateway = await raven([trickles], config={"idle_timeout_s": 0.2})
    with pytest.raises(ClientPayloadError):
        async with asyncio.timeout(10), gateway.client.get("/trickle/some") as reply:
            await reply.read()
    assert trickles.is_closed


async def test_head_of_a_stream_has_no_body(raven: GatewayStarter) -> None:
    """Its bytes would be read as the beginning of the connection's next reply."""
    gateway = await raven([Trickles()])
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"Host: test\r\nAuthorization: Bearer {gateway.key}\r\n"
    writer.write(f"HEAD /trickle/some HTTP/1.1\r\n{head}\r\n".encode())
    writer.write(f"GET /health/live HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        data = await reader.read()
    writer.close()
    first, _, rest = data.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert b"Transfer-Encoding" not in first
    assert rest.startswith(b"HTTP/1.1 200")
