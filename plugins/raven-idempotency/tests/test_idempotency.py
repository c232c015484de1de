"""A request that is sent again, through a real gateway: the same bytes, and nobody is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy import Exchange, Outcome, Principal, Refused, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

from .caller import CHAT, Answer, question, reply, stream

NOT_OF_BEFORE = {"x-request-id", "date", "x-raven-latency-ms", "idempotent-replayed", "original-request"}
FRAMING = {"content-length", "transfer-encoding"}


def same(first: Answer, again: Answer) -> None:
    """Assert that a repeat is the first reply: status, bytes, and every header that is not its own."""
    assert (again.status, again.body) == (first.status, first.body)
    own = NOT_OF_BEFORE | FRAMING
    assert {n: v for n, v in again.headers.items() if n not in own} == {
        n: v for n, v in first.headers.items() if n not in own
    }
    assert not first.replayed
    assert again.replayed
    assert again.headers["original-request"] == first.headers["x-request-id"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_repeat_gets_the_same_bytes_and_nobody_is_asked(start: Any, upstream: Any) -> None:
    """Status, headers that matter, body; with `Idempotent-Replayed: true`, as often as one likes."""
    caller = await start()
    upstream.script(reply(headers={"openai-version": "2020-10-01", "X-Ratelimit-Remaining-Requests": "1"}))
    first = await caller.chat()
    assert (first.status, first.headers["openai-version"]) == (200, "2020-10-01")
    for _ in range(3):
        same(first, await caller.chat())
    assert caller.asked == 1


async def test_a_stream_is_given_again_whole(start: Any, upstream: Any) -> None:
    """The same SSE bytes, in one piece."""
    caller = await start()
    upstream.script(stream("a", "b", "c"))
    first = await caller.chat(stream=True)
    assert first.headers["content-type"].startswith("text/event-stream")
    assert first.body.endswith(b"data: [DONE]\n\n")
    again = await caller.chat(stream=True)
    same(first, again)
    assert again.headers["content-length"] == str(len(first.body))
    assert caller.asked == 1


async def test_a_translated_reply_is_given_again_in_the_callers_dialect(start: Any, upstream: Any) -> None:
    """What is kept is what the client got, under its own content type; its id header is new."""
    caller = await start(["anthropic"])
    upstream.script(reply(), stream())
    for extra in ({}, {"stream": True}):
        body = question(max_tokens=9) | extra
        first = await caller.post(body, f"key{extra}", path="/v1/messages")
        again = await caller.post(body, f"key{extra}", path="/v1/messages")
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["request-id"] == again.headers["x-request-id"]
    assert caller.asked == 2


async def test_without_the_header_every_request_runs(start: Any) -> None:
    """And nothing is written down."""
    caller = await start()
    assert not any([(await caller.chat(None)).replayed, (await caller.chat(None)).replayed])
    assert caller.asked == 2
    assert await caller.rows() == []


async def test_the_key_does_not_go_upstream(start: Any, upstream: Any) -> None:
    """Under the gateway's own account two callers with one key would meet at the provider."""
    caller = await start()
    await caller.chat()
    assert "idempotency-key" not in upstream.seen[0].headers


async def test_another_request_under_the_same_key_is_refused(start: Any) -> None:
    """409 `idempotency_key_reused`; the official clients are told not to try again."""
    caller = await start()
    await caller.chat()
    for different in (
        await caller.chat(temperature=0),
        await caller.chat(stream=True),
        await caller.post(question(), path="/api/v1/chat/completions"),
    ):
        assert (different.status, different.headers["x-should-retry"]) == (409, "false")
        error = different.error
        assert (error["type"], error["code"]) == ("conflict_error", "idempotency_key_reused")
        assert error["param"] == "Idempotency-Key"
    assert (await caller.chat()).replayed
    assert caller.asked == 1


async def test_while_the_first_is_under_way_there_is_a_conflict(start: Any, upstream: Any) -> None:
    """409 `conflict` with Retry-After: 1; of fifty at once one goes up, and all get its answer later."""
    caller = await start()
    upstream.script(reply(delay_s=0.5))
    answers = await asyncio.gather(*(caller.chat() for _ in range(50)))
    refused = [one for one in answers if one.status == 409]
    assert len(refused) == 49
    assert {(one.error["type"], one.error["code"]) for one in refused} == {("conflict_error", "conflict")}
    assert {one.headers["retry-after"] for one in refused} == {"1"}
    first = next(one for one in answers if one.status == 200)
    same(first, await caller.chat())
    assert caller.asked == 1


async def test_a_stream_under_way_is_a_conflict_too(start: Any, upstream: Any) -> None:
    """Until its last byte, longer than a lease."""
    caller = await start(lease_s=1)
    events = stream("a", "b").chunks
    assert events is not None
    upstream.reply(headers={"Content-Type": "text/event-stream"}, chunks=[events[0], 2.5, *events[1:]])
    running = asyncio.ensure_future(caller.chat(stream=True))  # noqa: TID251
    await asyncio.sleep(2.0)
    assert (await caller.chat(stream=True)).status == 409
    same(await running, await caller.chat(stream=True))
    assert caller.asked == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
