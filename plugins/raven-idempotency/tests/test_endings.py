"""Which replies are kept: what was paid for is, what a retry may set right is not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError

from raven_proxy import Exchange, Refused, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply, error_reply

from .caller import CHAT, KEY, question, reply, stream

CUT = stream("a", "b", done=False, end="cut")


class Refusing:
    """A gate after ours that refuses the first request, and lets the others pass."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.left = 1

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if self.left:
            self.left -= 1
            raise Refused("Not now.", status=self.status)


@pytest.mark.parametrize("status", [400, 402, 403, 429])
async def test_a_refusal_before_anybody_was_asked_is_not_kept(start: Any, status: int) -> None:
    """The next request with the key runs."""
    caller = await start([Refusing(status)])
    refused = await caller.chat()
    assert refused.status == status
    again = await caller.chat()
    assert (again.status, again.replayed, caller.asked) == (200, False, 1)


async def test_a_bad_request_takes_no_key(start: Any) -> None:
    """400 before the gates: the corrected request may use the same key."""
    caller = await start()
    assert (await caller.chat(messages="no list")).status == 400
    assert (await caller.chat(headers={"Content-Type": "text/plain"})).status == 400
    assert (await caller.chat()).status == 200


@pytest.mark.parametrize("status", [400, 408, 429, 500, 503])
async def test_a_providers_error_is_not_kept(start: Any, upstream: Any, status: int) -> None:
    """Official clients retry with the same key: the retry must be able to succeed."""
    caller = await start()
    upstream.script(error_reply(status, "No."))
    assert (await caller.chat()).status == status
    again = await caller.chat()
    assert (again.status, again.replayed, caller.asked) == (200, False, 2)
    assert (await caller.chat()).replayed


async def test_an_error_under_a_status_of_200_is_not_kept(start: Any, upstream: Any) -> None:
    """Nor a stream in which the provider said that it failed."""
    caller = await start()
    upstream.script(
        ScriptedReply.of_json({"error": {"message": "No.", "type": "server_error"}}),
        ScriptedReply.of_events([{"error": {"message": "No.", "type": "server_error"}}]),
    )
    await caller.chat()
    await caller.chat(stream=True)
    again = await caller.chat(stream=True)
    assert (again.status, again.replayed, caller.asked) == (200, False, 3)


async def test_a_stream_that_broke_off_is_not_kept(start: Any, upstream: Any) -> None:
    """Nor a whole reply that did."""
    caller = await start()
    upstream.script(CUT)
    with pytest.raises(ClientPayloadError):
        await caller.chat(stream=True)
    again = await caller.chat(stream=True)
    assert (again.status, again.replayed) == (200, False)
    upstream.script(reply(end="cut", content_length=10_000))
    assert (await caller.chat("other")).status == 502
    assert (await caller.chat("other")).status == 200
    assert caller.asked == 4


@pytest.mark.parametrize("streamed", [False, True])
async def test_where_the_client_left_nothing_is_kept(start: Any, upstream: Any, *, streamed: bool) -> None:
    """The provider is stopped, and the next request runs."""
    caller = await start()
    events = stream("a", "b").chunks
    assert events is not None
    slow = ScriptedReply(headers={"Content-Type": "text/event-stream"}, chunks=[events[0], 30.0])
    upstream.script(slow if streamed else reply(delay_s=30))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await caller.chat(stream=streamed)
    await upstream.wait_until(lambda: upstream.seen[0].closed_early)
    await _free(caller)
    again = await caller.chat(stream=streamed)
    assert (again.status, again.replayed, caller.asked) == (200, False, 2)


async def test_a_stream_that_is_drained_is_kept(start: Any, upstream: Any) -> None:
    """With `on_disconnect = "drain"` it is read to its end and billed, so the retry gets it."""
    caller = await start(principal=msgspec.structs.replace(ADMINISTRATOR, on_disconnect="drain"))
    events = stream("a", "b").chunks
    assert events is not None
    upstream.reply(headers={"Content-Type": "text/event-stream"}, chunks=[events[0], 2.0, *events[1:]])
    leaving = asyncio.create_task(caller.chat(stream=True))  # noqa: TID251 - a client who leaves
    await upstream.wait_until(lambda: upstream.seen)
    await asyncio.sleep(0.3)  # the first event is on its way
    leaving.cancel()
    again = await caller.chat(stream=True)
    assert again.status == 409
    while again.status == 409:
        await asyncio.sleep(0.1)
        again = await caller.chat(stream=True)
    assert (again.status, again.replayed, caller.asked) == (200, True, 1)
    assert again.body == b"".join(one for one in events if isinstance(one, bytes))


