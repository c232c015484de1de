"""T37: streams that take their time, fall silent, or never end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from raven_proxy import Outcome
from raven_proxy.mock import ScriptedReply

from .conftest import Case
from .streams import ASKED, DONE, direct, last_error
from .wire import Wire, chat, post


async def test_t37_a_slow_stream_survives_many_idle_limits(case: Case) -> None:
    """The idle limit is per chunk: a stream several limits long, with a token now and then, survives."""
    await case.start(config={"idle_timeout_s": 0.25, "first_byte_timeout_s": 0.5})
    began = time.monotonic()
    reply = await case.stream("fx-paced-50")
    assert time.monotonic() - began > 0.75
    assert reply.body.endswith(DONE)


@pytest.mark.parametrize("stream", [False, True])
async def test_t37_silence_over_the_idle_limit_ends_the_stream(case: Case, stream: bool) -> None:
    """Silence longer than `idle_timeout_s` is an error event; for a whole reply a 504."""
    await case.start(config={"idle_timeout_s": 0.2})
    reply = await case.chat("mock/fx-stall", stream=stream)
    if stream:
        assert not reply.is_whole
        assert last_error(reply.body)["code"] == "upstream_timeout"
    else:
        case.refused(reply, 504, code="upstream_timeout")
    await case.settle()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


async def test_t37_silence_before_the_head_is_a_504(case: Case) -> None:
    """A provider that never answers is a 504 after `first_byte_timeout_s`."""
    await case.start(config={"first_byte_timeout_s": 0.2})
    case.refused(await case.stream("fx-silent"), 504, code="upstream_timeout")
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


@pytest.mark.parametrize(
    ("setting", "code"),
    [({"total_timeout_s": 0.4}, "upstream_timeout"), ({"max_stream_bytes": 100_000}, "upstream_error")],
)
async def test_t37_an_endless_stream_is_cut(case: Case, setting: dict[str, Any], code: str) -> None:
    """A stream without end is cut at `total_timeout_s` or `max_stream_bytes`, with an error event."""
    await case.start(config=setting)
    began = time.monotonic()
    reply = await case.stream("fx-endless")
    assert time.monotonic() - began < 5
    assert not reply.is_whole
    assert last_error(reply.body)["code"] == code
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    assert ended.usage is not None
    assert ended.usage.completion_tokens > 0


async def test_t37_a_client_that_does_not_read_holds_the_provider_back(case: Case) -> None:
    """An unread stream stops the provider, is not taken for its silence, and ends after `send_timeout_s`."""
    await case.start(config={"send_timeout_s": 0.6, "idle_timeout_s": 0.3})
    piece = b"data: " + b"x" * 65536 + b"\n\n"
    case.upstream.script(
        ScriptedReply(chunks=[piece], repeat=True, headers={"Content-Type": "text/event-stream"})
    )
    wire = await Wire.open(case.url, limit=2**16)
    await wire.send(post(chat(stream=True)))
    await wire.head()
    began = time.monotonic()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0, timeout_s=10)
    assert time.monotonic() - began > 0.5
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    # What fits into the buffers of the sockets on the way, and not what a fast provider can send.
    assert ended.produced_bytes < 64 * 2**20
    await wire.close()


async def test_t37_keep_alive_comments_come_in_silence_alone(case: Case) -> None:
    """With `keepalive_s` a silent stream gets comments between events, and its data stay what they were."""
    await case.start(config={"keepalive_s": 0.05})
    wanted = await direct(case.upstream, "any")
    chunks: list[bytes | float] = [wanted, 0.3]
    case.upstream.reply(chunks=chunks, headers={"Content-Type": "text/event-stream"})
    reply = await case.chat(stream=True, stream_options=ASKED)
    assert b": keep-alive\n\n" in reply.body
    assert reply.body.replace(b": keep-alive\n\n", b"") == wanted
