"""Replies that pass untouched are metered by their dialect's own reader."""

from __future__ import annotations

from raven_proxy.errors import UpstreamError
from raven_proxy.hub import Event
from raven_proxy.metering import EventTap, Meter, WholeTap
from raven_proxy.testing import ExchangeFactory

from .toy_dialect import ToyReader, ToyVendor


def test_a_stream(exchange: ExchangeFactory) -> None:
    tap = EventTap(exchange(), ToyReader())
    for byte in b"start\nsay hello\nargs {}\nuse 5 3\nfinish tool_calls\nend":
        tap.feed(bytes([byte]))
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.usage.total_tokens, tally.finish_reason, tally.complete) == (8, "tool_calls", True)


def test_a_stream_that_broke_off_is_estimated(exchange: ExchangeFactory) -> None:
    """By what it said, in UTF-8 bytes."""
    tap = EventTap(exchange(), ToyReader())
    tap.feed("say ééé\nargs {}".encode())
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.usage.completion_tokens, tally.usage.estimated, tally.complete) == (2, True, False)


def test_a_last_event_that_broke_off_is_no_end(exchange: ExchangeFactory) -> None:
    """What a reader cannot make sense of at the very end leaves the stream incomplete, and the tap alive."""

    class Broken(ToyReader):
        def close(self) -> list[Event]:
            raise ValueError("half an event")

    tally = EventTap(exchange(), Broken()).close()
    assert not tally.complete
    assert tally.usage is not None
    assert tally.usage.estimated


def test_an_error_before_the_first_word_costs_nothing(exchange: ExchangeFactory) -> None:
    tap = EventTap(exchange(), ToyReader())
    tap.feed(b"error no\n")
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.usage.total_tokens, tally.error) == (0, "no")


def test_a_whole_reply(exchange: ExchangeFactory) -> None:
    tap = WholeTap(exchange(), ToyVendor().read_reply)
    tap.feed(b'{"text":')
    tap.feed(b'"12345678"}')
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.usage.completion_tokens, tally.finish_reason, tally.complete) == (2, "stop", True)


def test_vectors(exchange: ExchangeFactory) -> None:
    tap = WholeTap(exchange(), ToyVendor().read_reply)
    tap.feed(b'{"vectors":[]}')
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.usage.prompt_tokens, tally.complete) == (3, True)


def test_what_is_no_reply_is_complete_only_if_it_is_json(exchange: ExchangeFactory) -> None:
    """Half a document is broken off; another document is merely not understood."""
    for body, complete in ((b'{"text":', False), (b'{"other":1}', True), (b"<html>", False)):
        tap = WholeTap(exchange(), ToyVendor().read_reply)
        tap.feed(body)
        assert tap.close().complete is complete


def test_an_error_under_a_status_of_200(exchange: ExchangeFactory) -> None:
    def refuse(body: bytes) -> None:
        raise UpstreamError("no credit")

    tally = WholeTap(exchange(), refuse).close()
    assert (tally.error, tally.complete) == ("no credit", True)


def test_a_meter_starts_at_nothing(exchange: ExchangeFactory) -> None:
    tally = Meter(exchange()).tally()
    assert (tally.complete, tally.error, tally.finish_reason) == (False, None, None)
