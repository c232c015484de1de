"""T99, T100: replies that are not whole, and pooled connections that died."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy import Outcome
from raven_proxy.mock import ScriptedReply

from .conftest import Case

JSON = {"Content-Type": "application/json"}
UPSTREAM = {"name": "early", "provider": "ollama"}  # it needs no key
WHOLE = b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there"}}]}'


@pytest.mark.parametrize(
    "model",
    ["fx-short", "fx-chunk-cut", "fx-gzip-cut", "fx-reset-mid", "fx-bad-header", "fx-close", "fx-reset"],
)
async def test_t99_a_reply_that_is_not_whole_is_a_502(case: Case, model: str) -> None:
    """Short of its length, a chunk or a gzip member missing: 502, never a 200 with half a document."""
    await case.start(base=("openai", "meter"))
    reply = await case.chat(f"mock/{model}")
    inner = case.refused(reply, 502, code="upstream_error", type="upstream_error")
    assert "choices" not in inner["message"]
    ended = await case.last()
    assert ended.outcome is Outcome.UPSTREAM_ERROR
    assert (await case.chat()).status == 200
    await case.upstream.wait_until(lambda: case.upstream.connections == 1)  # the broken one is gone


@pytest.mark.parametrize("cut", [1, 10, len(WHOLE) // 2, len(WHOLE) - 1])
async def test_t99_a_body_that_ends_with_the_connection_must_be_json(case: Case, cut: int) -> None:
    """A close-delimited reply can lose its tail unnoticed: what does not parse is a 502."""
    await case.start()
    fields: dict[str, Any] = {"headers": JSON, "framing": "close"}
    case.upstream.script(ScriptedReply(body=WHOLE[:cut], **fields), ScriptedReply(body=WHOLE, **fields))
    case.refused(await case.chat(), 502, code="upstream_error")
    assert (await case.chat()).body == WHOLE


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        b"",
    ],
    ids=range(10),
)
@pytest.mark.parametrize("stream", [False, True])
async def test_t99_what_is_no_http_reply_is_a_502(case: Case, raw: bytes, stream: bool) -> None:
    """Whatever a provider sends in place of HTTP is its fault: a 502, and the connection is dropped."""
    await case.start(config={"idle_timeout_s": 1, "first_byte_timeout_s": 1})
    case.upstream.script(ScriptedReply(framing="raw", chunks=[raw], end="cut"))
    case.refused(await case.chat(stream=stream), 502, code="upstream_error")
    assert (await case.chat()).status == 200


async def test_t99_a_bomb_is_an_error_and_not_memory(case: Case) -> None:
    """A small body that unfolds into a huge one is a 502."""
    import gzip

    await case.start(config={"max_stream_bytes": 2**22})
    bomb = gzip.compress(b'{"a":"' + b"x" * 2**25 + b'"}')
    for _ in range(2):
        case.upstream.reply(body=bomb, headers={**JSON, "Content-Encoding": "gzip"})
        case.refused(await case.chat(), 502, code="upstream_error")
    case.upstream.reply(body=gzip.compress(b"x"), headers={**JSON, "Content-Encoding": "br"})
    case.refused(await case.chat(), 502, code="upstream_error")


@pytest.mark.parametrize("stream", [False, True])
async def test_t99_compressed_replies_arrive_unfolded(case: Case, stream: bool) -> None:
    """A provider that compresses although it was asked not to: the client gets plain, whole bytes."""
    await case.start()
    reply = await case.chat("mock/fx-gzip", stream=stream)
    assert reply.status == 200
    assert reply.is_whole
    assert "content-encoding" not in reply.headers
    assert case.upstream.seen[0].headers["accept-encoding"] == "identity"
    assert reply.body.endswith(b"data: [DONE]\n\n" if stream else b"}")


# -- the pool -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_t100_a_pooled_connection_that_closes_at_the_post(case: Case, stream: bool) -> None:
    """Closed without a byte of an answer: sent once more on a fresh connection, and both are recorded."""
    await case.start()
    assert (await case.chat("mock/fx-stale")).status == 200
    reply = await case.chat(stream=stream)
    assert reply.status == 200
    ended = await case.last()
    assert [attempt.status for attempt in ended.attempts] == [None, 200]
    assert [attempt.reused_connection for attempt in ended.attempts] == [True, False]
    assert len(case.upstream.seen) == 3


@pytest.mark.parametrize("reset", [False, True])
async def test_t100_a_connection_that_died_while_idle_costs_nothing(case: Case, reset: bool) -> None:
    """A connection that the provider closed while it lay idle is not used: one attempt, no duplicate."""
    await case.start()
    assert (await case.chat()).status == 200
    case.upstream.drop_connections(reset=reset)
    await asyncio.sleep(0.05)
    assert (await case.chat()).status == 200
    assert len((await case.last()).attempts) == 1
    assert case.upstream.connections_opened == 2


@pytest.mark.parametrize(
    "begun",
    [b"H", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Type: app", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
)
async def test_t100_after_a_byte_of_an_answer_nothing_is_sent_again(case: Case, begun: bytes) -> None:
    """Once any byte came the provider may have generated: a 502 and one attempt, not a second bill."""
    await case.start()
    assert (await case.chat()).status == 200
    case.upstream.script(ScriptedReply(framing="raw", chunks=[begun, 0.05], end="cut"))
    case.refused(await case.chat(), 502, code="upstream_error")
    assert len((await case.last()).attempts) == 1
    assert len(case.upstream.seen) == 2
    assert case.upstream.connections_opened == 1


async def test_t100_a_fresh_connection_that_closes_is_not_tried_again(case: Case) -> None:
    """Only a connection that lay idle earns a second try: a fresh one that closes is a 502."""
    await case.start()
    case.refused(await case.chat("mock/fx-close"), 502, code="upstream_error")
    assert len(case.upstream.seen) == 1


@pytest.mark.parametrize("model", ["fx-connection-close", "fx-extra-bytes", "fx-close-delimited", "fx-204"])
async def test_t100_connections_are_used_again_only_where_they_may_be(case: Case, model: str) -> None:
    """A connection with `close`, a surplus or no length is dropped; one reply never becomes another's."""
    await case.start()
    for _ in range(3):
        first = await case.chat(f"mock/{model}")
        assert first.status == (502 if model == "fx-204" else 200)  # an empty answer to a chat is none
        second = await case.chat("mock/plain")
        assert second.json()["model"] == "plain"
    assert len(case.upstream.seen) == 6


