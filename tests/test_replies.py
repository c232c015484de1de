"""Writing replies: whose header wins, and when a connection lives on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, InvalidRequest, RateLimited, Reply, hookimpl, read_nothing
from raven_proxy.faces import Face
from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream

from .hard_cases.wire import Wire, chat, post


class Route:
    """Answers GET /it with what it is given."""

    def __init__(self, reply: Reply | Exception) -> None:
        self.reply = reply

    async def serve(self, _exchange: Exchange) -> Reply:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    @hookimpl
    def register_routes(self, register: Any) -> None:
        register(
            Face(
                name="it",
                path="/it",
                methods=("GET", "POST"),
                read_call=read_nothing,
                json_body=False,
                serve=self.serve,
            )
        )


async def test_the_gateways_headers_win_over_plugins_and_those_over_the_providers(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    class Plugin:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            exchange.response_headers |= {"x-mine": "1", "retry-after": "mine", "X-Request-ID": "forged"}

    gateway = await raven([Plugin], upstreams=[upstream])
    upstream.reply(json={}, headers={"Retry-After": "theirs", "Openai-Version": "v"})
    async with gateway.client.post("/v1/chat/completions", json=chat()) as reply:
        assert reply.headers.getall("x-mine") == ["1"]
        assert reply.headers.getall("retry-after") == ["mine"]
        assert reply.headers.getall("openai-version") == ["v"]
        (request_id,) = reply.headers.getall("x-request-id")
        assert request_id != "forged"


@pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "connection", "x-bad\r\nx-evil"])
async def test_a_plugin_cannot_frame_or_break_a_reply(raven: GatewayStarter, name: str) -> None:
    class Plugin:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            exchange.response_headers[name] = "0"

    gateway = await raven([Plugin])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat("demo/chat")))
        reply = await wire.reply()
        assert "x-evil" not in reply.headers
        assert reply.status in {200, 400, 500}
        assert reply.is_whole
        assert reply.json()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"hello"), (201, b""), (204, b""), (204, b"not sent"), (299, b"odd"), (404, b"none")],
)
async def test_a_routes_reply_goes_out_as_it_is(raven: GatewayStarter, status: int, body: bytes) -> None:
    gateway = await raven([Route(Reply(status, {"Content-Type": "text/plain"}, body))])
    async with gateway.client.get("/it") as reply:
        assert (reply.status, await reply.read()) == (status, b"" if status == 204 else body)
        assert status != 204 or "Content-Length" not in reply.headers
    async with gateway.client.head("/it") as reply:
        assert (reply.status, await reply.read()) == (status, b"")
        assert reply.headers.get("Content-Length") == (str(len(body)) if body and status != 204 else None)


async def test_a_large_reply_is_whole(raven: GatewayStarter) -> None:
    body = b"x" * 5_000_000
    gateway = await raven([Route(Reply(200, {}, body))])
    async with gateway.client.get("/it") as reply:
        assert await reply.read() == body


async def test_an_error_is_in_the_faces_dialect_with_its_headers_and_keeps_the_connection(
    raven: GatewayStarter,
) -> None:
    gateway = await raven([Route(RateLimited("Slower.", retry_after_s=2.5))])
    async with await Wire.open(gateway.url) as wire:
        for _ in range(2):
            await wire.send(post(b"", "/it", method="GET"))
            reply = await wire.reply()
            assert (reply.status, reply.headers["retry-after"]) == (429, "3")
            error = reply.json()["error"]
            assert (error["type"], error["request_id"]) == ("rate_limit_error", reply.headers["x-request-id"])


async def test_an_error_in_a_route_says_nothing_of_the_inside(raven: GatewayStarter) -> None:
    gateway = await raven([Route(KeyError("inside"))])
    async with gateway.client.get("/it") as reply:
        text = await reply.text()
        assert reply.status == 500
        assert "inside" not in text
        assert msgspec.json.decode(text)["error"]["type"] == "internal_error"


async def test_a_refusal_in_a_route_is_the_clients(raven: GatewayStarter) -> None:
    gateway = await raven([Route(InvalidRequest("No.", param="x"))])
    async with gateway.client.get("/it") as reply:
        assert (reply.status, msgspec.json.decode(await reply.read())["error"]["param"]) == (400, "x")
