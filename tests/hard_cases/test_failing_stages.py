"""T122: stages that break, and answers that are not what the contract says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Outcome, Stage, hookimpl
from raven_proxy.sse import EventReader

from .broken import misbehaving
from .conftest import Case
from .wire import CANARY


class Staging:
    """Opens a stage that misbehaves in `feed`, `close` or its opening."""

    def __init__(self, place: str, deed: Callable[[], Any], after_bytes: int = 0) -> None:
        self.place = place
        self.deed = deed
        self.after_bytes = after_bytes

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage | None:
        if self.place == "open":
            self.deed()
        return _Spoiled(self)


class _Spoiled:
    def __init__(self, owner: Staging) -> None:
        self.owner = owner
        self.seen = 0

    def feed(self, data: bytes) -> bytes:
        self.seen += len(data)
        if self.owner.place == "feed" and self.seen > self.owner.after_bytes:
            return self.owner.deed()  # type: ignore[no-any-return]
        return data.replace(CANARY.encode(), b"[filtered]")

    def close(self) -> bytes:
        return self.owner.deed() if self.owner.place == "close" else b""


def boom() -> Any:
    raise RuntimeError("stage")


def leave() -> Any:
    raise SystemExit(1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["open", "feed", "close"])
@pytest.mark.parametrize("deed", [boom, leave, lambda: None, lambda: "text", lambda: 7], ids=range(5))
async def test_t122_a_stage_that_breaks_passes_nothing(
    case: Case, place: str, stream: bool, deed: Callable[[], Any]
) -> None:
    """A stage that raises or gives no bytes: an error reply or event, a cut, and no unfiltered byte."""
    if place == "open" and deed not in (boom, leave):
        deed = boom
    case.may_fail = True
    gateway = await case.start(Staging(place, deed))
    reply = await case.chat(stream=stream)
    assert CANARY.encode() not in reply.body
    if stream and reply.status == 200:
        assert not reply.is_whole
        assert b"[DONE]" not in reply.body or place == "close"
        last = EventReader().feed(reply.body)[-1].data
        assert msgspec.json.decode(last or b"")["error"]["code"] == "internal_error"
    else:
        case.refused(reply, 500, code="internal_error")
    ended = await case.last()
    assert ended.outcome is Outcome.FAILED
    named = [line for line in case.log if line.get("plugin") == "staging"]
    assert named
    assert named[0]["request_id"] == reply.headers["x-request-id"]
    assert gateway.gateway.observation.failures == {("staging", "open_stage"): 1}
    if stream:
        await case.upstream.wait_until(
            lambda: case.upstream.connections == 0 or case.upstream.seen[0].ended_at
        )


async def test_t122_a_stage_that_breaks_in_the_middle_ends_in_an_error_event(case: Case) -> None:
    """After some bytes of a stream: what was filtered stands, then the error event, then the cut."""
    case.may_fail = True
    await case.start(Staging("feed", boom, after_bytes=600))
    reply = await case.chat("mock/fx-paced-10", stream=True)
    assert reply.status == 200
    assert not reply.is_whole
    events = EventReader().feed(reply.body)
    assert len(events) > 1
    error = msgspec.json.decode(events[-1].data or b"")["error"]
    assert error["code"] == "internal_error"
    assert error["request_id"] == reply.headers["x-request-id"]
    assert "stage" not in error["message"]
    await case.settle()
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


@pytest.mark.parametrize("junk", ["text", 7, {"a": 1}, [1], object()], ids=lambda junk: type(junk).__name__)
@pytest.mark.parametrize("hook", ["answer", "choose_upstreams", "provide_credential"])
async def test_t122_an_answer_of_the_wrong_kind_fails_closed(case: Case, hook: str, junk: Any) -> None:
    """A hook that answers something else than its contract says: 5xx, nothing upstream."""

    async def deed(_exchange: Any) -> Any:
        return junk

    case.may_fail = True
    await case.start(misbehaving(hook, deed))
    for stream in (False, True):
        reply = await case.chat(stream=stream)
        assert reply.status in {500, 503}
        case.refused(reply, reply.status)
    assert case.upstream.seen == []
    assert all(one.outcome is not Outcome.COMPLETED for one in await case.settle())


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "a\r\nX-Evil: 1"), ("X-A", "a\nb"), ("X-A", "a\rb"), ("X-A", "a\x00"), ("X-A\r\nX-Evil", "1")],
)
@pytest.mark.parametrize("outgoing", [False, True])
async def test_t122_headers_that_would_break_out_are_never_written(
    case: Case, name: str, value: str, outgoing: bool
) -> None:
    """A header of a plugin with a line break in it reaches neither client nor provider."""

    async def deed(exchange: Any) -> None:
        if outgoing:
            exchange.outgoing.headers[name] = value
        else:
            exchange.response_headers[name] = value

    case.may_fail = True
    await case.start(misbehaving("before_send" if outgoing else "check_request", deed))
    reply = await case.chat()
    assert reply.status in {400, 500}
    case.refused(reply, reply.status)
    assert "x-evil" not in reply.headers
    assert all("x-evil" not in seen.headers for seen in case.upstream.seen)
