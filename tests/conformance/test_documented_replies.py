"""What clients get, whole and streamed, as the five published systems document it (contract 2.3 and 2.4)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, REQUEST_ID, Absent, Case, cases, check, fits, stream_of


def _finished(word: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": word}
    return {"json": {"id": "x", "object": "chat.completion", "choices": [choice]}}


REPLIES = [
    Case(
        mark="RR",
        what="a finish reason of the vendor's own",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("insufficient_system_resource"),
        reply={
            "choices": [{"finish_reason": "error", "native_finish_reason": "insufficient_system_resource"}]
        },
    ),
    Case(
        mark="RR",
        what="a finish reason of another dialect",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("end_turn"),
        reply={"choices": [{"finish_reason": "stop", "native_finish_reason": "end_turn"}]},
    ),
    Case(
        mark="RR",
        what="a standard finish reason",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("length"),
        reply={"choices": [{"finish_reason": "length", "native_finish_reason": Absent}]},
    ),
    Case(
        mark="R",
        what="a request id on every error",
        path="/v1/none",
        send=CHAT,
        status=404,
        reply={"error": {"request_id": REQUEST_ID}},
        reply_headers={"X-Request-ID": REQUEST_ID},
    ),
    Case(
        mark="R",
        what="a request id on health",
        method="GET",
        path="/health/live",
        reply_headers={"X-Request-ID": REQUEST_ID},
    ),
    Case(
        mark="PK",
        what="an error under a status of 200 is the vendor's own",
        send=CHAT,
        script={"json": {"error": {"message": "Busy", "code": 502}}},
        reply={"error": {"message": "Busy", "code": 502, "request_id": Absent}},
    ),
    Case(
        mark="R",
        what="no header of the vendor's account",
        send=CHAT,
        reply_headers={"X-RateLimit-Limit": Absent},
        script=_finished("stop") | {"headers": {"X-RateLimit-Limit": "7", "Set-Cookie": "a=b"}},
    ),
]


@cases(*REPLIES)
async def test_a_documented_reply(case: Case, documented: VendorStarter, upstream: MockUpstream) -> None:
    """The client gets the documented words and headers, whatever the vendor calls them."""
    await check(case, await documented(), upstream)


_STREAM = CHAT | {"stream": True}
_ASKING = _STREAM | {"stream_options": {"include_usage": True}}
_CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": dict}]}


async def _read(gateway: RunningGateway, payload: Any, path: str = "/v1/chat/completions") -> list[Any]:
    async with gateway.client.post(path, json=payload) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        fits({"X-Request-ID": REQUEST_ID, "X-Raven-Latency-Ms": ...}, dict(reply.headers))
        return stream_of(await reply.read())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions"])
async def test_R_RR_AV_RX_a_stream(path: str, documented: VendorStarter) -> None:
    """R RR AV RX: frames of chunks, the last with a finish reason, then [DONE]; no usage unless asked for."""
    *chunks, done = await _read(await documented(), _STREAM, path)
    assert done == "[DONE]"
    for chunk in chunks:
        fits(_CHUNK, chunk)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    assert not any(chunk.get("usage") for chunk in chunks)


async def test_RR_a_stream_with_usage(documented: VendorStarter) -> None:
    """RR: the final chunk carries the usage if the client asked for it."""
    *_, last, done = await _read(await documented(), _ASKING)
    assert done == "[DONE]"
    usage = {"prompt_tokens": int, "completion_tokens": int, "total_tokens": int}
    fits({"choices": [], "usage": usage}, last)


async def test_RR_a_stream_with_a_finish_reason_of_its_own(
    documented: VendorStarter, upstream: MockUpstream
) -> None:
    """RR: in a stream, too, the finish reason is one of five words, with the vendor's beside it."""
    gateway = await documented()
    choices: list[Any] = [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]
    last = [{"index": 0, "delta": {}, "finish_reason": "max_tokens"}]
    upstream.reply(events=[{"choices": choices}, {"choices": last}])
    first, final, done = await _read(gateway, _STREAM | {"model": "deepseek-chat"})
    assert (first, done) == ({"choices": choices}, "[DONE]")
    fits({"choices": [{"finish_reason": "length", "native_finish_reason": "max_tokens"}]}, final)


