"""T92: a slot is held until the last byte on every face, streamed or not, and given back exactly once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from aiohttp import ClientError
from raven_limits import admission

from raven_proxy import GatewayError
from raven_proxy.counters import LocalCounters
from raven_proxy.harness import RunningGateway
from raven_proxy.mock import ScriptedReply, Seen
from raven_proxy.mock.vendor import answer

from .conftest import CHAT, Site, Start, caller, question

ASK = {"model": "mock/m", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = ASK | {"max_tokens": 9}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmock/any\r\n'
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nABC\r\n--b--\r\n'
)
STREAM = {"stream": True}
TEXT = {"model": "mock/m", "prompt": "Hi"}
INPUT = {"model": "mock/m", "input": "Hi"}
# (path, request)
ROWS: list[tuple[str, Any]] = [
    (CHAT, ASK), (CHAT, ASK | STREAM), ("/v1/completions", TEXT), ("/v1/completions", TEXT | STREAM),
    ("/v1/messages", MESSAGE), ("/v1/messages", MESSAGE | STREAM),
    ("/v1/responses", INPUT), ("/v1/responses", INPUT | STREAM), ("/v1/embeddings", INPUT),
    ("/v1/openai/chat/completions", ASK | STREAM), ("/v1/openai/some/thing", {"model": "m"}),
    ("/v1/images/generations", TEXT), ("/v1/images/edits", FORM), ("/v1/moderations", INPUT),
    ("/v1/audio/speech", INPUT | {"voice": "alloy"}), ("/v1/audio/transcriptions", FORM), ("/v1/files", FORM),
]  # fmt: skip
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}  # fmt: skip
BASE = ("limits", "openai", "anthropic")
KEY = "limits:slots:key:key_test"


class Tap:
    """An upstream that sends a part of its reply, and the rest when it is told to."""

    def __init__(self, site: Site) -> None:
        self.site = site
        site.upstream.handler = self.handle

    async def handle(self, seen: Seen) -> ScriptedReply | None:
        usual = ScriptedReply.of_json({"id": "x", "object": "list", "data": [], "results": [], "text": "Hi"})
        if seen.path.endswith(("/completions", "/embeddings")):
            usual = answer(seen)
        if seen.path.endswith("/responses"):
            usual = ScriptedReply.of_json(RESPONSE)
            if seen.json.get("stream"):
                event = msgspec.json.encode({"type": "response.completed", "response": RESPONSE})
                body = b"event: response.completed\ndata: %b\n\n" % event
                usual = ScriptedReply(body=body, headers={"Content-Type": "text/event-stream"})
        if seen.path.endswith("/speech"):
            usual = ScriptedReply(body=b"ID3.....", headers={"Content-Type": "audio/mpeg"})
        payload = usual.payload
        chunks: list[bytes | float] = [payload[:-4], 0.25, payload[-4:]]
        return ScriptedReply(status=usual.status, headers=usual.headers, chunks=chunks)

    async def held(self) -> int:
        return await self.site.gateway.gateway.counters.held(KEY)


async def send(gateway: RunningGateway, path: str, request: Any) -> tuple[int, bytes]:
    is_form = isinstance(request, bytes)
    kind = "multipart/form-data; boundary=b" if is_form else "application/json"
    body = request if is_form else msgspec.json.encode(request)
    async with gateway.client.post(path, data=body, headers={"Content-Type": kind}) as got:
        return got.status, await got.read()


def name(row: tuple[str, Any]) -> str:
    return f"{row[0]}{'-stream' if isinstance(row[1], dict) and row[1].get('stream') else ''}"


@pytest.mark.parametrize("row", ROWS, ids=name)
async def test_t92_a_slot_is_held_until_the_last_byte(row: Any, site: Start) -> None:
    """While the reply is on its way a second request is a 429 with Retry-After 1; after it there is room."""
    path, request = row
    here = await site({"max_concurrency": 1, "rate_limit_tpm": 10**6}, base=BASE)
    tap = Tap(here)
    first = here.gateway.gateway.tasks.spawn(send(here.gateway, path, request), "first")
    await here.upstream.wait_until(lambda: here.upstream.seen)
    await asyncio.sleep(0.1)
    assert await tap.held() == 1
    refused = await here.chat()
    assert (refused.status, refused.code, refused.retry_after) == (429, "concurrency_limit_exceeded", 1)
    assert len(here.upstream.seen) == 1
    status, body = await first
    assert (status, await tap.held()) == (200, 0), body
    assert (await send(here.gateway, path, request))[0] == 200
    assert await tap.held() == 0


@pytest.mark.parametrize(
    "model", ["fx-500", "fx-close", "fx-reset-mid", "fx-short", "fx-no-done", "fx-error-event", "fx-bad-json"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_gives_the_slot_back(model: str, stream: bool, site: Start) -> None:
    """However it ends, it is back when the client knows."""
    here = await site({"max_concurrency": 1})
    for _ in range(3):
        with contextlib.suppress(ClientError):  # a cut connection is what some of them are about
            await here.chat(model=f"mock/{model}", stream=stream)
        await here.upstream.wait_until(lambda: not here.gateway.gateway.in_flight)
        assert await here.gateway.gateway.counters.held(KEY) == 0


@pytest.mark.parametrize("on_disconnect", ["cancel", "drain"])
async def test_a_client_that_leaves_gives_its_slot_back(on_disconnect: str, site: Start) -> None:
    """At once, or when the provider's answer has been read to its end."""
    principal = msgspec.structs.replace(caller(max_concurrency=1), on_disconnect=on_disconnect)
    here = await site(base=BASE, principal=principal)
    tap = Tap(here)
    async with here.gateway.client.post(CHAT, json=question(stream=True)) as got:
        await got.content.readany()
        got.close()
    await asyncio.sleep(0.05)
    assert await tap.held() == (1 if on_disconnect == "drain" else 0)
    await here.upstream.wait_until(lambda: not here.gateway.gateway.in_flight)
    assert await tap.held() == 0


async def test_no_more_than_the_limit_at_once(site: Start) -> None:
    """Of fifty at once three run; every one that was refused finds room later."""
    here = await site({"max_concurrency": 3}, base=BASE)
    Tap(here)
    answers = await asyncio.gather(*(here.chat(stream=True) for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 47
    assert (await here.chat()).status == 200


async def test_what_cannot_be_given_back_now_is_given_back_later(
    site: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters that somebody else holds for a moment keep no slot for ever, and fail no reply."""
    monkeypatch.setattr(admission, "_PAUSE_S", 0.01)
    here = await site({"max_concurrency": 1, "rate_limit_tpm": 10_000})
    counters = here.gateway.gateway.counters
    assert isinstance(counters, LocalCounters)
    settle, failures = counters.settle, [1, 2, 3]

    async def failing(*arguments: Any) -> None:
        if failures:
            failures.pop()
            raise GatewayError("busy", status=503)
        await settle(*arguments)

    monkeypatch.setattr(counters, "settle", failing)
    assert (await here.chat()).status == 200
    assert await counters.held(KEY) == 1
    await here.upstream.wait_until(lambda: not failures and not counters._accounts)
    assert (await here.chat()).tokens_left > 9_000
