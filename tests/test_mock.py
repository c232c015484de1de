"""The mock upstream: what it keeps, what it answers, and every way in which it misbehaves."""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from raven_proxy import cli
from raven_proxy.mock import MockUpstream, ScriptedReply, Seen, fault_table, faults, serve
from raven_proxy.sse import EventReader

CHAT = {"model": "mock-small", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
async def mock() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as running:
        yield running


class Wire:
    """A raw connection to a mock."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, mock: MockUpstream, tls: ssl.SSLContext | None = None) -> Wire:
        port = int(mock.origin.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=2**24))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def post(self, body: object, path: str = "/v1/chat/completions", head: str = "") -> None:
        await self.send(post(body, path, head))

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = text.strip().split("\r\n")
        return int(first.split()[1]), {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join([chunk async for chunk in self.chunks()])
        return status, headers, b"" if status in {204, 304} else await self.reader.read()

    async def until_silence(self) -> bytes:
        """What comes until 0.1 s pass without a byte; fails where the connection ends."""
        got = b""
        with suppress(TimeoutError):
            while True:
                piece = await asyncio.wait_for(self.reader.read(65536), 0.1)
                assert piece
                got += piece
        return got

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"


def post(body: object, path: str = "/v1/chat/completions", head: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


async def ask(mock: MockUpstream, body: object, path: str = "/v1/chat/completions", head: str = "") -> Any:
    async with await Wire.open(mock) as wire:
        await wire.post(body, path, head)
        return await wire.reply()


async def ask_json(mock: MockUpstream, body: object, path: str = "/v1/chat/completions") -> Any:
    return msgspec.json.decode((await ask(mock, body, path))[2])


async def get(mock: MockUpstream, path: str, method: str = "GET") -> Any:
    async with await Wire.open(mock) as wire:
        await wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return await wire.reply()


def fault(name: str, *, stream: bool = True, **fields: Any) -> dict[str, Any]:
    return {**CHAT, "model": f"fx-{name}", "stream": stream, **fields}


def payloads(stream: bytes) -> list[bytes]:
    reader = EventReader()
    events = reader.feed(stream) + reader.close()
    assert reader.pending == b""
    return [event.data for event in events if event.data is not None]


def said(stream: bytes) -> str:
    chunks = [msgspec.json.decode(data) for data in payloads(stream) if data != b"[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


SAID = "You said: one two three That was 3 words, and this is the mock upstream speaking."


# What it keeps


async def test_keeps_the_request_byte_for_byte(mock: MockUpstream) -> None:
    raw = post(CHAT, "/v1/chat/completions?x=1", "X-One: a\r\nx-one:  b \r\nAuthorization: Bearer sk-1\r\n")
    async with await Wire.open(mock) as wire:
        await wire.send(raw)
        await wire.reply()
    (seen,) = mock.seen
    assert seen.raw == raw
    assert (seen.method, seen.target, seen.path) == (
        "POST",
        "/v1/chat/completions?x=1",
        "/v1/chat/completions",
    )
    assert seen.header_list[1:3] == [("X-One", "a"), ("x-one", "b")]
    assert seen.headers["x-one"] == "a, b"
    assert seen.json == CHAT
    assert (seen.model, seen.key) == ("mock-small", "sk-1")
    assert seen.complete
    assert not seen.closed_early
    assert seen.reply_status == 200
    assert seen.ended_at is not None
    assert 0 <= seen.ended_at - seen.received_at < 1


async def test_reads_chunked_bodies_and_answers_expect_continue(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.send(b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert await wire.head() == (100, {})
        for piece in (b"3;x=y\r\nab", b"c\r", b"\n2\r\nde\r\n0\r\nTrailer: t\r\n\r", b"\n"):
            await wire.send(piece)
            await asyncio.sleep(0.005)
        assert (await wire.reply())[0] == 404
    assert mock.seen[0].body == b"abcde"
    assert mock.seen[0].raw.endswith(b"0\r\nTrailer: t\r\n\r\n")


async def test_answers_pipelined_requests_in_turn_on_one_connection(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.send(post(CHAT) + b"GET /v1/models HTTP/1.1\r\n\r\n")
        first, second = await wire.reply(), await wire.reply()
        assert b"You said" in first[2]
        assert b"mock-embedding" in second[2]
        assert mock.connections == 1
    assert [seen.connection for seen in mock.seen] == [1, 1]
    await mock.wait_until(lambda: mock.connections == 0)
    assert mock.connections_opened == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nBad : x\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
        b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    ],
)
async def test_refuses_what_is_no_http_and_keeps_its_bytes(mock: MockUpstream, raw: bytes) -> None:
    async with await Wire.open(mock) as wire:
        await wire.send(raw)
        assert (await wire.reply())[0] == 400
        assert await wire.reader.read() == b""
    assert mock.seen[0].raw == raw
    assert not mock.seen[0].complete
    assert not mock.seen[0].closed_early


async def test_notices_a_client_that_leaves_before_the_reply_ends(mock: MockUpstream) -> None:
    wire = await Wire.open(mock)
    await wire.post(fault("paced-50"))
    await wire.head()
    await wire.close()
    await mock.wait_until(lambda: mock.seen[0].closed_early)
    assert mock.seen[0].closed_at is not None
    assert mock.seen[0].ended_at is None
    await mock.wait_until(lambda: mock.connections == 0)


async def test_keeps_a_request_whose_client_left_in_its_middle(mock: MockUpstream) -> None:
    wire = await Wire.open(mock)
    await wire.send(b"POST /v1/x HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
    await wire.close()
    await mock.wait_until(lambda: mock.seen)
    assert mock.seen[0].target == "/v1/x"
    assert not mock.seen[0].complete
    assert mock.seen[0].closed_early


async def test_forgets_the_oldest_requests_over_its_limit() -> None:
    async with MockUpstream(max_seen=2) as mock:
        for name in "abc":
            await get(mock, f"/{name}")
        assert [seen.target for seen in mock.seen] == ["/b", "/c"]


async def test_closes_hung_connections_and_tasks_at_exit() -> None:
    before = asyncio.all_tasks()
    async with MockUpstream() as mock:
        wires = [await Wire.open(mock) for _ in range(3)]
        for wire, name in zip(wires, ("silent", "endless", "stall"), strict=True):
            await wire.post(fault(name))
        await mock.wait_until(lambda: len(mock.seen) == 3)
    assert mock.connections == 0
    assert asyncio.all_tasks() == before
    assert not any(seen.closed_early for seen in mock.seen)
    for wire in wires:
        await wire.close()


async def test_drops_connections_on_demand(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire, await Wire.open(mock) as other:
        await wire.post(CHAT)
        await wire.reply()
        mock.drop_connections()
        assert await wire.reader.read() == b""
        await other.close()
    async with await Wire.open(mock) as wire:
        await mock.wait_until(lambda: mock.connections == 1)
        mock.drop_connections(reset=True)
        with pytest.raises(ConnectionResetError):
            await wire.reader.read()


@pytest.fixture
def tls_pair(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a fresh certificate, and a client's that trusts it."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=cert)


async def test_speaks_tls(tls_pair: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    tls, trust = tls_pair
    async with MockUpstream(tls=tls) as mock:
        assert mock.url.startswith("https://127.0.0.1:")
        async with await Wire.open(mock, trust) as wire:
            await wire.post({**CHAT, "stream": True})
            assert said((await wire.reply())[2]) == SAID
        async with await Wire.open(mock, trust) as wire:
            await wire.post(fault("reset-mid"))
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await wire.reply()


# Scripts


async def test_plays_scripts_then_the_handler_then_the_vendor(mock: MockUpstream) -> None:
    async def handler(seen: Seen) -> ScriptedReply | None:
        return ScriptedReply(status=418) if seen.path == "/tea" else None

    mock.handler = handler
    mock.reply(status=429, headers={"Retry-After": "2"}, json={"error": "slow"})
    mock.script(ScriptedReply(body=b"two"))
    status, headers, body = await ask(mock, CHAT)
    assert (status, headers["retry-after"], body) == (429, "2", b'{"error":"slow"}')
    assert (await ask(mock, CHAT))[2] == b"two"
    assert (await get(mock, "/tea"))[0] == 418
    assert (await get(mock, "/v1/models"))[0] == 200


async def test_writes_chunks_one_by_one_with_pauses(mock: MockUpstream) -> None:
    mock.reply(chunks=[b"a", 0.05, b"", b"bc"], headers=[("X-A", "1"), ("X-A", "2")])
    async with await Wire.open(mock) as wire:
        await wire.post(CHAT)
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head == b"HTTP/1.1 200 Scripted\r\nX-A: 1\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert await wire.reader.read(100) == b"1\r\na\r\n"
        assert await wire.reader.readexactly(12) == b"2\r\nbc\r\n0\r\n\r\n"


async def test_writes_raw_bytes_without_a_head(mock: MockUpstream) -> None:
    mock.reply(framing="raw", chunks=[b"HTTP/9.9 what\r\n", b"\x00"], end="cut")
    async with await Wire.open(mock) as wire:
        await wire.post(CHAT)
        assert await wire.reader.read() == b"HTTP/9.9 what\r\n\x00"
    assert mock.seen[0].reply_status is None


async def test_events_make_a_stream(mock: MockUpstream) -> None:
    mock.reply(events=[{"a": 1}], framing="close")
    status, headers, body = await ask(mock, CHAT)
    assert (status, headers) == (200, {"content-type": "text/event-stream"})
    assert body == b'data: {"a":1}\n\ndata: [DONE]\n\n'


async def test_head_and_bodiless_replies_have_no_body(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.send(b"HEAD /v1/models HTTP/1.1\r\n\r\n")
        status, headers = await wire.head()
        assert status == 200
        assert int(headers["content-length"]) > 0
        mock.reply(status=304, body=b"never sent")
        await wire.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert await wire.head() == (304, {})
        await wire.send(b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await wire.reply())[0] == 404
        assert await wire.reader.read() == b""


async def test_a_broken_handler_resets_and_is_raised_at_exit() -> None:
    async def handler(_: Seen) -> ScriptedReply | None:
        raise LookupError("oops")

    with pytest.raises(ExceptionGroup, match="failed to answer") as caught:  # noqa: PT012 - raised at the exit
        async with MockUpstream() as mock:
            mock.handler = handler
            with pytest.raises(ConnectionResetError):
                await ask(mock, CHAT)
    assert isinstance(caught.value.exceptions[0], LookupError)


@pytest.mark.parametrize(
    ("response", "chunks"),
    [
        ({"headers": {"Content-Type": "application/json"}, "body": '{"é": 1}'}, None),
        (
            {"headers": {"content-type": "text/event-stream"}, "body": "data: 1\n\ndata: 2\r\n\r\ndata: 3"},
            [b"data: 1\n\n", b"data: 2\r\n\r\n", b"data: 3"],
        ),
        (
            {"headers": {}, "body_b64": base64.b64encode(b"\x00\xffab").decode(), "chunk_sizes": [1, 2]},
            [b"\x00", b"\xffa", b"b"],
        ),
        ({"headers": {}, "body": "abc", "chunk_sizes": [1, 2]}, [b"a", b"bc"]),
    ],
)
async def test_replays_recordings(
    mock: MockUpstream, response: dict[str, Any], chunks: list[bytes] | None
) -> None:
    hop = {"Connection": "x", "content-encoding": "br", "Content-Length": "1", "Transfer-Encoding": "chunked"}
    recorded = {**response, "status": 201, "headers": {**response["headers"], **hop, "X-Vendor": "v"}}
    body = base64.b64decode(response.get("body_b64", "")) or response["body"].encode()
    mock.script(ScriptedReply.from_recording({"id": "x", "response": recorded}))
    async with await Wire.open(mock) as wire:
        await wire.post(CHAT)
        status, headers = await wire.head()
        got = (
            [chunk async for chunk in wire.chunks()] if chunks else [await wire.reader.readexactly(len(body))]
        )
    assert status == 201
    assert headers["x-vendor"] == "v"
    assert "content-encoding" not in headers
    assert "connection" not in headers
    assert got == (chunks or [body])
    assert b"".join(got) == body


# As a process


async def test_is_driven_over_http(mock: MockUpstream) -> None:
    pushed = [
        {"status": 503, "body": {"error": "busy"}, "headers": {"X-A": "1"}},
        {"chunks": ["a", 0.001, {"b64": "/w=="}], "headers": [["X-B", "2"]]},
        {"response": {"status": 202, "headers": {}, "body": "recorded"}},
        {"body_b64": "/w==", "end": "close"},
    ]
    assert msgspec.json.decode((await ask(mock, pushed, "/_script"))[2]) == {"scripted": 4}
    status, headers, body = await ask(mock, CHAT)
    assert (status, headers["x-a"], body) == (503, "1", b'{"error":"busy"}')
    assert (await ask(mock, b"\xff"))[2] == b"a\xff"
    assert (await ask(mock, CHAT))[::2] == (202, b"recorded")
    assert (await ask(mock, CHAT))[2] == b"\xff"
    shown = msgspec.json.decode((await get(mock, "/_seen"))[2])
    assert len(shown) == 4
    assert msgspec.json.decode(shown[0]["body"]) == CHAT
    assert shown[1]["body_b64"] == "/w=="
    assert shown[0]["header_list"][0] == ["Host", "x"]
    assert (await get(mock, "/_seen", "DELETE"))[0] == 204
    assert msgspec.json.decode((await get(mock, "/_seen"))[2]) == []
    assert mock.seen == []


@pytest.mark.parametrize(
    "push", [b"{", [1], {"what": 1}, {"status": "x"}, {"response": {}}, {"chunks": [[]]}]
)
async def test_refuses_a_push_that_is_no_reply(mock: MockUpstream, push: object) -> None:
    assert (await ask(mock, push, "/_script"))[0] == 400
    assert mock.scripted == 0
    assert (await get(mock, "/_script"))[0] == 405


async def test_serve_runs_until_cancelled() -> None:
    started: asyncio.Future[MockUpstream] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(serve(started=started.set_result))
        mock = await started
        assert (await get(mock, "/v1/models"))[0] == 200
        running.cancel()
    assert mock.connections == 0


# The default vendor


async def test_answers_a_chat_the_same_way_each_time(mock: MockUpstream) -> None:
    first, second = await ask_json(mock, CHAT), await ask_json(mock, CHAT)
    assert first == second
    assert first["object"] == "chat.completion"
    assert first["choices"][0]["message"]["content"] == SAID
    assert first["choices"][0]["finish_reason"] == "stop"
    assert (first["usage"]["prompt_tokens"], first["usage"]["completion_tokens"]) == (3, 16)
    assert first["usage"]["total_tokens"] == 19


async def test_streams_the_same_words_with_usage_only_when_asked(mock: MockUpstream) -> None:
    plain = (await ask(mock, {**CHAT, "stream": True}))[2]
    assert said(plain) == SAID
    assert b"usage" not in plain
    assert payloads(plain)[-1] == b"[DONE]"
    asked = payloads(
        (await ask(mock, {**CHAT, "stream": True, "stream_options": {"include_usage": True}}))[2]
    )
    last = msgspec.json.decode(asked[-2])
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 19
    assert all(msgspec.json.decode(data)["usage"] is None for data in asked[:-2])


async def test_n_and_max_tokens_are_honoured(mock: MockUpstream) -> None:
    whole = await ask_json(mock, {**CHAT, "n": 2, "max_completion_tokens": 2})
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert {choice["finish_reason"] for choice in whole["choices"]} == {"length"}
    assert whole["usage"]["completion_tokens"] == 4
    stream = (await ask(mock, {**CHAT, "n": 2, "stream": True}))[2]
    assert said(stream) == f"{SAID}{SAID} (choice 2)"


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
        },
    },
}


async def test_calls_a_tool_when_the_user_asks_for_it(mock: MockUpstream) -> None:
    def chat(text: str, **fields: Any) -> dict[str, Any]:
        return {**CHAT, "messages": [{"role": "user", "content": text}], "tools": [TOOL], **fields}

    choice = (await ask_json(mock, chat("What is the weather in Rome?")))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    called = choice["message"]["tool_calls"][0]["function"]
    assert called["name"] == "get_weather"
    assert msgspec.json.decode(called["arguments"]) == {"city": "sample", "unit": "celsius"}
    assert "tool_calls" not in (await ask_json(mock, chat("Hello")))["choices"][0]["message"]
    assert (
        "tool_calls"
        not in (await ask_json(mock, chat("weather", tool_choice="none")))["choices"][0]["message"]
    )
    forced = {"type": "function", "function": {"name": "get_weather"}}
    stream = payloads((await ask(mock, chat("Hello", tool_choice=forced, stream=True)))[2])
    deltas = [msgspec.json.decode(data)["choices"][0]["delta"] for data in stream[:-1]]
    parts = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas if "tool_calls" in delta]
    assert msgspec.json.decode("".join(parts)) == {"city": "sample", "unit": "celsius"}
    answered = [{"role": "user", "content": "weather?"}, {"role": "tool", "content": "sunny"}]
    after = await ask_json(mock, chat("", messages=answered))
    assert after["choices"][0]["message"]["content"] == "The tool answered: sunny"


async def test_fills_a_json_schema(mock: MockUpstream) -> None:
    schema = {
        "properties": {
            "step": {"$ref": "#/$defs/step"},
            "list": {"type": "array", "items": {"type": "integer", "minimum": 3}},
            "any": {"anyOf": [{"type": ["null", "string"]}, {"type": "string"}]},
        },
        "$defs": {"step": {"type": "object", "properties": {"ok": {"const": 7}}}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = (await ask_json(mock, {**CHAT, "response_format": wanted}))["choices"][0]["message"]["content"]
    assert msgspec.json.decode(text) == {"step": {"ok": 7}, "list": [3], "any": None}
    text = (await ask_json(mock, {**CHAT, "response_format": {"type": "json_object"}}))["choices"][0]
    assert msgspec.json.decode(text["message"]["content"])["certain"] is True


async def test_completes_texts(mock: MockUpstream) -> None:
    path = "/v1/completions"
    whole = await ask_json(mock, {"model": "m", "prompt": ["a b", "c"]}, path)
    assert [choice["text"][:13] for choice in whole["choices"]] == ["You said: a b", "You said: c T"]
    assert whole["usage"]["prompt_tokens"] == 3
    stream = payloads((await ask(mock, {"model": "m", "prompt": "a b", "stream": True}, path))[2])
    texts = [msgspec.json.decode(data)["choices"][0]["text"] for data in stream[:-1]]
    assert "".join(texts) == whole["choices"][0]["text"]


async def test_embeds(mock: MockUpstream) -> None:
    body = {"model": "mock-embedding", "input": ["a b", "c"], "dimensions": 4}
    floats = await ask_json(mock, body, "/v1/embeddings")
    assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    vector = floats["data"][0]["embedding"]
    assert len(vector) == 4
    assert sum(value * value for value in vector) == pytest.approx(1)
    packed = await ask_json(mock, {**body, "encoding_format": "base64"}, "/v1/embeddings")
    assert len(base64.b64decode(packed["data"][1]["embedding"])) == 16
    tokens = await ask_json(mock, {**body, "input": [1, 2, 3]}, "/v1/embeddings")
    assert tokens["usage"]["prompt_tokens"] == 3


async def test_lists_models(mock: MockUpstream) -> None:
    listed = msgspec.json.decode((await get(mock, "/v1/models"))[2])
    assert [model["id"] for model in listed["data"]] == ["mock-small", "mock-large", "mock-embedding"]
    assert msgspec.json.decode((await get(mock, "/v1/models/mock-large"))[2])["id"] == "mock-large"
    assert (await get(mock, "/v1/models/none"))[0] == 404


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        (b"{", "/v1/chat/completions", 400),
        (b"\xff", "/v1/chat/completions", 400),
        (b"", "/v1/chat/completions", 400),
        ([], "/v1/chat/completions", 400),
        ({"model": "x"}, "/v1/chat/completions", 400),
        ({"model": "x", "messages": []}, "/v1/chat/completions", 400),
        ({**CHAT, "tools": [{"type": "function"}]}, "/v1/chat/completions", 400),
        ({"model": "x", "input": 3}, "/v1/embeddings", 400),
        (CHAT, "/v1/nowhere", 404),
        (CHAT, "/chat/completions", 404),
    ],
)
async def test_bad_requests_get_a_json_error(
    mock: MockUpstream, body: object, path: str, status: int
) -> None:
    got, headers, error = await ask(mock, body, path)
    assert got == status
    assert headers["content-type"] == "application/json"
    assert msgspec.json.decode(error)["error"]["message"]


async def test_the_wrong_method_is_405(mock: MockUpstream) -> None:
    assert (await get(mock, "/v1/chat/completions"))[0] == 405


async def test_official_client_reads_it(mock: MockUpstream) -> None:
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=mock.url, api_key="sk-x", max_retries=0) as client:
        whole = await client.chat.completions.create(**CHAT)
        assert whole.choices[0].message.content == SAID
        for model in ("mock-small", "fx-comments", "fx-crlf", "fx-bytes", "fx-close-delimited", "fx-1xx"):
            stream = await client.chat.completions.create(**{**CHAT, "model": model}, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == ("你好🙂" if model == "fx-bytes" else SAID)
        vectors = await client.embeddings.create(model="mock-embedding", input="a")
        assert len(vectors.data[0].embedding) == 16
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**{**CHAT, "model": "fx-429"})


# Faults


def test_the_table_lists_each_fault_once() -> None:
    table = fault_table()
    assert table.startswith("    model name")
    assert all(len(line) <= 106 for line in table.splitlines())
    names = re.findall(r"^    fx-(\S+)", table, re.MULTILINE)
    assert len(names) == len(set(names))
    plain = {name for name in names if not re.search("SECONDS|MS|URL|^400", name)}
    assert plain == {*faults._FAULTS, *faults._FIELDS, "huge", "no-usage"}
    seen = Seen(connection=1, received_at=0.0)
    for name in plain | {"599", "slow-1", "paced-0.5", "redirect-308-http://x"}:
        reply = faults.misbehave(f"fx-{name}", seen, ScriptedReply(chunks=[b"x\n\n"] * 9))
        assert b"No such fault" not in reply.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 503])
async def test_fx_status(mock: MockUpstream, status: int, stream: bool) -> None:
    got, headers, body = await ask(
        mock, fault(str(status), stream=stream), head="Authorization: Bearer sk-9\r\n"
    )
    assert got == status
    error = msgspec.json.decode(body)["error"]
    assert ("sk-9" in error["message"]) is (status == 401)
    assert headers.get("retry-after") == ("1" if status == 429 else None)


async def test_fx_whole_replies(mock: MockUpstream) -> None:
    status, headers, body = await ask(mock, fault("html-502"))
    assert (status, headers["content-type"]) == (502, "text/html")
    assert body.startswith(b"<html>")
    assert await ask(mock, fault("204", stream=False)) == await ask(mock, fault("204"))
    assert (await ask(mock, fault("redirect-http://e/x")))[:2] == (
        307,
        {"location": "http://e/x", "content-length": "0"},
    )
    assert (await ask(mock, fault("redirect-302-/y")))[0] == 302
    refused = await ask(mock, fault("refuse-stream-options", stream_options={"include_usage": True}))
    assert refused[0] == 400
    assert msgspec.json.decode(refused[2])["error"]["param"] == "stream_options"
    assert said((await ask(mock, fault("refuse-stream-options")))[2]) == SAID
    assert (await ask(mock, fault("nonsense")))[0] == 404


async def test_fx_in_the_path_for_other_dialects(mock: MockUpstream) -> None:
    assert (await ask(mock, {}, "/v1beta/models/fx-503:generateContent"))[0] == 503


async def test_fx_timing(mock: MockUpstream) -> None:
    start = time.monotonic()
    await ask(mock, fault("slow-0.1"))
    assert time.monotonic() - start >= 0.095
    for stream in (False, True):
        start = time.monotonic()
        status, _, body = await ask(mock, fault("paced-10", stream=stream))
        assert status == 200
        assert b"speaking" in body
        assert time.monotonic() - start >= 0.095


@pytest.mark.parametrize("stream", [False, True])
async def test_fx_silence(mock: MockUpstream, stream: bool) -> None:
    async with await Wire.open(mock) as wire, await Wire.open(mock) as other:
        await wire.post(fault("silent", stream=stream))
        await other.post(fault("stall", stream=stream))
        assert await wire.until_silence() == b""
        got = await other.until_silence()
    assert b"200 OK" in got
    assert got.count(b"data:") == (3 if stream else 0)
    await mock.wait_until(lambda: all(seen.closed_early for seen in mock.seen))


@pytest.mark.parametrize("stream", [False, True])
async def test_fx_endings_before_any_byte(mock: MockUpstream, stream: bool) -> None:
    async with await Wire.open(mock) as wire:
        await wire.post(fault("close", stream=stream))
        assert await wire.reader.read() == b""
    async with await Wire.open(mock) as wire:
        await wire.post(fault("reset", stream=stream))
        with pytest.raises(ConnectionResetError):
            await wire.reader.read()
    assert not any(seen.closed_early for seen in mock.seen)


@pytest.mark.parametrize("stream", [False, True])
async def test_fx_endings_in_the_middle(mock: MockUpstream, stream: bool) -> None:
    for name, ending in (
        ("reset-mid", ConnectionResetError),
        ("chunk-cut", asyncio.IncompleteReadError),
        ("short", asyncio.IncompleteReadError),
    ):
        with pytest.raises(ending) as caught:
            await ask(mock, fault(name, stream=stream))
        if isinstance(caught.value, asyncio.IncompleteReadError) and name == "short":
            assert caught.value.expected == len(caught.value.partial) + 100
    assert {seen.reply_status for seen in mock.seen} == {200}
    assert not any(seen.closed_early for seen in mock.seen)


async def test_fx_cut_streams_have_three_chunks(mock: MockUpstream) -> None:
    for name in ("reset-mid", "chunk-cut"):
        got: list[bytes] = []
        async with await Wire.open(mock) as wire:
            await wire.post(fault(name))
            await wire.head()
            with suppress(ConnectionResetError, asyncio.IncompleteReadError):
                async for chunk in wire.chunks():
                    got.append(chunk)  # noqa: PERF401 - what came before the break is kept
        assert len(got) == 3


async def test_fx_endless(mock: MockUpstream) -> None:
    for stream in (False, True):
        async with await Wire.open(mock) as wire:
            await wire.post(fault("endless", stream=stream))
            await wire.reader.readexactly(20_000)
    await mock.wait_until(lambda: all(seen.closed_early for seen in mock.seen))


async def test_fx_connection_reuse(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.post(fault("stale", stream=False))
        assert (await wire.reply())[0] == 200
        await wire.post(CHAT)
        assert await wire.reader.read() == b""
    assert [seen.reply_status for seen in mock.seen] == [200, None]
    async with await Wire.open(mock) as wire:
        await wire.post(fault("connection-close"))
        _, headers, body = await wire.reply()
        assert headers["connection"] == "close"
        assert said(body) == SAID
        assert await wire.reader.read() == b""
    async with await Wire.open(mock) as wire:
        await wire.post(fault("extra-bytes", stream=False))
        assert (await wire.reply())[0] == 200
        assert (await wire.reply())[2] == b"stray"


@pytest.mark.parametrize("name", ["close-delimited", "close-delimited-no-done", "no-done"])
async def test_fx_stream_ends(mock: MockUpstream, name: str) -> None:
    _, headers, body = await ask(mock, fault(name))
    assert said(body) == SAID
    assert (payloads(body)[-1] == b"[DONE]") is (name == "close-delimited")
    assert ("transfer-encoding" in headers) is (name == "no-done")
    assert b"speaking" in (await ask(mock, fault(name, stream=False)))[2]


async def test_fx_contents(mock: MockUpstream) -> None:
    usage = {"include_usage": True}
    assert b'"usage"' not in (await ask(mock, fault("no-usage", stream_options=usage)))[2]
    assert b'"usage"' not in (await ask(mock, fault("no-usage", stream=False)))[2]
    events = payloads((await ask(mock, fault("error-event")))[2])
    assert len(events) == 4
    assert msgspec.json.decode(events[-1])["error"]["code"] == "overloaded"
    status, _, body = await ask(mock, fault("error-event", stream=False))
    assert (status, list(msgspec.json.decode(body))) == (200, ["error"])
    events = payloads((await ask(mock, fault("bad-json")))[2])
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(events[3])
    assert events[-1] == b"[DONE]"
    assert (
        Seen(connection=1, received_at=0, body=(await ask(mock, fault("bad-json", stream=False)))[2]).json
        is None
    )
    huge = (await ask(mock, fault("huge")))[2]
    assert max(map(len, payloads(huge))) > 3 * 1024 * 1024


@pytest.mark.parametrize("name", ["crlf", "cr", "mixed-ends", "comments"])
async def test_fx_line_ends_keep_the_meaning(mock: MockUpstream, name: str) -> None:
    body = (await ask(mock, fault(name)))[2]
    usual = (await ask(mock, {**CHAT, "stream": True}))[2]
    assert said(body) == SAID
    assert body != usual
    assert (b"\n" in body.replace(b"\r\n", b"")) is (name in {"mixed-ends", "comments"})
    assert (b"\r" in body) is (name != "comments")


async def test_fx_bytes_comes_byte_by_byte(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.post(fault("bytes"))
        await wire.head()
        chunks = [chunk async for chunk in wire.chunks()]
    assert {len(chunk) for chunk in chunks} == {1}
    assert said(b"".join(chunks)) == "你好🙂"
    assert "你好🙂" in (await ask(mock, fault("bytes", stream=False)))[2].decode()


async def test_fx_gzip(mock: MockUpstream) -> None:
    for stream in (False, True):
        _, headers, body = await ask(mock, fault("gzip", stream=stream))
        assert headers["content-encoding"] == "gzip"
        assert b"speaking" in gzip.decompress(body)
        status, _, body = await ask(mock, fault("gzip-cut", stream=stream))
        assert status == 200
        with pytest.raises(EOFError):
            gzip.decompress(body)
        assert zlib.decompressobj(wbits=31).decompress(body)


async def test_fx_headers(mock: MockUpstream) -> None:
    assert (await ask(mock, fault("bad-header")))[1]["x-bad"] == "a\x01b"
    assert len((await ask(mock, fault("big-header")))[1]["x-big"]) == 20 * 1024
    _, headers, body = await ask(mock, fault("hop-headers"), head="Authorization: Bearer sk-7\r\n")
    assert headers["connection"] == "X-Foo"
    assert headers["authorization"] == "Bearer sk-7"
    assert headers["x-goog-api-key"] == "sk-7"
    assert {"x-foo", "keep-alive", "proxy-authenticate", "alt-svc", "set-cookie", "server"} < headers.keys()
    assert said(body) == SAID


async def test_fx_1xx_comes_before_the_reply(mock: MockUpstream) -> None:
    async with await Wire.open(mock) as wire:
        await wire.post(fault("1xx"))
        assert [(await wire.head())[0] for _ in range(2)] == [100, 103]
        status, _, body = await wire.reply()
        assert status == 200
        assert said(body) == SAID


@pytest.mark.parametrize(("dimensions", "status"), [(-1, 400), (0, 400), (1, 200), (4096, 200), (4097, 400)])
async def test_the_size_of_an_embedding_has_bounds(mock: MockUpstream, dimensions: int, status: int) -> None:
    body = {"model": "mock-embedding", "input": "x", "dimensions": dimensions}
    async with await Wire.open(mock) as wire:
        await wire.post(body, "/v1/embeddings")
        assert (await wire.reader.readline()).split()[1] == b"%d" % status


async def test_nothing_is_written_to_a_client_that_left(
    mock: MockUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logs each write after a failed one; a stream without pauses would be all written."""
    chunks = [b"x" * 1000] * 10_000
    mock.reply(chunks=chunks)
    async with await Wire.open(mock) as wire:
        sock: socket.socket = wire.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await wire.post(CHAT)
    await mock.wait_until(lambda: mock.seen and mock.seen[0].closed_early and not mock.connections)
    assert "socket.send() raised exception" not in caplog.text


def test_the_command_says_that_its_port_is_taken_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(cli.main, ["mock", "--port", str(port)])
    assert result.exit_code == 1
    assert result.output == f"raven-proxy: mock: 127.0.0.1:{port}: Address already in use\n"


def test_the_command_shows_the_table_of_faults() -> None:
    shown = " ".join(CliRunner().invoke(cli.main, ["mock", "--help"]).output.split())
    for line in fault_table().splitlines():
        assert " ".join(line.split()) in shown