@pytest.mark.parametrize("model", ["gpt-4o", "demo/demo-chat"])
async def test_R_RX_frames_are_flushed_as_they_come(model: str, documented: VendorStarter) -> None:
    """R RX: the first frame is there long before the last one was made."""
    gateway = await documented(config={"plugin": {"demo": {"delay_s": 0.05}}})
    name = "fx-paced-50" if model == "gpt-4o" else model
    async with gateway.client.post("/v1/chat/completions", json=_STREAM | {"model": name}) as reply:
        arrivals = [asyncio.get_running_loop().time() async for _ in reply.content.iter_any()]
    assert len(arrivals) > 5
    assert arrivals[-1] - arrivals[0] > 0.2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/openai/chat/completions"])
@pytest.mark.parametrize("fault", ["reset-mid", "chunk-cut", "no-done", "error-event"])
async def test_R_PK_an_upstream_that_dies(path: str, fault: str, documented: VendorStarter) -> None:
    """R PK: a stream that breaks ends with an error event and without [DONE]."""
    gateway = await documented()
    pieces = []
    async with gateway.client.post(path, json=_STREAM | {"model": f"fx-{fault}"}) as reply:
        with contextlib.suppress(aiohttp.ClientPayloadError):  # the connection is cut after it
            async for piece in reply.content.iter_any():
                pieces.append(piece)  # noqa: PERF401 - what came before the cut is kept
    *_, last = stream_of(b"".join(pieces))
    fits({"error": {"type": str, "message": str, "code": str}}, last)
    assert b"[DONE]" not in b"".join(pieces)


@pytest.mark.parametrize("fault", ["crlf", "cr", "comments", "bytes", "huge", "mixed-ends"])
async def test_PK_a_stream_is_untouched(
    fault: str, documented: VendorStarter, upstream: MockUpstream
) -> None:
    """PK: comments, event lines, line ends, split characters and a line of 3 MiB pass byte for byte."""
    gateway = await documented()
    direct = gateway.client.post(f"{upstream.url}/chat/completions", json=_ASKING | {"model": f"fx-{fault}"})
    async with direct as reply:
        expected = await reply.read()
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        async with gateway.client.post(path, json=_ASKING | {"model": f"fx-{fault}"}) as reply:
            assert await reply.read() == expected


async def test_R_a_client_that_leaves(documented: VendorStarter, upstream: MockUpstream) -> None:
    """R: a client that leaves stops the provider at once, and what was produced is metered."""
    gateway = await documented()
    async with gateway.client.post("/v1/chat/completions", json=_STREAM | {"model": "fx-endless"}) as reply:
        await reply.content.readany()
    await upstream.wait_until(lambda: upstream.seen[0].closed_early)
    await upstream.wait_until(lambda: not gateway.gateway.in_flight)
    await asyncio.sleep(0.05)
    await gateway.gateway.storage.flush()
    row = await gateway.gateway.storage.fetch_one("SELECT * FROM exchanges")
    fits({"outcome": "cancelled", "estimated": 1, "stream": 1}, row)
    assert row is not None
    assert row["completion_tokens"] > 0


async def test_R_an_idle_stream_gets_comments(documented: VendorStarter) -> None:
    """R: an idle stream may be kept alive by comments, which no reader of events sees."""
    gateway = await documented(config={"keepalive_s": 0.1})
    async with gateway.client.post("/v1/chat/completions", json=_STREAM | {"model": "fx-paced-250"}) as reply:
        assert await reply.content.readuntil(b"\n\n") == b": keep-alive\n\n"
