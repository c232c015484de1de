"""T3, T8: what two readers of one connection could understand differently."""

from __future__ import annotations

import pytest

from raven_proxy import Exchange, Refused, hookimpl
from raven_proxy.harness import ADMIN_KEY

from .conftest import Case
from .wire import CHAT, Wire, chat, post

CHUNKED = f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
JSON = "Content-Type: application/json\r\n"


async def closed_after(wire: Wire) -> bool:
    return await wire.rest() == b""


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip, chunked", 501),
        ("chunked, gzip", 400),
        ("identity", 400),
        ("xchunked", 400),
        ("chunked, chunked", 400),
        ("gzip", 400),
    ],
)
async def test_t3_only_the_plain_chunked_coding_is_understood(case: Case, coding: str, status: int) -> None:
    """A transfer coding that we do not undo is refused, and nothing goes upstream."""
    await case.start()
    async with await case.wire() as wire:
        body = "5\r\nhello\r\n0\r\n\r\n"
        await wire.send(f"{CHUNKED}{JSON}Transfer-Encoding: {coding}\r\n\r\n{body}".encode())
        reply = await wire.reply()
    assert reply.status in {status, 400, 501}
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


async def test_t3_http_1_0_has_no_transfer_encoding(case: Case) -> None:
    """HTTP/1.0 with Transfer-Encoding is a 400 and the connection is closed."""
    await case.start()
    async with await case.wire() as wire:
        head = CHUNKED.replace("HTTP/1.1", "HTTP/1.0")
        await wire.send(f"{head}{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode())
        case.refused(await wire.reply(), 400)
        assert await closed_after(wire)
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: 99999999999999999999",
        "Content-Length : 2",
        "X-A: b\r\n folded",
        "X-A: b\x00c",
        "X-A: b\rc",
        "Host: second",
    ],
)
async def test_t3_ambiguous_heads_are_refused_and_closed(case: Case, line: str) -> None:
    """A head that HTTP readers disagree about is a 400 in the envelope, and the connection ends."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(f"{CHUNKED}{JSON}{line}\r\n\r\n{{}}".encode())
        case.refused(await wire.reply(), 400)
        assert await closed_after(wire)
    assert case.upstream.seen == []


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3", "http/1.1"])
async def test_t3_other_versions_are_not_answered_as_1_1(case: Case, version: str) -> None:
    """A version that is not spoken here is refused, whatever follows it."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(chat()).replace(b"HTTP/1.1", version.encode()))
        reply = await wire.reply()
    assert reply.status in {400, 505}
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


async def test_t3_an_upgrade_is_declined_and_the_request_is_served_as_it_is(case: Case) -> None:
    """`Upgrade` changes nothing: the body is judged, the reply is HTTP/1.1, the connection goes on."""
    await case.start()
    async with await case.wire() as wire:
        for upgrade in ("h2c", "websocket"):
            await wire.send(post(chat(), headers=("Connection: Upgrade", f"Upgrade: {upgrade}")))
            reply = await wire.reply()
            assert reply.status in {200, 400}, reply
        await wire.send(post(chat()))
        assert (await wire.reply()).status == 200
    assert all("upgrade" not in seen.headers for seen in case.upstream.seen)


class Blocking:
    """Stands for a guardrail: blocks whoever says so."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if exchange.model == "mock/blocked":
            raise Refused("No.", status=403, code="guardrail_blocked")
        if exchange.model == "mock/broken":
            raise RuntimeError("broken")


SMUGGLED = b"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 9


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (post(SMUGGLED, key="rk_live_wrong"), 401),
        (post(SMUGGLED, "/nothing/here"), 404),
        (post(SMUGGLED, kind="text/plain"), 400),
        (post(SMUGGLED), 400),
        (post(SMUGGLED, method="PUT"), 405),
        (post(chat("mock/blocked")), 403),
        (post(chat("mock/broken")), 500),
        (post(SMUGGLED, "/v1//chat"), 400),
    ],
)
async def test_t8_a_refused_body_is_never_read_as_a_request(case: Case, first: bytes, status: int) -> None:
    """A refused request and a good one on the same connection get exactly two answers."""
    case.may_fail = status == 500
    await case.start(Blocking())
    async with await case.wire() as wire:
        await wire.send(first)
        assert (await wire.reply()).status == status
        await wire.send(post(chat(), headers=("Connection: close",)))
        assert (await wire.reply()).status == 200
        assert await closed_after(wire)
    assert [seen.path for seen in case.upstream.seen] == [CHAT]


async def test_t8_both_in_one_packet(case: Case) -> None:
    """The same when the refused request and the good one come in one read."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(post(SMUGGLED, key="rk_live_wrong") + post(chat(), headers=("Connection: close",)))
        assert [(await wire.reply()).status for _ in range(2)] == [401, 200]
        assert await closed_after(wire)
    assert len(case.upstream.seen) == 1


async def test_t8_after_413_the_connection_is_closed(case: Case) -> None:
    """Nobody knows how much of a refused large body is to come: the connection ends with the 413."""
    await case.start(config={"max_body_bytes": 100})
    for body in (b"x" * 101, b" " * 200_000):
        async with await case.wire() as wire:
            await wire.send(post(body))
            case.refused(await wire.reply(), 413, code="payload_too_large")
            await wire.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await closed_after(wire)
    async with await case.wire() as wire:
        head = f"{CHUNKED}{JSON}Transfer-Encoding: chunked\r\n\r\n"
        await wire.send(head.encode() + b"80\r\n" + b"x" * 128 + b"\r\n")
        case.refused(await wire.reply(), 413, code="payload_too_large")
    assert case.upstream.seen == []


async def test_t8_pipelined_requests_are_answered_in_order(case: Case) -> None:
    """Ten requests in one packet get ten answers, in their order."""
    await case.start()
    async with await case.wire() as wire:
        await wire.send(b"".join(post(chat(f"mock/m{number}")) for number in range(10)))
        models = [(await wire.reply()).json()["model"] for _ in range(10)]
    assert models == [f"m{number}" for number in range(10)]
