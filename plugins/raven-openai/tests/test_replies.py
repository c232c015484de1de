"""Only the usage chunk is hidden and only foreign finish reasons change; all other bytes pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_openai.events import split
from raven_openai.finish import normalize
from raven_openai.presets import PRESETS
from raven_openai.replies import open_stage

from raven_proxy.faces import Stage

DELTA = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}],"usage":null}\n\n'
)
STOP = DELTA.replace(b'"finish_reason":null', b'"finish_reason":"stop"') % b""
USAGE = (
    b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
)
DONE = b"data: [DONE]\n\n"
HELLO = DELTA % "你好🙂".encode()
STREAM = HELLO + STOP + USAGE + DONE
Cuts = Callable[[bytes], Iterator[list[bytes]]]


def hide() -> Stage:
    stage = open_stage(streamed=True, hide_usage=True, words=None)
    assert stage is not None
    return stage


def reword(hide_usage: bool = False) -> Stage:
    stage = open_stage(streamed=True, hide_usage=hide_usage, words={"sensitive": "content_filter"})
    assert stage is not None
    return stage


def run(stage: Stage, pieces: list[bytes]) -> bytes:
    return b"".join([stage.feed(piece) for piece in pieces]) + stage.close()


def test_no_stage_is_opened_where_none_is_needed() -> None:
    assert open_stage(streamed=True, hide_usage=False, words=None) is None
    assert open_stage(streamed=False, hide_usage=True, words=None) is None


def test_an_ordinary_read_passes_as_the_same_object() -> None:
    stage = hide()
    assert stage.feed(HELLO) is HELLO


def test_t29_the_usage_chunk_is_hidden_and_nothing_else(cuts: Cuts) -> None:
    for pieces in cuts(STREAM):
        assert run(hide(), pieces) == STREAM.replace(USAGE, b"")


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
def test_t23_every_line_end_and_comment_passes(cuts: Cuts, end: bytes) -> None:
    stream = b": hi\n\nevent: message\nid: 7\n" + HELLO + b"retry: 5\n\n" + STOP + USAGE + b": bye\n\n" + DONE
    stream = stream.replace(b"\n", end)
    for pieces in cuts(stream):
        assert run(hide(), pieces) == stream.replace(USAGE.replace(b"\n", end), b"")


def test_t23_line_ends_may_be_mixed(cuts: Cuts) -> None:
    events = [
        HELLO[:-2] + e for e in (b"\n\r\n", b"\r\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\n\n\n", b"\r\r\n")
    ]
    stream = USAGE.join(events) + DONE
    for pieces in cuts(stream):
        assert run(hide(), pieces) == stream.replace(USAGE, b"")


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"choices":[],"usage":null}\n\n',
        b'data: {"choices":[],"prompt_filter_results":[{"usage":{}}]}\n\n',  # Azure's first chunk
        b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"no"}}\n\n',
        b'data: {"choices":[],"usage":"lots"}\n\n',
        b'data: {"choices":[],"usage":{\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}\n\n',
        b': "choices":[] "usage":{}\n\n',
        b'data: "choices":[]\n\n',
        b"data: [DONE]\n\n",
    ],
)
def test_what_only_looks_like_the_usage_chunk_passes(cuts: Cuts, chunk: bytes) -> None:
    for pieces in cuts(HELLO + chunk + DONE):
        assert run(hide(), pieces) == HELLO + chunk + DONE


@pytest.mark.parametrize(
    "chunk",
    [
        b'data:{"usage":{"prompt_tokens":1},"choices":[]}\n\n',
        b'data: { "choices" : [ ] , "usage" : { } }\n\n',
        b'data: {"choices":[],"error":null,"usage":{"a":1}}\n\n',
        b'data: {"choices":[],\ndata: "usage":{"a":1}}\n\n',
        b'event: message\nid: 3\ndata: {"choices":[],"usage":{"a":1}}\n\n',
        b': note\ndata: {"choices":[],"usage":{"a":1}}\n\n',
    ],
)
def test_the_usage_chunk_is_known_however_it_is_written(cuts: Cuts, chunk: bytes) -> None:
    for pieces in cuts(HELLO + chunk + DONE):
        assert run(hide(), pieces) == HELLO + DONE


def test_an_incomplete_event_is_held_and_then_passed() -> None:
    stage = hide()
    assert stage.feed(HELLO + USAGE[:20]) == HELLO
    assert stage.feed(USAGE[20:] + STOP[:5]) == b""
    assert stage.close() == STOP[:5]


def test_a_usage_chunk_at_the_very_end_needs_no_empty_line() -> None:
    assert run(hide(), [HELLO, USAGE[:-1]]) == HELLO
    assert run(hide(), [HELLO, USAGE[:-9]]) == HELLO + USAGE[:-9]


def test_t25_a_line_of_3_mib_passes_while_it_comes() -> None:
    line = DELTA % (b"x" * (3 * 2**20))
    pieces = [line[i : i + 60_000] for i in range(0, len(line), 60_000)]
    stage, passed, most = hide(), 0, 0
    for sent, piece in enumerate(pieces, 1):
        passed += len(stage.feed(piece))
        most = max(most, min(sent * 60_000, len(line)) - passed)
    assert most <= 64 * 1024
    assert stage.feed(USAGE + DONE) == DONE
    assert passed == len(line)
    assert run(hide(), [line, USAGE, DONE]) == line + DONE
    assert run(hide(), [line + USAGE + DONE]) == line + DONE


def test_single_bytes_cost_no_more_than_linear_time() -> None:
    event = DELTA % (b"x" * 60_000)
    started = time.perf_counter()
    assert run(hide(), [event[i : i + 1] for i in range(len(event))]) == event
    assert time.perf_counter() - started < 5


PARTS = st.sampled_from(
    [
        HELLO,
        STOP,
        USAGE,
        DONE,
        b": c\n\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"data: x\n",
        USAGE[:-1],
        USAGE.replace(b"\n", b"\r\n"),
        STOP.replace(b'"stop"', b'"eos"'),
        b'event: e\rdata: {"choices":[],"usage":{}}\r\r',
        b"\xff",
    ]
)


@settings(max_examples=300)
@given(
    parts=st.lists(PARTS, max_size=8),
    data=st.data(),
    make=st.sampled_from([hide, reword, lambda: reword(True)]),
)
def test_the_output_does_not_depend_on_the_reads(
    parts: list[bytes], data: Any, make: Callable[[], Stage]
) -> None:
    stream = b"".join(parts)
    points = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *points], [*points, len(stream)], strict=True)]
    whole = run(make(), [stream])
    assert run(make(), pieces) == whole
    assert run(make(), [stream[i : i + 1] for i in range(len(stream))]) == whole


@given(parts=st.lists(PARTS, max_size=8))
def test_splitting_loses_nothing(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    assert b"".join(split(stream)) == stream


@pytest.mark.parametrize("word", ["stop", "length", "tool_calls", "content_filter", "error", "function_call"])
def test_standard_finish_reasons_pass_untouched(cuts: Cuts, word: str) -> None:
    stream = HELLO + STOP.replace(b'"stop"', b'"%s"' % word.encode()) + DONE
    assert run(reword(), [stream]) is stream or run(reword(), [stream]) == stream
    whole = open_stage(streamed=False, hide_usage=False, words={})
    assert whole is not None
    assert whole.feed(stream) is stream


@pytest.mark.parametrize(
    ("native", "standard"),
    [
        ("eos", "stop"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("content_filter: RECITATION", "content_filter"),
        ("sensitive", "content_filter"),
        ("abort", "error"),
        ("something new", "stop"),
    ],
)
def test_foreign_finish_reasons_are_translated_and_kept(cuts: Cuts, native: str, standard: str) -> None:
    before = HELLO + STOP.replace(b'"stop"', b'"%s"' % native.encode()) + DONE
    spliced = b'"%s","native_finish_reason":"%s"' % (standard.encode(), native.encode())
    after = HELLO + STOP.replace(b'"stop"', spliced) + DONE
    for pieces in cuts(before):
        assert run(reword(), pieces) == after
    with_usage = before.replace(DONE, USAGE + DONE)
    assert run(reword(hide_usage=True), [with_usage]) == after


def test_a_whole_reply_keeps_its_spacing() -> None:
    content = r'"\"finish_reason\": \"eos\""'
    body = '{ "choices": [ { "finish_reason" : "eos", "message": {"content": ' + content + "} } ] }"
    stage = open_stage(streamed=False, hide_usage=False, words={})
    assert stage is not None
    changed = body.replace(': "eos",', ': "stop","native_finish_reason":"eos",')
    assert stage.feed(body.encode()) + stage.close() == changed.encode()


def test_the_vendors_own_native_word_is_not_doubled() -> None:
    event = b'data: {"choices":[{"finish_reason":"end_turn","native_finish_reason":"END"}]}\n\n'
    assert reword().feed(event) == event.replace(b'"end_turn"', b'"stop"')


def test_an_empty_word_beside_tool_calls_means_tool_calls() -> None:
    body = b'{"choices":[{"finish_reason":"","message":{"tool_calls":[{"id":"a"}]}}]}'
    stage = open_stage(streamed=False, hide_usage=False, words={})
    assert stage is not None
    assert b'"finish_reason":"tool_calls","native_finish_reason":""' in stage.feed(body)


@pytest.mark.parametrize("name", PRESETS)
def test_a_vendors_own_words_win(name: str) -> None:
    for native, standard in (PRESETS[name].finish_words or {}).items():
        assert normalize(native, PRESETS[name].finish_words or {}) == standard


def test_an_empty_finish_reason_in_a_stream_is_not_an_end() -> None:
    """What vendors write until the last chunk, `""`, is passed on; the last word is put right."""
    stream = (
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"eos"}]}\n\ndata: [DONE]\n\n'
    )
    stage = open_stage(streamed=True, hide_usage=False, words={})
    assert stage is not None
    out = stage.feed(stream) + stage.close()
    assert out == stream.replace(b'"eos"', b'"stop","native_finish_reason":"eos"')
