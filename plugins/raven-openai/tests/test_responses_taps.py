"""Promises about metering Responses streams that pass untouched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raven_openai.responses import FACES
from raven_openai.responses.reader import open_reader
from raven_openai.responses.taps import StreamTap

from raven_proxy import hub
from raven_proxy.exchange import Exchange
from raven_proxy.providers import Tally


def run(pieces: list[bytes]) -> tuple[Tally, list[str]]:
    request: Any = SimpleNamespace(method="POST", raw_path="/v1/responses")
    pipeline: Any = None
    exchange = Exchange(request, pipeline, "req_test")
    exchange.face = FACES[0]
    exchange.body = b'{"model":"m","input":"0123456789abcdef"}'
    ids: list[str] = []
    tap = StreamTap(exchange, ids.append)
    for piece in pieces:
        tap.feed(piece)
    return tap.close(), ids


def test_a_tap_sees_what_the_reader_sees(response_recordings: Any) -> None:
    """Usage, finish reason, end and id are those of the full reader, for every recording."""
    for recording in response_recordings:
        if not recording.streaming:
            continue
        body = recording.body()
        reader = open_reader()
        events = [*reader.feed(body), *reader.close()]
        reply = hub.gather(events)
        for size in (len(body), 4096, 100):
            tally, ids = run([body[i : i + size] for i in range(0, len(body), size)])
            assert tally.usage == reply.usage, recording.id
            assert tally.complete
            assert tally.error is None
            assert ids == [reply.id] if reply.id else len(ids) <= 1
        if not recording.fidelity.startswith("response_only"):
            assert tally.finish_reason == reply.choices[0].finish, recording.id


def test_no_cut_makes_a_difference(response_recordings: Any, cuts: Any) -> None:
    """Any cut of the bytes gives the same tally and the same id."""
    short = min((r for r in response_recordings if r.streaming), key=lambda r: len(r.body())).body()
    expected = run([short])
    for pieces in cuts(short):
        assert run(pieces) == expected


def test_the_id_is_known_before_the_end(response_recordings: Any) -> None:
    """Whoever asks for a response while it is streamed finds its owner."""
    body = next(r for r in response_recordings if r.id.startswith("openai/responses-reasoning-stream")).body()
    first = body.partition(b"\n\n")[0] + b"\n\n"
    tally, ids = run([first])
    assert ids == ["resp_00592e63e61b66660169fab1b9f8e481a2b321356198d7ac1b"]
    assert not tally.complete


def test_a_stream_that_breaks_off_is_estimated(response_recordings: Any) -> None:
    """Without usage the model's words are counted, and the stream is not complete."""
    body = next(r for r in response_recordings if r.id.startswith("openai/responses-truncated-stream")).body()
    half = body.partition(b"event: response.output_text.done")[0]
    said = "In the bustling city of Detroit, a sleek, metallic blue sedan rolled off the"
    for size in (len(half), 50):
        tally, _ = run([half[i : i + size] for i in range(0, len(half), size)])
        assert not tally.complete
        assert tally.usage is not None
        assert tally.usage.estimated
        assert tally.usage.completion_tokens == -(-len(said) // 4)


def test_errors_are_seen() -> None:
    """An `error` event is the reply's error; it is not its end."""
    begun = b'data: {"type":"response.created","response":{"id":"r","status":"in_progress"}}\n\n'
    tally, _ = run([begun, b'event: error\ndata: {"type":"error","code":"x","message":"Broken"}\n\n'])
    assert (tally.error, tally.complete) == ("Broken", False)
    response = b'{"id":"r","status":"failed","error":{"message":"Bad"}}'
    failed = b'data: {"type":"response.failed","response":' + response + b"}\n\n"
    tally, _ = run([begun + failed])
    assert (tally.error, tally.complete) == ("Bad", True)


def test_what_the_model_says_about_ends_is_no_end() -> None:
    """Text that looks like an event is text."""
    begun = b'data: {"type":"response.created","response":{"id":"r"}}\n\n'
    text = b'data: {"type":"response.output_text.delta","delta":"\\"response.completed\\" \\"error\\""}\n\n'
    tally, _ = run([begun, text])
    assert (tally.error, tally.complete) == (None, False)
