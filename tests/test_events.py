"""Events: what is told of something that happened."""

from __future__ import annotations

import time

import msgspec

from raven_proxy.events import Event


def test_an_event_has_a_name_and_a_moment() -> None:
    """Each its own; a publisher may give its own name instead, and what it is can be written as JSON."""
    one, other = (Event(type="a.b", organization_id=None, data={"n": 1}) for _ in range(2))
    assert one.id != other.id
    assert abs(one.at - time.time()) < 60
    assert Event(type="a.b", organization_id=None, data={}, id="evt_own").id == "evt_own"
    assert msgspec.json.decode(msgspec.json.encode(one))["data"] == {"n": 1}
