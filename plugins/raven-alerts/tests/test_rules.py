"""Settings: what makes no sense stops the start, with the rule's name and the remedy."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from raven_alerts import Alerts
from raven_alerts.rules import read_rules
from raven_alerts.settings import Settings

from raven_proxy import ConfigError
from raven_proxy.config import decode_table

MAIL = {"host": "mail.example.com", "sender": "raven@example.com"}


def rule(**fields: Any) -> dict[str, Any]:
    return {"name": "r", "when": "provider_day", "threshold": "1"} | fields


def read(**settings: Any) -> Any:
    return read_rules(decode_table(settings, Settings, "[plugin.alerts]"))


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_SECRET", "0123456789")


def test_amounts_are_whole_numbers() -> None:
    """Dollars become nano-dollars exactly; counts stay; a stop of `true` is the threshold."""
    first, second, third, _ = read(
        rules=[
            rule(threshold="0.1", stop="0.3"),
            rule(name="s", measure="tokens", threshold=10, stop=True),
            rule(name="t", when="budget", threshold=0.8),
        ]
    )
    assert (first.threshold, first.stop) == (100_000_000, 300_000_000)
    assert (second.threshold, second.stop) == (10, 10)
    assert third.share == Decimal("0.8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rules": [rule(threshold=0.5)]}, "as text"),
        ({"rules": [rule(threshold="-1")]}, "as text"),
        ({"rules": [rule(threshold="0")]}, "as text"),
        ({"rules": [rule(threshold="1e3")]}, "as text"),
        ({"rules": [rule(measure="tokens")]}, "whole number of tokens"),
        ({"rules": [rule(measure="requests", threshold=0)]}, "whole number of requests"),
        ({"rules": [rule(stop="0.5")]}, "below the threshold"),
        ({"rules": [rule(), rule()]}, "used twice"),
        ({"rules": [rule(name="a\nb")]}, "printable"),
        ({"rules": [rule(name="budget-thresholds")]}, "taken"),
        ({"rules": [{"name": "r", "when": "balance"}]}, "threshold is missing"),
        ({"rules": [rule(when="balance", stop=True)]}, "only provider_day"),
        ({"rules": [rule(when="budget", threshold=1.5)]}, "share of the limit"),
        ({"rules": [rule(when="balance", upstream="x")]}, "for provider_day"),
        ({"rules": [rule(when="weekly")]}, "when"),
        ({"rules": [rule(treshold=1)]}, "did you mean 'threshold'"),
        ({"mail_to": ["ops@example.com"]}, "no \\[plugin.alerts.mail\\]"),
        ({"mail": MAIL, "mail_to": ["ops@example.com\r\nBcc: a@b.c"]}, "not a plain mail address"),
        ({"mail": MAIL | {"sender": "Raven <r@example.com>"}}, "not a plain mail address"),
        ({"mail": MAIL | {"username": "raven"}}, "belong together"),
        (
            {"mail": MAIL | {"security": "none", "username": "u", "password": {"env": "MAIL_SECRET"}}},
            "not sent in the clear",
        ),
        ({"mail": MAIL | {"password": "as it is"}}, "password"),
    ],
)
def test_what_makes_no_sense_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(**settings)


def test_an_error_names_the_table() -> None:
    settings = msgspec.convert({"mail_to": ["a@b.example"]}, Settings)
    with pytest.raises(ConfigError, match=r"^\[plugin.alerts\]: mail_to"):
        Alerts(settings)
    missing = msgspec.convert({"mail": MAIL | {"ca_file": "/does/not/exist"}}, Settings)
    with pytest.raises(ConfigError, match="ca_file"):
        Alerts(missing)


def test_which_days_a_rule_covers() -> None:
    """Without an organisation the day of all; with a glob each one's own."""
    everybody, each, _ = read(rules=[rule(upstream="openai-*"), rule(name="s", organization="org_*")])
    assert everybody.covers("openai-main", None)
    assert not everybody.covers("openai-main", "org_a")
    assert not everybody.covers("groq", None)
    assert each.covers("groq", "org_a")
    assert not each.covers("groq", None)
    assert not each.covers("groq", "team")
