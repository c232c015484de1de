"""Whose limits a request has is found once for each caller, and anew when the caller changes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import msgspec
from raven_limits.rules import NO_RULES, RuleBook

from raven_proxy import Exchange, Principal
from raven_proxy.config import Plan

ANN = Principal(key_id="key_ann", attributes={"member_id": "mem_ann", "rate_limit_rpm": 5})
NOTHING = cast("Exchange", None)  # where no model has a limit, the request is not looked at


def bound(principal: Principal, **attributes: Any) -> Principal:
    """Make the caller anew, as whoever binds keys to members does for each request."""
    return msgspec.structs.replace(principal, attributes={**principal.attributes, **attributes})


def test_a_members_rules_are_found_once() -> None:
    book = RuleBook({}, members={"mem_*": Plan(requests_per_minute=3)})
    first = book.find(NOTHING, bound(ANN, rate_multiplier=Decimal(2)))
    assert [claim.limit for claim in first.requests] == [5, 3]
    assert book.find(NOTHING, bound(ANN, rate_multiplier=Decimal(2))) is first


def test_a_key_that_was_changed_has_its_new_limits_at_once() -> None:
    book = RuleBook({})
    assert [claim.limit for claim in book.find(NOTHING, ANN).requests] == [5]
    assert [claim.limit for claim in book.find(NOTHING, bound(ANN, rate_limit_rpm=9)).requests] == [9]
    assert book.find(NOTHING, bound(ANN, rate_limit_rpm=None)) is NO_RULES
