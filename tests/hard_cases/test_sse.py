"""T22, T23, T25, T29: events however they are cut and ended, and the usage that is asked for."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Outcome, Stage, hookimpl
from raven_proxy.sse import EventReader

from .conftest import Case
from .streams import ASKED, DONE, direct, events, last_error, sha
from .wire import chat, post


class Readers:
    """What a guardrail, a logger and a token counter would read: the text of each event."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage:
        return _Reading(self.texts)


class _Reading:
    def __init__(self, texts: list[str]) -> None:
        self.reader = EventReader()
        self.texts = texts

    def feed(self, data: bytes) -> bytes:
        for event in self.reader.feed(data):
            self.texts.append((event.data or b"").decode("utf-8", "replace"))
        return data

    def close(self) -> bytes:
        return b""


@pytest.mark.parametrize("watched", [False, True])
async def test_t22_text_in_single_bytes_is_never_seen_in_halves(case: Case, watched: bool) -> None:
    """你好🙂 one byte a write: the client's bytes are the provider's, and readers see no U+FFFD."""
    readers = Readers()
    await case.start(*([readers] if watched else []))
    wanted = await direct(case.upstream, "fx-bytes")
    reply = await case.chat("mock/fx-bytes", stream=True, stream_options=ASKED)
    assert sha(reply.body) == sha(wanted)
    assert "你好🙂" in reply.body.decode()
    assert "\ufffd" not in "".join(readers.texts)
    usage = (await case.last()).usage
    assert usage is not None
    assert not usage.estimated
    if watched:
        assert any("你好🙂" in text for text in readers.texts)


@pytest.mark.parametrize("model", ["fx-crlf", "fx-cr", "fx-mixed-ends", "fx-comments", "any"])
async def test_t23_line_ends_do_not_change_what_is_metered_or_sent(case: Case, model: str) -> None:
    """Events may end in LF, CRLF or CR, cut anywhere: same usage, and the bytes pass unchanged."""
    await case.start()
    wanted = await direct(case.upstream, model)
    reply = await case.chat(f"mock/{model}", stream=True, stream_options=ASKED)
    assert reply.is_whole
    assert sha(reply.body) == sha(wanted)
    ended = await case.last()
    usage = [msgspec.json.decode(data)["usage"] for data in events(wanted) if b'"usage":{' in data]
    assert ended.outcome is Outcome.COMPLETED
    assert ended.usage is not None
    assert (ended.usage.prompt_tokens, ended.usage.completion_tokens) == (
        usage[0]["prompt_tokens"],
        usage[0]["completion_tokens"],
    )


@pytest.mark.parametrize("model", ["fx-crlf", "fx-cr", "fx-mixed-ends"])
async def test_t23_the_usage_chunk_is_hidden_whatever_ends_its_lines(case: Case, model: str) -> None:
    """A usage chunk that only the gateway asked for is taken out, with any kind of line end."""
    await case.start()
    body = (await case.chat(f"mock/{model}", stream=True)).body
    assert all(msgspec.json.decode(data)["choices"] for data in events(body) if data != b"[DONE]")
    assert events(body)[-1] == b"[DONE]"
    assert ((await case.last()).usage or pytest.fail("not metered")).completion_tokens > 0


async def test_t25_a_line_of_3_mib_passes(case: Case) -> None:
    """An event with an image of 3 MiB is forwarded unchanged."""
    await case.start()
    wanted = await direct(case.upstream, "fx-huge")
    assert len(wanted) > 3 * 2**20
    reply = await case.chat("mock/fx-huge", stream=True, stream_options=ASKED)
    assert sha(reply.body) == sha(wanted)
    assert (await case.last()).outcome is Outcome.COMPLETED


async def test_t25_an_event_over_the_limit_ends_the_stream(case: Case) -> None:
    """Over `max_event_bytes` the stream ends in an error event and a cut, at once."""
    await case.start(config={"max_event_bytes": 2**20})
    began = time.monotonic()
    reply = await case.chat("mock/fx-huge", stream=True)
    assert time.monotonic() - began < 5
    assert not reply.is_whole
    assert len(reply.body) < 2 * 2**20
    assert last_error(reply.body)["code"] == "upstream_error"
    ended = await case.last()
    assert ended.outcome is Outcome.TRUNCATED
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}])
async def test_t29_usage_is_metered_without_the_client_seeing_it(
    case: Case, options: dict[str, Any] | None
) -> None:
    """Who did not ask for usage sees no `choices: []` chunk, and is metered exactly all the same."""
    await case.start()
    reply = await case.chat(stream=True, stream_options=options)
    assert b'"choices":[]' not in reply.body
    assert reply.body.endswith(DONE)
    sent = case.upstream.seen[0].json["stream_options"]
    assert sent == {**(options or {}), "include_usage": True}
    usage = (await case.last()).usage
    assert usage is not None
    assert not usage.estimated
    assert usage.completion_tokens > 0


async def test_t29_who_asked_sees_exactly_one_usage_chunk(case: Case) -> None:
    """The client's own `include_usage` passes through: one usage chunk, and the body untouched."""
    await case.start()
    raw = post(chat("mock/any", stream=True, stream_options=ASKED))
    reply = await case.ask(raw)
    assert reply.body.count(b'"choices":[]') == 1
    sent = case.upstream.seen[0].body
    assert sent == raw.partition(b"\r\n\r\n")[2].replace(b"mock/any", b"any")


@pytest.mark.parametrize("asked", [False, True])
async def test_t29_a_provider_that_refuses_the_option_is_asked_once_more(case: Case, asked: bool) -> None:
    """A 400 about an option that was ours is retried without it, once; the client's own is passed on."""
    await case.start()
    options = {"stream_options": ASKED} if asked else {}
    reply = await case.chat("mock/fx-refuse-stream-options", stream=True, **options)
    if asked:
        case.refused(reply, 400, param="stream_options")
        assert len(case.upstream.seen) == 1
    else:
        assert reply.body.endswith(DONE)
        assert ["stream_options" in seen.json for seen in case.upstream.seen] == [True, False]
        usage = (await case.last()).usage
        assert usage is not None
        assert usage.estimated
