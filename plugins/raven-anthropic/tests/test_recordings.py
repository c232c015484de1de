"""Recorded traffic of Messages: judged, metered, passed as it came, and told again through the hub."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_anthropic import MESSAGES, PROVIDER_SIDE
from raven_anthropic.calls import read_messages
from raven_anthropic.provider import AnthropicProvider

from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.providers import Tally
from raven_proxy.testing import run_stage
from raven_proxy.translation import open_translation

from .official import read_events, see_message, see_stream

Make = Callable[..., Exchange]
QUESTION: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello?"}],
}


def good(recordings: list[Any], *, streaming: bool | None = None) -> list[Any]:
    return [
        one
        for one in recordings
        if one.response["status"] < 400 and (streaming is None or one.streaming is streaming)
    ]


def request_of(recording: Any) -> dict[str, Any]:
    body = recording.request["body"] or QUESTION
    if recording.surface == "vertex.anthropic":
        body = {"model": "claude-x", **body}
    return {**body, "stream": recording.streaming}


def documents(recording: Any) -> list[dict[str, Any]]:
    if recording.streaming:
        return [document for _, document in read_events(recording.body())]
    return [msgspec.json.decode(recording.body())]


def usage_of(recording: Any) -> dict[str, Any]:
    """Read usage without the package: what comes later counts."""
    usage: dict[str, Any] = {}
    for document in documents(recording):
        for found in (document.get("usage"), (document.get("message") or {}).get("usage")):
            usage |= {name: value for name, value in (found or {}).items() if value is not None}
    return usage


def meter(provider: AnthropicProvider, exchange: Exchange, recording: Any, pieces: list[bytes]) -> Tally:
    kind = "text/event-stream" if recording.streaming else "application/json"
    tap = provider.open_usage_tap(exchange, ReplyHead(200, {"content-type": kind}))
    assert tap is not None
    for piece in pieces:
        tap.feed(piece)
    return tap.close()


def translate(make_exchange: Make, recording: Any) -> Any:
    exchange = make_exchange(request_of(recording))
    return lambda: open_translation(exchange, PROVIDER_SIDE, streamed=recording.streaming)


def test_there_is_something_to_replay(recordings: list[Any]) -> None:
    assert len(good(recordings, streaming=False)) >= 35
    assert len(good(recordings, streaming=True)) >= 30


def test_every_recorded_request_is_accepted(recordings: list[Any]) -> None:
    for recording in recordings:
        body = recording.request["body"]
        if body is None or "model" not in body:
            continue
        call = read_messages(msgspec.json.encode(body))
        assert (call.model, call.stream) == (body["model"], bool(body.get("stream"))), recording.id
        assert call.max_output_tokens == body["max_tokens"], recording.id


def test_the_same_dialect_passes_byte_for_byte(
    recordings: list[Any], make_exchange: Make, provider: AnthropicProvider
) -> None:
    """The request is the client's own, and nobody stands in the way of the reply."""
    for recording in recordings:
        exchange = make_exchange(request_of(recording))
        assert provider.build_request(exchange).body == exchange.body, recording.id
        assert provider.open_translator(exchange, ReplyHead(200, {})) is None


def test_usage_is_metered_as_the_recording_says(
    recordings: list[Any], make_exchange: Make, provider: AnthropicProvider
) -> None:
    """Prompt with the cached tokens, completion with the thinking, the finish in the hub's words."""
    for recording in good(recordings):
        tally = meter(provider, make_exchange(request_of(recording)), recording, [recording.body()])
        said, usage = usage_of(recording), tally.usage
        assert usage is not None, recording.id
        assert not usage.estimated, recording.id
        read, written = said.get("cache_read_input_tokens", 0), said.get("cache_creation_input_tokens", 0)
        assert usage.prompt_tokens == said["input_tokens"] + read + written, recording.id
        assert usage.completion_tokens == said["output_tokens"], recording.id
        assert (usage.cached_tokens, usage.cache_write_tokens) == (read, written), recording.id
        thinking = (said.get("output_tokens_details") or {}).get("thinking_tokens", 0)
        assert usage.reasoning_tokens == thinking, recording.id
        hour = (said.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0)
        assert usage.cache_write_1h_tokens == hour, recording.id
        assert tally.complete, recording.id
        assert tally.finish_reason in {"stop", "length", "tool_calls", "content_filter"}, recording.id


def test_a_stream_without_its_end_is_not_complete(
    recordings: list[Any], make_exchange: Make, provider: AnthropicProvider
) -> None:
    for recording in good(recordings, streaming=True):
        cut = recording.body()[: recording.body().rindex(b"event: message_stop")]
        assert not meter(provider, make_exchange(request_of(recording)), recording, [cut]).complete


