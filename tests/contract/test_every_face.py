"""Every face runs the same pipeline (contract section 2.1): each hook on each face, streamed and not.

The rows below are the requests of the faces that go upstream; a face without a row fails the first test.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Principal, Refused, Stage, hookimpl
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

ASK = [{"role": "user", "content": "Hi"}]
MODEL = {"model": "mock/any"}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmock/any\r\n'
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
    b"Content-Type: audio/mpeg\r\n\r\nABC\r\n--b--\r\n"
)
MULTIPART = "multipart/form-data; boundary=b"
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
DELTA = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}
STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
CHAT_REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [MESSAGE],
    "usage": USAGE,
}
TEXT = {"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}
TEXT_REPLY = {
    "id": "c",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [TEXT],
    "usage": USAGE,
}
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5]}
PICTURES = {"created": 1, "data": [{"b64_json": "AA=="}]}
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}  # fmt: skip


def events(*payloads: Any, named: bool = False, done: bool = True) -> ScriptedReply:
    if not named:
        return ScriptedReply.of_events(payloads, done=done)
    chunks: list[Any] = [
        b"event: %s\ndata: %s\n\n" % (p["type"].encode(), msgspec.json.encode(p)) for p in payloads
    ]
    return ScriptedReply(chunks=chunks, headers={"Content-Type": "text/event-stream"})


def whole(value: Any) -> ScriptedReply:
    return ScriptedReply.of_json(value)


STREAMED_CHAT = events(
    *({**CHUNK, "choices": [c]} for c in (DELTA, STOP)), {**CHUNK, "choices": [], "usage": USAGE}
)
RESPONSE_STREAM = events(
    *({"type": f"response.{word}", "response": RESPONSE} for word in ("created", "completed")), named=True
)
# (path, request, reply): the request is JSON, or a form.
ROWS: list[tuple[str, Any, ScriptedReply]] = [
    ("/v1/chat/completions", MODEL | {"messages": ASK}, whole(CHAT_REPLY)),
    ("/v1/chat/completions", MODEL | {"messages": ASK, "stream": True}, STREAMED_CHAT),
    ("/v1/completions", MODEL | {"prompt": "Hi"}, whole(TEXT_REPLY)),
    ("/v1/completions", MODEL | {"prompt": "Hi", "stream": True}, events(TEXT_REPLY)),
    ("/v1/embeddings", MODEL | {"input": "Hi"},
     whole({"object": "list", "data": [VECTOR], "model": "m", "usage": USAGE})),
    ("/v1/responses", MODEL | {"input": "Hi"}, whole(RESPONSE)),
    ("/v1/responses", MODEL | {"input": "Hi", "stream": True}, RESPONSE_STREAM),
    ("/v1/messages", MODEL | {"messages": ASK, "max_tokens": 9}, whole(CHAT_REPLY)),
    ("/v1/messages", MODEL | {"messages": ASK, "max_tokens": 9, "stream": True}, STREAMED_CHAT),
    ("/v1/images/generations", MODEL | {"prompt": "a raven"}, whole(PICTURES)),
    ("/v1/images/edits", FORM, whole(PICTURES)),
    ("/v1/images/variations", FORM, whole(PICTURES)),
    ("/v1/audio/speech", MODEL | {"input": "Hi", "voice": "alloy"},
     ScriptedReply(chunks=[b"ID3", b"\x00\x01"], headers={"Content-Type": "audio/mpeg"})),
    ("/v1/audio/transcriptions", FORM, whole({"text": "Hi"})),
    ("/v1/audio/translations", FORM, whole({"text": "Hi"})),
    ("/v1/moderations", MODEL | {"input": "Hi"}, whole({"id": "m", "model": "m", "results": []})),
    ("/v1/rerank", {"model": "rank/any", "query": "q", "documents": ["a"]},
     whole({"id": "r", "results": [{"index": 0, "relevance_score": 0.5}]})),
    ("/v1/files", FORM, whole({"id": "file-1", "object": "file", "bytes": 3, "purpose": "batch"})),
]  # fmt: skip
# Faces that the rows above make possible: they need something that is stored first, or answer by themselves.
ELSEWHERE = re.compile(r"^/v1/(files|batches|uploads|responses)(/.*)?$|^/v1/messages/count_tokens$")
HOOKS = ("authenticate", "check_request", "answer", "choose_upstreams", "provide_credential", "before_send")


class Witness:
    """Takes part in every hook; `refusing` says no in one of them."""

    def __init__(self, refusing: str = "") -> None:
        self.called: list[str] = []
        self._refusing = refusing
        self.bytes = 0

    def _note(self, hook: str) -> None:
        self.called.append(hook)
        if hook == self._refusing:
            raise Refused("Not today.", status=403, code="guardrail_blocked")

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        self._note("authenticate")
        sent = exchange.headers.get("authorization", "")
        return ADMINISTRATOR if sent == f"Bearer {ADMIN_KEY}" else None

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        self._note("check_request")

    @hookimpl
    async def answer(self, exchange: Exchange) -> None:
        self._note("answer")

    @hookimpl
    async def choose_upstreams(self, exchange: Exchange) -> None:
        self._note("choose_upstreams")

    @hookimpl
    async def provide_credential(self, exchange: Exchange) -> None:
        self._note("provide_credential")

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        self._note("before_send")

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage:
        self._note("open_stage")
        return self

    def feed(self, data: bytes) -> bytes:
        self.bytes += len(data)
        return data

    def close(self) -> bytes:
        self.called.append("close")
        return b""

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        self._note("check_reply")

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.called.append("finish_exchange")


async def start(raven: GatewayStarter, upstream: MockUpstream, witness: Witness) -> RunningGateway:
    rank = {"name": "rank", "provider": "cohere", "base_url": upstream.origin}
    key = {"key": {"env": "FACE_KEY"}}
    mock = {"name": "mock", "provider": "openai", "base_url": upstream.url}
    base = ("auth-keys", "openai", "anthropic", "cohere")
    return await raven([witness], upstreams=[mock | key, rank | key], base=base)


async def post(gateway: RunningGateway, path: str, request: Any) -> tuple[int, bytes]:
    kind = MULTIPART if isinstance(request, bytes) else "application/json"
    body = request if isinstance(request, bytes) else msgspec.json.encode(request)
    async with gateway.client.post(path, data=body, headers={"Content-Type": kind}) as reply:
        return reply.status, await reply.read()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_KEY", "sk-face-test")


def name(row: tuple[str, Any, ScriptedReply]) -> str:
    streamed = isinstance(row[1], dict) and row[1].get("stream")
    return f"{row[0]}{'-stream' if streamed else ''}"


async def test_no_face_is_left_out(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """The live route table has no face that goes upstream and is not in the rows."""
    gateway = await start(raven, upstream, Witness())
    rows = {path for path, _, _ in ROWS}
    live = {face.path for face in gateway.gateway.pipeline.faces() if face.serve is None}
    assert {path for path in live - rows if not ELSEWHERE.match(path)} == set()
    assert rows <= live


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("row", ROWS, ids=name)
async def test_every_hook_is_called(
    row: Any, prefix: str, raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """In their order, once each, and the stage sees all that the client gets."""
    path, request, scripted = row
    witness = Witness()
    gateway = await start(raven, upstream, witness)
    upstream.script(scripted)
    status, body = await post(gateway, prefix + path, request)
    assert status == 200, body
    assert witness.bytes == len(body)
    await upstream.wait_until(lambda: witness.called[-1:] == ["finish_exchange"])
    is_stream = isinstance(request, dict) and request.get("stream")
    is_json = not is_stream and path != "/v1/audio/speech"
    after = ["open_stage", "close", *["check_reply"] * is_json, "finish_exchange"]
    assert witness.called == [*HOOKS, *after]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("row", ROWS, ids=name)
async def test_every_gate_can_refuse(
    row: Any, hook: str, raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """And nothing went upstream then."""
    path, request, scripted = row
    witness = Witness(refusing=hook)
    gateway = await start(raven, upstream, witness)
    upstream.script(scripted)
    status, body = await post(gateway, path, request)
    assert (status, b"Not today." in body) == (403, True)
    assert upstream.seen == []


@pytest.mark.parametrize("row", ROWS, ids=name)
async def test_every_face_is_metered(row: Any, raven: GatewayStarter, upstream: MockUpstream) -> None:
    """There is an outcome and a place, and usage wherever the reply tells any."""
    path, request, scripted = row
    ended: list[Exchange] = []

    class Ledger(Witness):
        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            ended.append(exchange)

    gateway = await start(raven, upstream, Ledger())
    upstream.script(scripted)
    await post(gateway, path, request)
    await upstream.wait_until(lambda: bool(ended))
    [exchange] = ended
    assert (exchange.outcome, exchange.status, len(exchange.attempts)) == ("completed", 200, 1)
    if any(word in path for word in ("chat", "completions", "embeddings", "responses", "messages")):
        assert exchange.usage is not None
        assert exchange.usage.total_tokens == 2
        assert not exchange.usage.estimated