class Reviewing:
    """Refuses, or breaks, at a reply that a provider has made."""

    def __init__(self, error: Exception, streamed: bool) -> None:
        self.error = error
        self.streamed = streamed

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        if not self.streamed:
            raise self.error

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Any:
        return self if self.streamed else None

    def feed(self, data: bytes) -> bytes:
        raise self.error

    def close(self) -> bytes:
        return b""


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [(Refused("Not that.", code="guardrail_blocked"), 403), (RuntimeError("a bug"), 500)],
)
async def test_our_own_error_after_the_work_was_done_is_kept(
    start: Any, upstream: Any, error: Exception, status: int, *, streamed: bool
) -> None:
    """As Stripe keeps 500s too: running again would cost again, and end the same."""
    caller = await start([Reviewing(error, streamed)])
    upstream.script(reply() if not streamed else ScriptedReply(body=b"ABC", headers={"Content-Type": "a/b"}))
    first = await caller.chat()
    assert first.status == status
    again = await caller.chat()
    assert (again.status, again.body, again.replayed) == (status, first.body, True)
    assert again.headers["content-type"] == "application/json"
    assert caller.asked == 1


async def test_what_a_later_plugin_changed_is_what_is_kept(start: Any, upstream: Any) -> None:
    """Stages and `check_reply` of every other plugin come first: what they took out is not kept."""

    class Redact:
        @hookimpl
        def open_stage(self, exchange: Exchange) -> Any:
            return self

        @hookimpl
        async def check_reply(self, exchange: Exchange) -> None:
            assert exchange.reply_body is not None
            exchange.reply_body = exchange.reply_body.replace(b"friend", b"______")
            exchange.response_headers["X-Guardrail-Warnings"] = "one"

        def feed(self, data: bytes) -> bytes:
            return data.replace(b"SECRET", b"******")

        def close(self) -> bytes:
            return b": the end\n\n"

    caller = await start([Redact])
    upstream.script(reply("SECRET, my friend"), stream("SECRET"))
    for streamed in (False, True):
        key = f"key {streamed}"
        first, again = [await caller.chat(key, stream=streamed) for _ in range(2)]
        assert b"******" in first.body
        assert (again.replayed, again.body) == (True, first.body)
        if not streamed:
            assert b"______" in again.body
            assert again.headers["x-guardrail-warnings"] == "one"
    assert caller.asked == 2


async def test_a_head_that_cannot_be_written_is_not_kept(start: Any) -> None:
    """A plugin's header breaks out of its line: a 400, and the key is free again."""

    class Breaking:
        left = 1

        @hookimpl
        async def check_reply(self, exchange: Exchange) -> None:
            if self.left:
                self.left -= 1
                exchange.response_headers["x-bad"] = "a\r\nb"

    caller = await start([Breaking()])
    async with caller.gateway.client.post(CHAT, json=question(), headers={"Idempotency-Key": KEY}) as got:
        assert got.status >= 400
    assert (await caller.chat()).status == 200


async def _free(caller: Any) -> None:
    async with asyncio.timeout(2):
        while await caller.rows():
            await asyncio.sleep(0.01)


async def test_a_stream_that_a_stage_of_ours_ended_is_not_kept(start: Any, upstream: Any) -> None:
    """Its head was out, and its end is an error event: half a reply."""

    class Second:
        """Lets one piece pass and refuses the next."""

        seen = 0

        @hookimpl
        def open_stage(self, exchange: Exchange) -> Any:
            return self

        def feed(self, data: bytes) -> bytes:
            self.seen += 1
            if self.seen == 2:
                raise Refused("Not that.", code="guardrail_blocked")
            return data

        def close(self) -> bytes:
            return b""

    caller = await start([Second()])
    chunks = stream("a", "b").chunks
    assert chunks is not None
    upstream.reply(headers={"Content-Type": "text/event-stream"}, chunks=[chunks[0], 0.2, *chunks[1:]])
    with suppress(ClientPayloadError):
        assert b"guardrail_blocked" in (await caller.chat(stream=True)).body
    again = await caller.chat(stream=True)
    assert (again.status, again.replayed, caller.asked) == (200, False, 2)
