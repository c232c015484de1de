"""A translated reply is what the vendor said, in the client's dialect; a broken one never looks whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.errors import GatewayError, InvalidRequest, UpstreamRefused, UpstreamTruncated
from raven_proxy.exchange import Exchange
from raven_proxy.faces import ENVELOPE
from raven_proxy.hub import ChatRequest, EmbeddingsRequest
from raven_proxy.testing import ExchangeFactory, run_stage
from raven_proxy.translation import JSON, SSE, is_strict, open_translation, read_request, refuse_dropped

from .toy_dialect import TOY, ToyVendor

STREAM = b"start\nthink hm\nsay one\nsay two\nuse 4 2\nfinish stop\nend\n"


@pytest.fixture
def make(exchange: ExchangeFactory) -> Any:
    def make(*, stream: bool = True, strict: str = "", dialect: Any = TOY) -> Exchange:
        headers = {"x-raven-strict": strict} if strict else {}
        made = exchange({"model": "m", "stream": stream}, headers=headers)
        made.face = msgspec.structs.replace(made.face, dialect=dialect)
        return made

    return make


def test_a_stream_becomes_a_stream(make: Any) -> None:
    """Whatever the cuts; the tap knows what was used and how it ended."""
    assert (
        run_stage(lambda: open_translation(make(), ToyVendor(), streamed=True), STREAM) == b"<one><two>[6]."
    )
    stage = open_translation(make(), ToyVendor(), streamed=True)
    stage.feed(STREAM)
    stage.close()
    tally = stage.tap.close()
    assert tally.usage is not None
    assert (tally.usage.total_tokens, tally.finish_reason, tally.complete) == (6, "stop", True)
    assert stage.content_type == SSE


def test_usage_that_nobody_reported_is_estimated_for_the_client_too(make: Any) -> None:
    """From the model's words, thinking included, and marked."""
    stage = open_translation(make(), ToyVendor(), streamed=True)
    assert stage.feed(b"start\nthink 1234\nsay 5678\nfinish stop\nend\n").endswith(b"~].")
    usage = stage.tap.close().usage
    assert usage is not None
    assert (usage.completion_tokens, usage.estimated) == (2, True)


def test_what_comes_after_the_end_is_not_passed_on(make: Any) -> None:
    stage = open_translation(make(), ToyVendor(), streamed=True)
    assert stage.feed(STREAM) == b"<one><two>[6]."
    assert stage.feed(b"say more\n") == stage.close() == b""


def test_a_stream_that_breaks_off_has_no_end(make: Any) -> None:
    stage = open_translation(make(), ToyVendor(), streamed=True)
    assert stage.feed(b"start\nsay one\nfinish stop\n") + stage.close() == b"<one>"
    assert not stage.tap.close().complete


def test_an_error_inside_a_stream_ends_it_in_the_clients_dialect(make: Any) -> None:
    """Scrubbed, with the status that was meant, and no terminal event."""
    data = b"start\nsay one\nerror used up by sk-abcdefghij1234\nsay more\nend\n"
    out = run_stage(lambda: open_translation(make(), ToyVendor(), streamed=True), data)
    assert out == b"<one>!429 used up by [redacted]!"


def test_an_error_before_anything_else_is_a_proper_refusal(make: Any) -> None:
    stage = open_translation(make(), ToyVendor(), streamed=True)
    with pytest.raises(UpstreamRefused) as caught:
        stage.feed(b"start\nerror too many\n")
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
    tally = stage.tap.close()
    assert (tally.error, tally.usage and tally.usage.total_tokens) == ("too many", 0)


def test_an_event_that_nobody_understands_ends_the_stream(make: Any) -> None:
    """What was said before it still goes out."""
    stage = open_translation(make(), ToyVendor(), streamed=True)
    out = stage.feed(b"say one\nnonsense\nsay two\n")
    assert out.startswith(b"<one>!502 ")
    assert b"two" not in out
    assert not stage.tap.close().complete


def test_whole_becomes_whole(make: Any) -> None:
    stage = open_translation(make(stream=False), ToyVendor(), streamed=False)
    assert run_stage(
        lambda: open_translation(make(stream=False), ToyVendor(), streamed=False), b'{"text":"hi"}'
    )
    assert stage.feed(b'{"text":') + stage.feed(b'"hi"}') == b""
    assert stage.close().startswith(b"hi [")
    assert stage.content_type == JSON
    assert stage.tap.close().complete


