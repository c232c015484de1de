"""What guardrails may cost: time, memory, and what the log may hold."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError

from raven_proxy.mock import MockUpstream

from . import vendors
from .test_replies import read, script
from .test_requests import CARD, CARD_NUMBER, KEY, SECRET, WORD, rules, said
from .test_streams import REDACT, make_stage


def test_what_waits_is_bounded() -> None:
    """Other channels pile up behind one that waits: up to 16 frames, or `max_held_bytes`."""
    stage = make_stage("openai.chat", vendors.EVENTS, REDACT)
    fed = len(data := vendors.sse({"choices": [{"index": 0, "delta": {"reasoning_content": "so falc"}}]}))
    given, most = len(stage.feed(data)), 0
    for size in [100] * 40 + [50_000] * 20:
        data = vendors.sse({"choices": [{"index": 0, "delta": {"content": "x. " * size}}]})
        given += len(stage.feed(data))
        fed += len(data)
        most = max(most, fed - given)
    assert most <= 2**18


def test_one_text_waits_for_a_bounded_number_of_characters() -> None:
    """A match that never ends holds back `hold_back` characters, and what was released is forgotten."""
    stage = make_stage("openai.chat", vendors.EVENTS, REDACT, cap=64)
    fed = given = 0
    for _ in range(3000):
        fed += 10
        out = stage.feed(vendors.sse({"choices": [{"index": 0, "delta": {"content": "1234567890"}}]}))
        given += sum(len(text) for text in vendors.spelled(out, vendors.EVENTS)[:1]) if out else 0
        assert fed - given <= 64 + 10
    (channel,) = stage._hold.channels.values()
    assert len(channel._text) < 64 * 5


async def test_T124_a_long_text_keeps_nobody_waiting(raven: Any, upstream: MockUpstream) -> None:
    """Patterns that take other engines years, over a megabyte: it ends, and others are served meanwhile."""
    patterns = ["(a+)+$x", "(a|aa)+$y", "(.*a){20}z"]
    evil = {"name": "evil", "type": "custom_regex", "config": {"patterns": patterns}}
    gateway = await raven(upstreams=[upstream], base=("guardrails", "openai"), config=rules(evil))
    waits: list[float] = []

    async def ask_others(done: asyncio.Event) -> None:
        while not done.is_set():
            began = time.perf_counter()
            async with gateway.client.get("/health/live") as reply:
                assert reply.status == 200
            waits.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()
        _ = group.create_task(ask_others(done))
        async with gateway.client.post("/v1/chat/completions", json=said("a" * 900_000)) as reply:
            assert reply.status == 200
        done.set()
    assert waits
    assert max(waits) < 2.0


async def test_deep_nesting_is_a_400_or_judged(raven: Any, upstream: MockUpstream) -> None:
    """Never a 500, and never unjudged."""
    gateway = await raven(upstreams=[upstream], base=("guardrails", "openai"), config=rules(WORD))
    for depth in (50, 200, 400, 900):
        body = said("hi", metadata=None)
        text = msgspec.json.encode(body).replace(
            b'"metadata":null', b'"metadata":' + b'{"a":' * depth + b'"falcon"' + b"}" * depth
        )
        headers = {"Content-Type": "application/json"}
        async with gateway.client.post("/v1/chat/completions", data=text, headers=headers) as reply:
            assert reply.status in (400, 403), (depth, await reply.text())
    assert upstream.seen == []


async def test_T66_the_log_holds_no_text(
    raven: Any, upstream: MockUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    """Which guardrail found how much, and where; not what."""
    gateway = await raven(
        upstreams=[upstream],
        base=("guardrails", "openai"),
        config=rules(WORD, CARD, SECRET, action="redact") | {"log_level": "debug"},
    )
    text = f"the falcon {CARD_NUMBER} {KEY}"
    async with gateway.client.post("/v1/chat/completions", json=said(text)) as reply:
        assert reply.status == 200
    await gateway.service.stop(grace_s=0.0)
    logged = capfd.readouterr().err
    for needle in ("falcon", CARD_NUMBER, KEY):
        assert needle not in logged


async def test_T73_a_stream_that_was_cut_is_paid_for(raven: Any, upstream: MockUpstream) -> None:
    """What the provider produced until then is on the books."""
    gateway = await raven(
        upstreams=[upstream],
        base=("meter", "guardrails", "openai"),
        config=rules(WORD, applies_to="output"),
    )
    script(
        upstream,
        vendors.EVENTS,
        vendors.chat(["Some words. "] * 20 + ["A fal", "con. "] + ["More. "] * 9),
        900,
    )
    _ = await read(gateway, "/v1/chat/completions", said("hi", stream=True))

    async def rows() -> Any:
        async with gateway.client.get("/logs") as reply:
            return await reply.json()

    async with asyncio.timeout(5):
        while not (found := await rows()):
            await asyncio.sleep(0.02)
    assert found[0]["promptTokens"] > 0


async def test_vectors_are_no_texts(raven: Any, upstream: MockUpstream) -> None:
    """A reply of numbers, or of base64, passes byte for byte, however large."""
    gateway = await raven(
        upstreams=[upstream], base=("guardrails", "openai"), config=rules(CARD, applies_to="output")
    )
    vectors: list[Any] = [[0.25] * 300_000, "+41111111" * 8000]
    for vector in vectors:
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        whole = {
            "object": "list",
            "data": data,
            "model": "m",
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        upstream.reply(json=whole)
        async with gateway.client.post("/v1/embeddings", json={"model": "mock/any", "input": "hi"}) as reply:
            assert reply.status == 200
            assert await reply.read() == msgspec.json.encode(whole)


@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_taken_out_is_kept_nowhere(
    raven: Any, upstream: MockUpstream, action: str, stream: bool
) -> None:
    """Who keeps bodies, or replies for a repeat, keeps what the client got."""
    config = rules(WORD, action=action, applies_to="output")
    config["plugin"]["bodies"] = {"keep": "all"}
    gateway = await raven(
        upstreams=[upstream], base=("idempotency", "guardrails", "openai", "bodies"), config=config
    )
    if stream:
        script(upstream, vendors.EVENTS, vendors.chat(["a fal", "con", " flies"]))
    else:
        message = {"role": "assistant", "content": "a falcon flies"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        upstream.reply(
            json={"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )
    body, headers = said("hi", stream=stream), {"Idempotency-Key": "k1"}
    async with gateway.client.post("/v1/chat/completions", json=body, headers=headers) as reply:
        name = reply.headers["X-Request-ID"]
        with contextlib.suppress(ClientPayloadError):
            assert b"falcon" not in await reply.read()

    async def look() -> Any:
        async with gateway.client.get(f"/logs/bodies/{name}") as reply:
            return reply.status, await reply.json()

    async with asyncio.timeout(5):
        while (found := await look())[0] != 200:
            await asyncio.sleep(0.02)
    assert "falcon" not in str(found[1])
    assert ("[REDACTED]" in str(found[1])) == (action == "redact")
    async with gateway.client.post("/v1/chat/completions", json=body, headers=headers) as reply:
        with contextlib.suppress(ClientPayloadError):
            assert b"falcon" not in await reply.read()
