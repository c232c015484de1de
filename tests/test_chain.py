"""The chain: decoder, a tap that reads a copy, stages that fail closed."""

from __future__ import annotations

import gzip

import pytest
from structlog.testing import capture_logs

from raven_proxy.chain import Chain, NamedStage
from raven_proxy.encoding import Inflater
from raven_proxy.errors import PluginFailed, Refused
from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally
from raven_proxy.testing import ExchangeFactory


class Tap:
    """Keeps what it is fed; breaks when it is told to."""

    def __init__(self, breaks: str = "") -> None:
        self.seen = b""
        self.breaks = breaks

    def feed(self, data: bytes) -> None:
        if self.breaks == "feed":
            raise ValueError("tap")
        self.seen += data

    def close(self) -> Tally:
        if self.breaks == "close":
            raise ValueError("tap")
        return Tally(Usage(prompt_tokens=3), "stop")


class Holding:
    """Holds everything back until the end, then puts its name around it."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        self.held += data
        return b""

    def close(self) -> bytes:
        return self.name + b"(" + self.held + b")"


def stage(one: Holding) -> NamedStage:
    return NamedStage("plug", one.feed, one.close)


def test_bytes_pass_untouched_where_nobody_takes_part(exchange: ExchangeFactory) -> None:
    made = exchange()
    chain = Chain(made, None, None, ())
    data = b"data: x\n\n"
    assert chain.feed(data) is data
    assert chain.close() == b""
    assert made.produced_bytes == len(data)
    assert chain.settle() == Tally()


def test_what_one_stage_held_back_goes_through_the_next(exchange: ExchangeFactory) -> None:
    chain = Chain(exchange(), None, None, (stage(Holding("a")), stage(Holding("b"))))
    assert chain.feed(b"x") + chain.feed(b"y") == b""
    assert chain.close() == b"b(a(xy))"


def test_the_tap_sees_the_providers_bytes_decoded_and_before_any_stage(exchange: ExchangeFactory) -> None:
    made, tap = exchange(), Tap()
    chain = Chain(made, Inflater(), tap, (stage(Holding("a")),))
    chain.feed(gzip.compress(b"hello"))
    assert chain.close() == b"a(hello)"
    assert tap.seen == b"hello"
    assert chain.settle().finish_reason == "stop"
    assert made.usage == Usage(prompt_tokens=3)
    assert made.finish_reason == "stop"
    assert chain.settle() == Tally()  # a second time there is nothing to tell


@pytest.mark.parametrize("breaks", ["feed", "close"])
def test_a_broken_tap_is_dropped_and_changes_nothing(exchange: ExchangeFactory, breaks: str) -> None:
    made = exchange()
    chain = Chain(made, None, Tap(breaks), ())
    with capture_logs() as events:
        assert chain.feed(b"one") + chain.feed(b"two") == b"onetwo"
        chain.close()
        chain.settle()
    assert made.usage is None
    assert [event["event"] for event in events] == ["usage tap failed"]


@pytest.mark.parametrize("moment", ["feed", "close"])
def test_a_stage_that_raises_lets_nothing_through_and_is_named(
    exchange: ExchangeFactory, moment: str
) -> None:
    def fails(*_: bytes) -> bytes:
        raise ValueError("inside")

    ok = Holding("a")
    broken = NamedStage(
        "plug", fails if moment == "feed" else ok.feed, fails if moment == "close" else ok.close
    )
    chain = Chain(exchange(), None, None, (broken,))
    with capture_logs() as events, pytest.raises(PluginFailed) as failure:
        _ = chain.feed(b"x") + chain.close()
    assert (failure.value.plugin, failure.value.hook) == ("plug", "open_stage")
    assert events[0]["plugin"] == "plug"


def test_a_stage_may_refuse_in_its_own_words(exchange: ExchangeFactory) -> None:
    def refuses(_: bytes) -> bytes:
        raise Refused("Not this.", code="guardrail_blocked")

    chain = Chain(exchange(), None, None, (NamedStage("plug", refuses, lambda: b""),))
    with pytest.raises(Refused, match="Not this"):
        chain.feed(b"x")
