"""Replies that carry images, sound and transcripts are metered alike however their bytes are cut."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai.media.operations import OPERATIONS
from raven_openai.media.usage import read_table, seconds_of_subtitles

from raven_proxy.exchange import ReplyHead, Usage
from raven_proxy.providers import Tally

Cuts = Callable[[bytes], Iterator[list[bytes]]]
PRESET: Any = None
JSON, SSE = "application/json", "text/event-stream; charset=utf-8"


def run(dialect: str, kind: str, pieces: list[bytes], body: bytes = b"{}") -> Tally:
    (operation,) = [found for found in OPERATIONS if found.dialect.name == dialect]
    exchange: Any = SimpleNamespace(credential=None, body=body)
    tap = operation.open_tap(exchange, ReplyHead(200, {"content-type": kind}), PRESET)
    assert tap is not None
    for piece in pieces:
        tap.feed(piece)
    return tap.close()


def events(*documents: dict[str, Any], done: bool = False) -> bytes:
    frames = b"".join(
        b"event: %b\ndata: %b\n\n" % (d["type"].encode(), msgspec.json.encode(d)) for d in documents
    )
    return frames + b"data: [DONE]\n\n" * done


TOKENS = {"type": "tokens", "input_tokens": 37, "output_tokens": 145, "total_tokens": 182}


def test_a_recorded_transcript_stream_is_metered_at_every_cut(
    recorded: Callable[[str], list[dict[str, Any]]], cuts: Cuts
) -> None:
    for recording in recorded("openai/audio-transcriptions*"):
        expected = Usage(prompt_tokens=37, completion_tokens=145, total_tokens=182, audio_input_tokens=37)
        for pieces in cuts(recording["response"]["body"].encode()):
            tally = run("openai.audio.transcriptions", SSE, pieces)
            assert tally == Tally(usage=expected)


def test_recorded_replies_of_moderation_cost_nothing(
    recorded: Callable[[str], list[dict[str, Any]]],
) -> None:
    for recording in recorded("*/moderations-*"):
        tally = run("openai.moderations", JSON, [recording["response"]["body"].encode()])
        assert tally == Tally(usage=Usage())


def test_images_are_counted_and_their_tokens_read() -> None:
    usage = {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210, "input_tokens_details": {}}
    reply = {"created": 1, "data": [{"b64_json": "AAAA"}, {"url": "https://x"}], "usage": usage}
    tally = run("openai.images", JSON, [msgspec.json.encode(reply)])
    expected = Usage(prompt_tokens=50, completion_tokens=4160, total_tokens=4210, images=2)
    assert tally == Tally(usage=expected)


@pytest.mark.parametrize("usage", [None, {"cost_in_usd_ticks": 200000000}, "much", {"input_tokens": "x"}])
def test_images_without_tokens_are_counted_alone(usage: Any) -> None:
    reply = msgspec.json.encode({"data": [{"url": "https://x"}] * 3, "usage": usage})
    assert run("openai.images", JSON, [reply]) == Tally(usage=Usage(images=3))


def test_megabytes_of_base64_are_stepped_over() -> None:
    image = base64.b64encode(bytes(6 * 2**20)).decode()
    reply = msgspec.json.encode({"data": [{"b64_json": image}] * 2, "usage": {"total_tokens": 5}})
    begun = time.process_time()
    tally = run("openai.images", JSON, [reply])
    assert time.process_time() - begun < 0.5
    assert tally.usage is not None
    assert tally.usage.images == 2


@pytest.mark.parametrize("size", [1000, 65536, 10**9])
@pytest.mark.parametrize("verb", ["image_generation", "image_edit"])
def test_a_stream_of_partial_images_is_metered_by_its_last_event(verb: str, size: int) -> None:
    image = base64.b64encode(bytes(2**20)).decode()
    usage = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
    text = events(
        *[{"type": f"{verb}.partial_image", "b64_json": image, "partial_image_index": i} for i in range(2)],
        {"type": f"{verb}.completed", "b64_json": image, "usage": usage},
    )
    expected = Usage(prompt_tokens=9, completion_tokens=272, total_tokens=281, images=1)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert run("openai.images", SSE, pieces) == Tally(usage=expected)


def test_an_image_stream_that_breaks_off_is_not_complete(cuts: Cuts) -> None:
    text = events({"type": "image_generation.partial_image", "b64_json": "AAAA"})
    for pieces in cuts(text):
        assert not run("openai.images", SSE, pieces).complete


def test_an_error_in_a_stream_is_seen_at_every_cut(cuts: Cuts) -> None:
    error = {"type": "error", "error": {"type": "server_error", "message": "It broke."}}
    for pieces in cuts(events({"type": "image_generation.partial_image", "b64_json": "AA"}, error)):
        assert run("openai.images", SSE, pieces).error == "It broke."


def test_an_error_under_a_status_of_200_is_seen() -> None:
    assert run("openai.images", JSON, [b'{"error":{"message":"No."}}']).error == "No."


@pytest.mark.parametrize("body", [b"", b"[1", b"{", b'{"data":[{"b64_json":"AA'])
def test_half_a_document_is_not_complete(body: bytes) -> None:
    assert not run("openai.images", JSON, [body]).complete


def test_speech_is_estimated_from_its_text_and_its_sound_is_not_read() -> None:
    body = msgspec.json.encode({"model": "tts-1", "input": "Grüße, Welt"})
    tally = run("openai.audio.speech", "audio/mpeg", [b"\xff\xf3" * 1000], body)
    assert tally == Tally(usage=Usage(prompt_tokens=4, total_tokens=4, estimated=True))


def test_speech_as_events_reports_its_tokens(cuts: Cuts) -> None:
    usage = {"input_tokens": 16, "output_tokens": 104, "total_tokens": 120}
    text = events(
        {"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done", "usage": usage}
    )
    expected = Usage(prompt_tokens=16, completion_tokens=104, total_tokens=120)
    for pieces in cuts(text):
        assert run("openai.audio.speech", SSE, pieces) == Tally(usage=expected)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"text": "Hi", "usage": {"type": "duration", "seconds": 9}}, Usage(seconds=9.0)),
        (
            {"text": "Hi", "usage": {**TOKENS, "input_token_details": {"audio_tokens": 30}}},
            Usage(prompt_tokens=37, completion_tokens=145, total_tokens=182, audio_input_tokens=30),
        ),
        (
            {"text": "Hi there", "duration": "8.47"},
            Usage(completion_tokens=3, total_tokens=3, seconds=8.47, estimated=True),
        ),
        ({"text": "Hi there"}, Usage(completion_tokens=3, total_tokens=3, estimated=True)),
        (
            {"text": "Hi", "usage": {"type": "duration", "seconds": -1}},
            Usage(completion_tokens=1, total_tokens=1, estimated=True),
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["openai.audio.transcriptions", "openai.audio.translations"])
def test_a_transcript_is_billed_by_seconds_or_tokens_or_its_text(
    dialect: str, reply: dict[str, Any], expected: Usage
) -> None:
    assert run(dialect, JSON, [msgspec.json.encode(reply)]) == Tally(usage=expected)


def test_subtitles_say_how_long_the_recording_was(cuts: Cuts) -> None:
    text = b"WEBVTT\n\n00:00:00.000 --> 00:00:03.250\nHello\n\n00:00:03.250 --> 00:01:05.5\nWorld\n\n"
    tokens = -(-len(text) // 4)
    expected = Usage(completion_tokens=tokens, total_tokens=tokens, seconds=65.5, estimated=True)
    for pieces in cuts(text):
        assert run("openai.audio.transcriptions", "text/vtt", pieces) == Tally(usage=expected)
    assert seconds_of_subtitles(b"1\n00:00:01,000 --> 01:00:02,020\nx") == 3602.02
    assert seconds_of_subtitles(b"plain text") == 0.0


@pytest.mark.parametrize("table", [None, [], "x", {}, {"seconds": 4}, {"type": "duration"}, {"type": 1}])
def test_a_usage_that_says_nothing_is_none(table: Any) -> None:
    assert read_table(table) is None
