"""Taking a request in: what HTTP readers disagree about is refused; a body can neither stall nor swell."""

from __future__ import annotations

import asyncio

import pytest

from raven_proxy.errors import InvalidRequest
from raven_proxy.harness import ADMIN_KEY, GatewayStarter, RunningGateway
from raven_proxy.intake import require_json
from raven_proxy.mock import MockUpstream

from .hard_cases.wire import RawReply, Wire

BODY = b'{"model":"mock/any","messages":[{"role":"user","content":"hi"}]}'
SMALL = {"max_body_bytes": 1000, "body_timeout_s": 0.3}


def head(*lines: str, version: str = "1.1", kind: str = "application/json", key: str = ADMIN_KEY) -> bytes:
    fixed = (
        f"POST /v1/chat/completions HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Type: {kind}",
    )
    return "\r\n".join((*fixed, *lines, "", "")).encode()


async def ask(gateway: RunningGateway, *pieces: bytes, pause_s: float = 0.0) -> RawReply:
    async with await Wire.open(gateway.url) as wire:
        for piece in pieces:
            await wire.send(piece)
            await asyncio.sleep(pause_s)
        return await wire.reply()


async def test_a_body_arrives_however_it_is_framed_and_cut(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    length = f"Content-Length: {len(BODY)}"
    for pieces in (
        (head(length) + BODY,),
        (head(length), BODY[:10], BODY[10:]),
        (head("Transfer-Encoding: chunked") + chunked,),
        (head("Transfer-Encoding: chunked"), *[chunked[i : i + 7] for i in range(0, len(chunked), 7)]),
        (head(length, version="1.0") + BODY,),
    ):
        assert (await ask(gateway, *pieces, pause_s=0.005)).status == 200
    assert {seen.body for seen in upstream.seen} == {BODY.replace(b"mock/any", b"any")}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head("Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n", 400),
        (head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
        (head("Content-Encoding: gzip", "Content-Length: 2") + b"{}", 400),
        (head("Content-Length: 2", kind="text/plain") + b"{}", 400),
        (head("Content-Length: 2", "Expect: magic"), 417),
        (head("Content-Length: 1001") + b"x" * 1001, 413),
        (head("Transfer-Encoding: chunked") + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
        (head("Content-Length: 5", "Content-Length: 6") + b"12345", 400),
        (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (head("Content-Length: -5"), 400),
    ],
)
async def test_what_cannot_be_taken_is_refused_and_goes_nowhere(
    raven: GatewayStarter, upstream: MockUpstream, raw: bytes, status: int
) -> None:
    gateway = await raven(upstreams=[upstream], config=SMALL)
    reply = await ask(gateway, raw)
    assert reply.status == status
    assert reply.json()["error"]["status"] == status
    assert upstream.seen == []


async def test_a_large_body_is_refused_before_it_is_sent(raven: GatewayStarter) -> None:
    gateway = await raven(config=SMALL)
    assert (await ask(gateway, head("Content-Length: 999999999"))).status == 413


async def test_a_wrong_key_is_told_before_the_body_is_read(raven: GatewayStarter) -> None:
    gateway = await raven()
    assert (await ask(gateway, head("Content-Length: 1000", key="nobody"))).status == 401


async def test_who_expects_100_continue_gets_it_when_the_body_is_wanted(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config=SMALL)
    async with await Wire.open(gateway.url) as wire:
        await wire.send(head(f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert await wire.head() == (100, {})
        await wire.send(BODY)
        assert (await wire.reply()).status == 200
    async with await Wire.open(gateway.url) as wire:
        await wire.send(head("Content-Length: 5000", "Expect: 100-continue"))
        assert (await wire.head())[0] == 413


async def test_a_body_that_stalls_or_drips_is_given_up(raven: GatewayStarter) -> None:
    gateway = await raven(config=SMALL)
    assert (await ask(gateway, head("Content-Length: 900"), b"x")).status == 408
    async with await Wire.open(gateway.url) as wire:
        await wire.send(head("Content-Length: 900"))
        drip = asyncio.get_running_loop().create_task(_drip(wire))
        assert (await wire.reply()).status == 408
        drip.cancel()


async def _drip(wire: Wire) -> None:
    while True:
        await wire.send(b"x")
        await asyncio.sleep(0.02)


async def test_a_slow_body_with_progress_is_taken(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven(upstreams=[upstream], config={"body_timeout_s": 0.3})
    body = BODY[:-1] + b',"padding":"' + b"x" * 20_000 + b'"}'
    step = len(body) // 8 + 1
    pieces = [body[i : i + step] for i in range(0, len(body), step)]
    assert (await ask(gateway, head(f"Content-Length: {len(body)}"), *pieces, pause_s=0.08)).status == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(head("Content-Length: 900") + b"half")
        await asyncio.sleep(0.05)
    await upstream.wait_until(lambda: gateway.gateway.in_flight == 0)
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("kind", "is_taken"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ('Application/JSON;charset="UTF-8"', True),
        ("application/json; charset=utf-16", False),
        ("application/json;profile=x; charset=latin-1", False),
        ("text/plain", False),
    ],
)
def test_json_is_utf_8(kind: str, is_taken: bool) -> None:
    """RFC 8259 section 8.1: what says that it is another charset would be read wrongly."""
    if is_taken:
        require_json({"content-type": kind})
        return
    with pytest.raises(InvalidRequest) as caught:
        require_json({"content-type": kind})
    assert caught.value.param == "Content-Type"