def test_a_client_gets_what_it_asked_for(make: Any) -> None:
    """A stream of a whole reply, and a whole reply of a stream."""
    stage = open_translation(make(), ToyVendor(), streamed=False)
    stage.feed(b'{"text":"hi"}')
    assert (stage.close()[:4], stage.content_type) == (b"<hi>", SSE)
    stage = open_translation(make(stream=False), ToyVendor(), streamed=True)
    stage.feed(STREAM)
    assert (stage.close(), stage.content_type) == (b"onetwo [6]", JSON)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"other":1}', b"<html>", b"\xff"])
def test_a_whole_reply_that_cannot_be_read_is_a_502(body: bytes, make: Any) -> None:
    stage = open_translation(make(stream=False), ToyVendor(), streamed=False)
    stage.feed(body)
    with pytest.raises(UpstreamTruncated):
        stage.close()


@pytest.mark.parametrize(("data", "status"), [(b"say one\n", 502), (b"say one\nerror no\n", 429)])
def test_half_a_stream_is_no_whole_reply(data: bytes, status: int, make: Any) -> None:
    stage = open_translation(make(stream=False), ToyVendor(), streamed=True)
    stage.feed(data)
    with pytest.raises(GatewayError) as caught:
        stage.close()
    assert caught.value.status == status


def test_other_kinds_of_reply_are_metered_by_their_usage(make: Any) -> None:
    stage = open_translation(make(stream=False), ToyVendor(), streamed=False)
    stage.feed(b'{"vectors":[[1.0]]}')
    assert stage.close() == b"[[1.0]]"
    tally = stage.tap.close()
    assert tally.usage is not None
    assert (tally.usage.prompt_tokens, tally.complete) == (3, True)


def test_a_dialect_that_only_passes_cannot_be_translated(make: Any) -> None:
    """The client reads which upstream it was and what to do."""
    with pytest.raises(InvalidRequest, match="choose another model"):
        read_request(make(dialect=ENVELOPE), ChatRequest)
    with pytest.raises(GatewayError):
        open_translation(make(dialect=ENVELOPE), ToyVendor(), streamed=True)


def test_a_request_is_read_once_an_attempt(make: Any) -> None:
    made = make()
    assert read_request(made, ChatRequest) is read_request(made, ChatRequest)
    with pytest.raises(InvalidRequest):
        read_request(made, EmbeddingsRequest)


@pytest.mark.parametrize("strict", ["", "false"])
def test_parameters_are_dropped_silently(strict: str, make: Any) -> None:
    refuse_dropped(make(strict=strict), ["colour"])
    refuse_dropped(make(strict="true"), [])


def test_strict_names_every_one_of_them(make: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_dropped(make(strict=" True"), ["colour", "taste"])
    error = caught.value
    assert (error.code, error.param) == ("unsupported_parameter", "colour")
    assert "colour, taste" in error.message
    assert error.metadata == {"unsupported_parameters": ["colour", "taste"]}


@given(cuts=st.lists(st.integers(0, len(STREAM))))
def test_any_cut_gives_the_same_stream(cuts: list[int]) -> None:
    """By Hypothesis: reads of any size."""
    places = sorted({0, *cuts, len(STREAM)})
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    nothing: Any = None
    exchange = Exchange(nothing, nothing, "req_test", body=b"{}")
    stage = open_translation(_streaming(exchange), ToyVendor(), streamed=True)
    assert b"".join(map(stage.feed, pieces)) + stage.close() == b"<one><two>[6]."


def _streaming(exchange: Any) -> Any:
    from raven_proxy.faces import Call, Face, read_nothing

    exchange.call = Call(stream=True)
    exchange.face = Face(name="toy", path="/toy", dialect=TOY, read_call=read_nothing)
    return exchange


@pytest.mark.parametrize(
    ("value", "strict"), [(None, False), ("true", True), ("TRUE", True), ("false", False)]
)
def test_strict_is_true_or_false(exchange: Any, value: str | None, strict: bool) -> None:
    """As the header says; without it nothing is strict."""
    assert is_strict(exchange({}, headers={} if value is None else {"x-raven-strict": value})) is strict


@pytest.mark.parametrize("value", ["1", "yes", "", "true, true"])
def test_strict_of_another_word_is_refused(exchange: Any, value: str) -> None:
    """Who wanted an error must not go without it for a word."""
    with pytest.raises(InvalidRequest) as caught:
        is_strict(exchange({}, headers={"x-raven-strict": value}))
    assert caught.value.param == "X-Raven-Strict"