@pytest.mark.parametrize("status", [200, 413])
async def test_t100_an_answer_before_the_request_was_read_holds_nothing(case: Case, status: int) -> None:
    """A provider that answers at the head and reads no further: answer passed on, connection dropped."""
    body = b'{"choices":[]}' if status == 200 else b'{"error":{"message":"too large"}}'
    opened: list[asyncio.StreamWriter] = []

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)  # and then it neither reads nor closes

    server = await asyncio.start_server(answer_early, "127.0.0.1", 0, limit=2**16)
    port = server.sockets[0].getsockname()[1]
    case.upstreams = []
    gateway = await case.start(
        config={"upstreams": [{**UPSTREAM, "base_url": f"http://127.0.0.1:{port}/v1"}]}
    )
    reply = await case.chat("early/any", padding="x" * 20_000_000)
    assert reply.status == status
    upstream = gateway.gateway.pipeline.upstreams["early"]
    async with asyncio.timeout(2):
        while upstream.open_connections:
            await asyncio.sleep(0.01)
    assert len((await case.settle())[0].attempts) == 1
    case.recorder.finished.clear()  # that attempt was seen by no mock upstream
    server.close()
    for writer in opened:
        writer.transport.abort()


async def test_t100_many_at_once_on_connections_that_all_died(case: Case) -> None:
    """Fifty pooled connections that close at their next request: every call is answered, all are recorded."""
    await case.start()
    assert {r.status for r in await asyncio.gather(*(case.chat("mock/fx-slow-0.1") for _ in range(50)))} == {
        200
    }
    opened = case.upstream.connections_opened
    assert opened == 50
    replies = await asyncio.gather(*(case.chat("mock/fx-stale") for _ in range(50)))
    replies += await asyncio.gather(*(case.chat(f"mock/m{number}") for number in range(50)))
    assert {reply.status for reply in replies} == {200}
    assert [reply.json()["model"] for reply in replies[50:]] == [f"m{number}" for number in range(50)]
