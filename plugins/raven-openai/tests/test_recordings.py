"""Recorded traffic of OpenAI and its lookalikes: judged, metered and passed on as it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from raven_openai.dialect import FACES
from raven_openai.presets import PRESETS, Preset
from raven_openai.replies import open_stage
from raven_openai.taps import Metering, StreamTap, WholeTap

from raven_proxy.exchange import ReplyHead
from raven_proxy.providers import Tally
from raven_proxy.refusals import refuse

Cuts = Callable[[bytes], Iterator[list[bytes]]]
ROWS = {"azure_openai": "openai", "bedrock": "bedrock_mantle", "gemini": "gemini_openai"}
READERS = {face.dialect.name: face.read_call for face in FACES}


def row(recording: Any) -> Preset:
    return PRESETS[ROWS.get(recording.provider, recording.provider)]


def good(recordings: list[Any]) -> list[Any]:
    return [r for r in recordings if r.response["status"] < 400]


def meter(recording: Any, pieces: list[bytes]) -> Tally:
    preset = row(recording)
    metering = Metering(
        b"{}",
        recording.surface == "openai.chat",
        recording.surface == "openai.embeddings",
        preset.ends_with_done,
        preset.reasoning_apart,
        preset.finish_words or {},
    )
    tap: Any = StreamTap(metering) if recording.streaming else WholeTap(metering)
    for piece in pieces:
        tap.feed(piece)
    tally = tap.close()
    assert isinstance(tally, Tally)
    return tally


def documents(recording: Any) -> list[dict[str, Any]]:
    if not recording.streaming:
        return [msgspec.json.decode(recording.body())]
    lines = recording.body().splitlines()
    return [
        msgspec.json.decode(line[5:]) for line in lines if line.startswith(b"data:") and b"[DONE]" not in line
    ]


def test_there_is_something_to_replay(recordings: list[Any]) -> None:
    assert len(good(recordings)) >= 100
    assert sum(r.streaming for r in recordings) >= 40


def test_every_recorded_request_is_accepted(recordings: list[Any]) -> None:
    for recording in recordings:
        body = recording.request["body"]
        if body is None or "model" not in body:  # Azure names the model in the path
            continue
        raw = msgspec.json.encode(body)
        call = READERS[recording.surface](raw)
        assert call.model == body["model"], recording.id
        assert call.stream is bool(body.get("stream")), recording.id


def test_usage_is_metered_as_the_recording_says(recordings: list[Any]) -> None:
    metered = 0
    for recording in good(recordings):
        reported = [d["usage"] for d in documents(recording) if d.get("usage")]
        tally = meter(recording, [recording.body()])
        assert tally.usage is not None
        assert tally.usage.estimated is not bool(reported), recording.id
        if not reported:
            continue
        metered += 1
        last, usage = reported[-1], tally.usage
        assert usage.prompt_tokens == last["prompt_tokens"], recording.id
        assert usage.total_tokens == last["total_tokens"], recording.id
        completion = last.get("completion_tokens", 0)
        if row(recording).reasoning_apart:  # left out of the completion, but not of the total
            completion = last["total_tokens"] - last["prompt_tokens"]
        assert usage.completion_tokens == completion, recording.id
        details = last.get("completion_tokens_details") or {}
        assert usage.reasoning_tokens == min(details.get("reasoning_tokens") or 0, completion), recording.id
        cached = (last.get("prompt_tokens_details") or {}).get("cached_tokens") or last.get("cached_tokens")
        assert usage.cached_tokens == (cached or 0), recording.id
    assert metered >= 90


def test_complete_streams_are_known_to_be_complete(recordings: list[Any]) -> None:
    failed = [r.id for r in good(recordings) if meter(r, [r.body()]).error]
    assert failed == ["groq/chat-error-stream-gpt-oss-120b-958aa6"]
    for recording in good(recordings):
        tally = meter(recording, [recording.body()])
        assert tally.complete is (recording.id not in failed), recording.id
        if recording.streaming and tally.complete and row(recording).ends_with_done:
            cut = recording.body()[: recording.body().rindex(b"data:")]
            assert not meter(recording, [cut]).complete, recording.id


def test_finish_reasons_are_the_recorded_ones(recordings: list[Any]) -> None:
    for recording in good(recordings):
        words = [c.get("finish_reason") for d in documents(recording) for c in d.get("choices") or []]
        said = [w for w in words if w]
        if said:
            assert meter(recording, [recording.body()]).finish_reason in said, recording.id


def test_metering_does_not_depend_on_the_reads(recordings: list[Any]) -> None:
    for recording in good(recordings):
        body = recording.body()
        expected = meter(recording, [body])
        for size in (1, 7, 1460, 16_384):
            if size == 1 and len(body) > 100_000:
                continue
            pieces = [body[i : i + size] for i in range(0, len(body), size)]
            assert meter(recording, pieces) == expected, recording.id


@pytest.mark.parametrize("size", [1, 7, 1460, 10**9])
def test_streams_pass_the_stages_byte_for_byte_but_for_the_usage_chunk(
    recordings: list[Any], size: int
) -> None:
    hidden = 0
    for recording in good(recordings):
        if not recording.streaming:
            continue
        body = recording.body()
        stage = open_stage(streamed=True, hide_usage=True, words=row(recording).finish_words)
        assert stage is not None
        out = b"".join([stage.feed(body[i : i + size]) for i in range(0, len(body), size)]) + stage.close()
        chunks = [d for d in documents(recording) if d.get("choices") == [] and d.get("usage")]
        hidden += len(chunks)
        if not chunks:
            assert out == body, recording.id
            continue
        kept = [
            e
            for e in body.split(b"\n\n")
            if b'"choices":[]' not in e.replace(b" ", b"") or b'"usage":{' not in e.replace(b" ", b"")
        ]
        assert out == b"\n\n".join(kept), recording.id
    assert hidden >= 15


def test_whole_replies_with_standard_finish_reasons_pass_untouched(recordings: list[Any]) -> None:
    for recording in good(recordings):
        if recording.streaming or recording.provider == "snowflake":  # its recorder left the word empty
            continue
        stage = open_stage(streamed=False, hide_usage=False, words={})
        assert stage is not None
        assert stage.feed(recording.body()) + stage.close() == recording.body(), recording.id


def test_recorded_errors_keep_their_meaning(recordings: list[Any]) -> None:
    bad = [r for r in recordings if r.response["status"] >= 400]
    assert len(bad) >= 10
    for recording in bad:
        status = recording.response["status"]
        headers = {name.lower(): value for name, value in recording.response["headers"].items()}
        error = refuse("main", ReplyHead(status, headers), recording.body(), "sk-secret")
        assert error.status == (502 if status in {401, 403} else status), recording.id
        assert error.metadata is not None
        assert error.metadata["status"] == status
        assert error.message != f"The provider answered with status {status}.", recording.id
        assert (error.headers.get("Retry-After") is not None) is (status == 429), recording.id
        document = msgspec.json.decode(recording.body())
        inner = document.get("error", document)
        if isinstance(inner.get("code"), str) and status not in {401, 403}:
            assert error.code == inner["code"], recording.id