def test_metering_does_not_depend_on_the_reads(
    recordings: list[Any], make_exchange: Make, provider: AnthropicProvider, cuts: Any
) -> None:
    for recording in good(recordings):
        exchange = make_exchange(request_of(recording))
        tallies = [meter(provider, exchange, recording, pieces) for pieces in cuts(recording.body())]
        assert all(tally == tallies[0] for tally in tallies), recording.id


def compare(seen: Any, expected: Any, where: str) -> None:
    assert seen.id == expected.id, where
    assert seen.model == expected.model, where
    assert seen.stop_reason == expected.stop_reason, where
    assert seen.stop_sequence == expected.stop_sequence, where
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    for name in names:
        assert (getattr(seen.usage, name) or 0) == (getattr(expected.usage, name) or 0), (where, name)
    said = [block for block in expected.content if block.type != "text" or block.text]
    assert [block.type for block in seen.content] == [block.type for block in said], where
    for block, other in zip(seen.content, said, strict=True):
        ours, theirs = block.model_dump(exclude_none=True), other.model_dump(exclude_none=True)
        if block.type == "tool_use":
            theirs.pop(
                "caller", None
            )  # which of the vendor's own tools called: nobody else has a word for it
        if block.type == "text":
            ours.setdefault("citations", [])
            theirs.setdefault("citations", [])
        assert ours == theirs, where


def test_a_whole_reply_told_through_the_hub_says_the_same(recordings: list[Any], make_exchange: Make) -> None:
    """Text, thinking with its signature, calls, server tools, citations, stop reason and usage."""
    for recording in good(recordings, streaming=False):
        stage = translate(make_exchange, recording)()
        out = stage.feed(recording.body()) + stage.close()
        # What a vendor leaves out that Anthropic always says.
        expected = {"stop_sequence": None, **msgspec.json.decode(recording.body())}
        for block in expected["content"]:
            if block["type"] == "thinking":
                block.setdefault("signature", "")
        compare(see_message(out), see_message(msgspec.json.encode(expected)), recording.id)


def test_a_stream_told_through_the_hub_says_the_same(recordings: list[Any], make_exchange: Make) -> None:
    """In the grammar that official clients check, whatever the cuts."""
    for recording in good(recordings, streaming=True):
        make_stage = translate(make_exchange, recording)
        whole = make_stage()
        out = whole.feed(recording.body()) + whole.close()
        compare(see_stream(out), see_stream(recording.body(), strict=False), recording.id)


def test_a_translation_does_not_depend_on_the_cuts(recordings: list[Any], make_exchange: Make) -> None:
    """The shortest streams are cut at every place, one of each kind of block among them."""
    streams = sorted(good(recordings, streaming=True), key=lambda one: len(one.body()))
    kinds: set[str] = set()
    for recording in streams:
        found = {d["content_block"]["type"] for d in documents(recording) if "content_block" in d}
        if found <= kinds or len(recording.body()) > 12_000:
            continue
        kinds |= found
        assert run_stage(translate(make_exchange, recording), recording.body()), recording.id
    assert {"text", "thinking", "tool_use", "server_tool_use"} <= kinds


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cuts_give_the_same_stream(data: Any, recordings: list[Any], make_exchange: Make) -> None:
    recording = data.draw(st.sampled_from(good(recordings, streaming=True)))
    body = recording.body()
    places = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))
    make_stage = translate(make_exchange, recording)
    whole, cut = make_stage(), make_stage()
    expected = whole.feed(body) + whole.close()
    borders = [0, *places, len(body)]
    pieces = [body[a:b] for a, b in pairwise(borders)]
    assert b"".join([cut.feed(piece) for piece in pieces]) + cut.close() == expected


def test_a_client_gets_a_whole_reply_of_a_stream_and_a_stream_of_a_whole_reply(
    recordings: list[Any], make_exchange: Make
) -> None:
    for recording in good(recordings):
        body = request_of(recording)
        exchange = make_exchange({**body, "stream": not recording.streaming})
        stage = open_translation(exchange, PROVIDER_SIDE, streamed=recording.streaming)
        out = stage.feed(recording.body()) + stage.close()
        seen = see_message(out) if recording.streaming else see_stream(out)
        said = usage_of(recording)
        assert seen.usage.output_tokens == said["output_tokens"], recording.id
        assert seen.stop_reason is not None


def test_the_dialect_has_both_sides_and_its_own_words() -> None:
    assert MESSAGES.name == "anthropic.messages"
    assert (dict(MESSAGES.statuses), MESSAGES.id_header) == ({}, "request-id")
    assert MESSAGES.provider_side is PROVIDER_SIDE
    assert MESSAGES.client_side is not None
