"""Usage is read as reported, estimated where it is not, and never depends on how bytes were cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_openai.taps import Metering, StreamTap, WholeTap

from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally

Cuts = Callable[[bytes], Iterator[list[bytes]]]
ASKED = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'  # 57 bytes
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}],"usage":null}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}\n\n'
DONE = b"data: [DONE]\n\n"
SEEN = Usage(prompt_tokens=10, completion_tokens=4, total_tokens=14)


def stream(pieces: list[bytes], **options: Any) -> Tally:
    tap = StreamTap(Metering(ASKED, **options))
    for piece in pieces:
        tap.feed(piece)
    return tap.close()


def test_a_stream_with_usage_is_metered_from_it(cuts: Cuts) -> None:
    for pieces in cuts(TEXT % b"Hello" + STOP + USAGE + DONE):
        assert stream(pieces) == Tally(SEEN, "stop", complete=True)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_t23_other_line_ends_are_metered_alike(cuts: Cuts, end: bytes) -> None:
    for pieces in cuts((TEXT % b"Hello" + STOP + USAGE + DONE).replace(b"\n", end)):
        assert stream(pieces) == Tally(SEEN, "stop", complete=True)


@pytest.mark.parametrize(
    "chunk",
    [
        USAGE.replace(b"data: ", b"data:"),
        USAGE.replace(b'"usage":', b'\ndata: "usage" : '),
        b'data: {"choices":[{"index":0,"usage":{"prompt_tokens":10,"completion_tokens":4}}]}\n\n',
        USAGE.replace(b'"usage"', b'"x_groq":{"usage"').replace(b"}}", b"}}}"),
        USAGE.replace(b"}}", b'},"detail":{"usage":{"prompt_tokens":99}}}'),
        USAGE.replace(b"10", b"1") + USAGE,  # cumulative: the last one counts
        USAGE + b'data: {"usage":{broken\n\n' + b'data: {"choices":[]}\n\n',
    ],
)
def test_usage_is_found_wherever_vendors_put_it(cuts: Cuts, chunk: bytes) -> None:
    for pieces in cuts(TEXT % b"Hello" + chunk + DONE):
        assert stream(pieces).usage == SEEN


def test_t27_a_stream_without_its_end_is_incomplete(cuts: Cuts) -> None:
    for pieces in cuts(TEXT % b"12345678" + STOP):
        tally = stream(pieces)
        assert (tally.complete, tally.finish_reason) == (False, "stop")
        assert tally.usage == Usage(prompt_tokens=15, completion_tokens=2, total_tokens=17, estimated=True)
        assert stream(pieces, ends_with_done=False).complete
    assert not stream([TEXT % b"x"], ends_with_done=False).complete
    assert not stream([]).complete
    assert not stream([TEXT % b"data: [DONE]"]).complete
    assert stream([STOP, DONE[:-2]]).complete


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'data: {"error":{"message":"Overloaded","code":503}}\n\n', "Overloaded"),
        (b'data: {"error":"Overloaded"}\n\n', "Overloaded"),
        (b'data: {"object":"error","message":"Overloaded"}\n\n', "Overloaded"),
        (b'event: error\ndata: {"message":"Overloaded"}\n\n', "Overloaded"),
        (b'event:error\ndata: {"error":{"message":"key sk-abcdef123456"}}\n\n', "key [redacted]"),
        (b'data: {"error":{}, "object":"error"}\n\n', "The provider reported an error."),
        (b'data: {"choices":[{"finish_reason":"error"}],"error":{"message":"Overloaded"}}\n\n', "Overloaded"),
    ],
)
def test_t28_an_error_in_the_stream_is_told(cuts: Cuts, event: bytes, message: str) -> None:
    for pieces in cuts(TEXT % b"1234" + event):
        tally = stream(pieces)
        assert (tally.error, tally.complete) == (message, False)
        assert tally.usage is not None
        assert tally.usage.completion_tokens == 1


def test_t28_an_error_before_the_first_word_costs_nothing() -> None:
    tally = stream([b'data: {"error":{"message":"No"}}\n\n'])
    assert tally.usage == Usage(estimated=True)


@pytest.mark.parametrize(
    "text", [b'\\"error\\":{\\"message\\":1}', b"event: error", b'\\"usage\\":{}', b"[DONE]"]
)
def test_a_models_words_are_not_taken_for_the_vendors(text: bytes) -> None:
    tally = stream([TEXT % text + STOP + USAGE.replace(b"{", b'{"error":null,', 1) + DONE])
    assert (tally.error, tally.usage, tally.complete) == (None, SEEN, True)


def test_t28_broken_json_never_raises() -> None:
    tally = stream(
        [b'data: {"usage":{"prompt_tokens":1\n\ndata: {"error":{\n\ndata: \xff"usage":{\n\n', DONE]
    )
    assert tally.usage is not None
    assert tally.usage.estimated
    assert tally.error is None


def test_t73_a_cancelled_stream_is_billed_by_what_came(cuts: Cuts) -> None:
    for count in (0, 1, 100):
        tally = stream([TEXT % b"word"] * count)
        assert tally.usage == Usage(
            prompt_tokens=15, completion_tokens=count, total_tokens=15 + count, estimated=True
        )


def test_reasoning_and_tool_arguments_are_output_too() -> None:
    chunk = (
        b'data: {"choices":[{"delta":{"reasoning_content":"1234","tool_calls":[{"function":'
        b'{"name":"f","arguments":"{\\"a\\":1}"}}]}}]}\n\n'
    )
    tally = stream([chunk])
    assert tally.usage is not None
    assert tally.usage.completion_tokens == 4  # 4 + 9 bytes, escapes counted
    completion = b'data: {"choices":[{"text":"12345678"}]}\n\n'
    assert stream([completion], is_chat=False).usage == Usage(
        prompt_tokens=15, completion_tokens=2, total_tokens=17, estimated=True
    )


def test_a_whole_reply_that_is_an_error_says_so() -> None:
    tap = WholeTap(Metering(ASKED))
    tap.feed(b'{"error":{"message":"No credits","code":402}}')  # OpenRouter, with status 200
    assert tap.close() == Tally(Usage(estimated=True), None, complete=True, error="No credits")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"choices":[', b"[]", b'{"usage":{"a":1e400}}'])
def test_t99_what_is_no_json_object_is_incomplete(body: bytes) -> None:
    tap = WholeTap(Metering(ASKED))
    tap.feed(body)
    tally = tap.close()
    assert not tally.complete
    assert tally.usage is not None
    assert tally.usage.estimated


def test_a_long_stream_is_metered_like_a_short_one(cuts: Cuts) -> None:
    events = [TEXT % b"word"] * 2000
    expected = Tally(SEEN, "stop", complete=True)
    for size in (100, 1000, 16_384, 50_000, 10**6):
        data = b"".join(events) + STOP + USAGE + DONE
        assert stream([data[i : i + size] for i in range(0, len(data), size)]) == expected
        cut = b"".join(events)
        tally = stream([cut[i : i + size] for i in range(0, len(cut), size)])
        assert tally.usage is not None
        assert tally.usage.completion_tokens == 2000


def test_t25_an_event_of_3_mib_is_passed_over_in_bounded_memory() -> None:
    big = TEXT % (b"A" * (3 * 2**20))
    data = TEXT % b"word" + big + STOP + USAGE + DONE
    without = TEXT % b"word" + big + TEXT % b"word"
    for size in (1000, 65_536, len(data)):
        tap = StreamTap(Metering(ASKED))
        for i in range(0, len(data), size):
            tap.feed(data[i : i + size])
            assert sum(map(len, tap._parts)) <= 600_000
        assert tap.close() == Tally(SEEN, "stop", complete=True)
        tally = stream([without[i : i + size] for i in range(0, len(without), size)])
        assert tally.usage is not None
        assert tally.usage.completion_tokens == 2


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_end_of_a_long_event_may_lie_across_two_reads(end: bytes) -> None:
    big = (TEXT % (b"A" * 300_000))[:-2] + end
    for cut in range(1, len(end) + 1):
        pieces = [big[:-cut], big[len(big) - cut :] + STOP + DONE]
        assert stream(pieces).finish_reason == "stop"


def test_broken_and_odd_streams_take_linear_time() -> None:
    started = time.perf_counter()
    for line in (b'data: {"usage":{\n', b'data: {"error"\n\n', b'"content":"\\', b"[DONE]"):
        stream([line * (200_000 // len(line))])
    assert time.perf_counter() - started < 5


PARTS = st.sampled_from(
    [
        TEXT % b"Hello",
        TEXT % "你好".encode(),
        STOP,
        USAGE,
        USAGE.replace(b"10", b"-1"),
        DONE,
        b": c\n\n",
        b"\n",
        b"\r\n",
        b'data: {"error":{"message":"No"}}\n\n',
        b"event: error\ndata: x\n\n",
        b'data: {"usage":{\n\n',
        b"\xff",
        b"data",
        USAGE.replace(b"\n", b"\r\n"),
        (TEXT % b"x").replace(b"\n", b"\r"),
        TEXT % (b"y" * 9000),
    ]
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, max_size=12), data=st.data())
def test_the_tally_does_not_depend_on_the_reads(parts: list[bytes], data: Any) -> None:
    joined = b"".join(parts)
    points = sorted(data.draw(st.sets(st.integers(0, len(joined)), max_size=8)))
    pieces = [joined[a:b] for a, b in zip([0, *points], [*points, len(joined)], strict=True)]
    expected = stream([joined])
    assert stream(pieces) == expected
    assert stream([joined[i : i + 5] for i in range(0, len(joined), 5)]) == expected


@given(data=st.binary(max_size=300))
def test_a_tap_never_raises(data: bytes) -> None:
    stream([data])
    tap = WholeTap(Metering(ASKED))
    tap.feed(data)
    tap.close()
