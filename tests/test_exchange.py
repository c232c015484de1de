"""The exchange: one request, and nothing in it that gives a secret away."""

from __future__ import annotations

import pytest

from raven_proxy import Credential, Exchange, InvalidRequest, Outcome
from raven_proxy.testing import ExchangeFactory


def test_a_credential_shows_its_source_and_never_its_value(exchange: ExchangeFactory) -> None:
    made = exchange()
    made.credential = Credential("sk-very-secret", source="byok")
    assert repr(made.credential) == "Credential(source='byok')"
    assert "very-secret" not in f"{made.credential} {made.credential!r}"
    assert made.credential.__rich_repr__() == [("source", "byok")]


def test_an_exchange_shows_its_id_and_nothing_that_it_carries(exchange: ExchangeFactory) -> None:
    """Also where a traceback is written with local variables."""
    made = exchange()
    assert repr(made) == f"Exchange({made.id})"
    assert made.__rich_repr__() == [("id", made.id)]


def test_a_replaced_body_is_what_is_judged_from_then_on(exchange: ExchangeFactory) -> None:
    made = exchange({"model": "a", "stream": True})
    assert (made.model, made.stream) == ("a", True)
    made.replace_body(b'{"model":"b"}')
    assert (made.model, made.stream, made.body) == ("b", False, b'{"model":"b"}')
    with pytest.raises(InvalidRequest):
        made.replace_body(b"{")
    assert made.body == b'{"model":"b"}'


def test_time_passes_from_the_arrival_on(exchange: ExchangeFactory) -> None:
    made = exchange()
    first = made.elapsed_ms()
    assert 0 <= first <= made.elapsed_ms()


def test_a_new_exchange_has_not_ended_well(exchange: ExchangeFactory) -> None:
    assert exchange().outcome is Outcome.FAILED


def test_it_takes_no_attribute_that_it_does_not_know(exchange: ExchangeFactory) -> None:
    with pytest.raises(AttributeError):
        exchange().surprise = 1  # type: ignore[attr-defined]
    assert len(Exchange.__slots__) == len(set(Exchange.__slots__))
