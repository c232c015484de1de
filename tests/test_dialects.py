"""The framing that vendors with server-sent events share."""

from __future__ import annotations

from collections.abc import Iterable

from raven_proxy import hub
from raven_proxy.dialects import SSEReader
from raven_proxy.sse import Event

STREAM = b": hello\r\n\r\nevent: a\r\ndata: one\r\n\r\ndata: two\n\nretry: 3\n\ndata: three"


def read(event: Event) -> Iterable[hub.Event]:
    assert event.data is not None
    yield hub.TextDelta(f"{(event.name or b'-').decode()}:{event.data.decode()}")


def end() -> Iterable[hub.Event]:
    yield hub.Ended()


def test_events_with_data_are_read_whatever_the_cut() -> None:
    """Comments and retry are passed over; the last event may lack its empty line; the end is told once."""
    expected = [hub.TextDelta("a:one"), hub.TextDelta("-:two"), hub.TextDelta("-:three"), hub.Ended()]
    for cut in range(len(STREAM)):
        reader = SSEReader(read, end)
        found = [*reader.feed(STREAM[:cut]), *reader.feed(STREAM[cut:]), *reader.close()]
        assert found == expected