async def test_what_is_no_key_is_a_400_that_names_the_header(start: Any, key: str) -> None:
    """And nothing runs."""
    caller = await start()
    refused = await caller.chat(key)
    assert (refused.status, refused.error["param"]) == (400, "Idempotency-Key")
    assert caller.asked == 0


async def test_two_keys_on_one_request_are_a_400(start: Any) -> None:
    """Nobody knows which of them was meant."""
    caller = await start()
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with caller.gateway.client.post(CHAT, json=question(), headers=headers) as got:
        assert got.status == 400
    assert caller.asked == 0


class Shared:
    """Lets two API keys in, of one organisation or of two."""

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        organization, _, key = exchange.headers["authorization"].removeprefix("Bearer ").partition("/")
        if not key:
            return None
        return Principal(key_id=key, organization_id=organization, scopes=ADMINISTRATOR.scopes)


async def test_one_caller_never_gets_anothers_reply(start: Any, upstream: Any) -> None:
    """The same key and body from another API key or organisation is another request."""
    caller = await start(before=[Shared])
    upstream.script(*(reply(f"for {n}") for n in range(3)))
    callers = ["org_1/key_1", "org_1/key_2", "org_2/key_1"]
    firsts = [await caller.chat(headers={"Authorization": f"Bearer {who}"}) for who in callers]
    assert len({one.body for one in firsts}) == 3
    for who, first in zip(callers, firsts, strict=True):
        same(first, await caller.chat(headers={"Authorization": f"Bearer {who}"}))
    assert caller.asked == 3


async def test_gets_and_management_calls_know_no_keys(start: Any) -> None:
    """GET is idempotent as it is; a management reply may hold a secret, and is never kept."""
    caller = await start(base=("meter", "openai"))
    for method, path, body in (
        ("GET", "/v1/models", None),
        ("POST", "/credits/grants", {"amount": "1"}),
    ):
        for _ in range(2):
            headers = {"Idempotency-Key": "k"}
            async with caller.gateway.client.request(method, path, json=body, headers=headers) as got:
                assert got.status < 300
                assert "idempotent-replayed" not in got.headers
    assert await caller.rows() == []


async def test_the_demo_and_raw_paths_and_other_faces_take_keys_too(start: Any, upstream: Any) -> None:
    """Whatever the face, and whoever answered."""
    caller = await start(base=("openai", "demo"))
    asked = [
        (CHAT, question(model="demo/chat")),
        ("/v1/mock/chat/completions", question(model="m-1")),
        ("/v1/mock/chat/completions", question(model="m-1", stream=True)),
        ("/v1/embeddings", {"model": "mock/m-1", "input": "Hi"}),
        ("/v1/mock/some/other/thing", {"any": "thing"}),
    ]
    for number, (path, body) in enumerate(asked):
        if number == 4:
            upstream.script(ScriptedReply(body=b"\x00\xff", headers={"Content-Type": "audio/mpeg"}))
        first = await caller.post(body, f"key {number}", path=path)
        assert first.status == 200, first
        same(first, await caller.post(body, f"key {number}", path=path))
    assert caller.asked == 4


class Observed:
    """Remembers how exchanges ended, and what the hooks after the gates were asked."""

    def __init__(self) -> None:
        self.ended: list[tuple[Outcome, int, Any]] = []
        self.called: list[str] = []

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        self.called.append("check_request")

    @hookimpl
    async def answer(self, exchange: Exchange) -> None:
        self.called.append("answer")

    @hookimpl
    def open_stage(self, exchange: Exchange) -> None:
        self.called.append("open_stage")

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        self.called.append("check_reply")

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.ended.append((exchange.outcome, len(exchange.attempts), exchange.usage))


async def test_a_repeat_passes_no_gate_after_this_one(start: Any, upstream: Any) -> None:
    """Limits, budgets, caches, stages: nobody is asked; it ends once, as `replayed`, without usage."""
    observed = Observed()
    caller = await start([observed])
    await caller.chat()
    called = list(observed.called)
    assert called == ["check_request", "answer", "open_stage", "check_reply"]
    assert (await caller.chat()).replayed
    await upstream.wait_until(lambda: len(observed.ended) == 2)
    assert observed.called == called
    assert observed.ended[1] == (Outcome.REPLAYED, 0, None)


async def test_a_repeat_is_refused_where_the_first_would_be_now(start: Any) -> None:
    """A plugin that stands before this one (addresses, organisations) and refuses is heard."""

    class Door:
        is_open = True

        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            if not self.is_open:
                raise Refused("Not from here.", code="ip_not_allowed")

    door = Door()
    caller = await start(before=[door])
    assert (await caller.chat()).status == 200
    door.is_open = False
    assert (await caller.chat()).status == 403


async def test_what_was_bought_on_one_account_is_not_anothers(start: Any) -> None:
    """With another provider key, or none, the same idempotency key means another request; no key is kept."""
    caller = await start(base=("byok", "openai"))
    mine = {"X-Provider-Key": "sk-of-one-caller-0123456789"}
    assert (await caller.chat(headers=mine)).status == 200
    assert (await caller.chat(headers=mine)).replayed
    for headers in ({"X-Provider-Key": "sk-of-another-0123456789"}, {}):
        other = await caller.chat(headers=headers)
        assert (other.status, other.error["code"]) == (409, "idempotency_key_reused")
    assert caller.asked == 1
    assert "sk-of-one-caller" not in repr(await caller.rows())
