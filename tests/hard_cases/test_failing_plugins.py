"""T122, T123: hooks that raise or hang, from start to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raven_proxy import ConfigError, Exchange, GatewayError, Outcome, UpstreamError, hookimpl
from raven_proxy import service as service_module
from raven_proxy.gateway import Gateway

from .broken import cancelled_inside, hanging, misbehaving, raising, raising_later
from .conftest import Case
from .wire import CANARY, chat, post

GATES = "authenticate check_request answer choose_upstreams provide_credential before_send".split()
UNSENT = set(GATES)  # these run before anything goes upstream


class After:
    """A plugin behind the broken one: it must be called all the same."""

    def __init__(self) -> None:
        self.finished = 0

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.finished += 1


def key_for(hook: str) -> str:
    """The tests' own key is answered for before a plugin's `authenticate` is asked."""
    from raven_proxy.harness import ADMIN_KEY

    return "unknown" if hook == "authenticate" else ADMIN_KEY


async def fails_closed(case: Case, hook: str, deed: Callable[[Any], Awaitable[Any]]) -> float:
    """Send a request through a plugin that breaks in `hook`; give how long it took."""
    case.may_fail = True
    after = After()
    gateway = await case.start(
        misbehaving(hook, deed), after, config={"plugin": {"broken": {"timeout_s": 0.2}}}
    )
    began = time.monotonic()
    reply = await case.ask(post(chat(), key=key_for(hook)))
    taken = time.monotonic() - began
    if hook == "authenticate":
        case.refused(reply, 503, code="service_unavailable")
    else:
        case.refused(reply, 500, code="internal_error", type="internal_error")
    ended = await case.last()
    assert ended.outcome is Outcome.FAILED
    assert after.finished == 1
    failure = case.events("plugin failed")[0]
    assert (failure["plugin"], failure["hook"]) == ("broken", hook)
    assert failure["request_id"] == reply.headers["x-request-id"]
    assert gateway.gateway.observation.failures == {("broken", hook): 1}
    if hook in UNSENT:
        assert case.upstream.seen == []
    assert case.events("exchange")  # the core's own record
    return taken


ERRORS = [RuntimeError(f"a secret: {CANARY[:4]}"), KeyError("x"), TimeoutError(), asyncio.CancelledError(),
          SystemExit(3), KeyboardInterrupt(), StopAsyncIteration(), RecursionError(),
          MemoryError()]  # fmt: skip


@pytest.mark.parametrize("hook", [*GATES, "check_reply"])
async def test_t122_a_gate_that_raises_fails_closed(case: Case, hook: str) -> None:
    """A gate that raises: 5xx in the envelope, nothing sent, the log names plugin, hook and request."""
    await fails_closed(case, hook, raising(RuntimeError("broken")))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_t122_whatever_it_raises(case: Case, error: BaseException) -> None:
    """No exception of a plugin is worth a crash, a pass, or a silent close: not even `sys.exit()`."""
    await fails_closed(case, "check_request", raising(error))
    assert (await case.ask(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200


@pytest.mark.parametrize("deed", [raising_later, cancelled_inside])
@pytest.mark.parametrize("hook", ["authenticate", "before_send", "check_reply"])
async def test_t122_also_after_it_has_waited(
    case: Case, hook: str, deed: Callable[[Any], Awaitable[Any]]
) -> None:
    """The same for a hook that has suspended, or that waited for something cancelled."""
    await fails_closed(case, hook, deed)


@pytest.mark.parametrize("hook", [*GATES, "check_reply"])
async def test_t123_a_gate_that_hangs_is_ended_by_its_limit(case: Case, hook: str) -> None:
    """A gate that never returns is a failure after its `timeout_s`, and holds no connection."""
    taken = await fails_closed(case, hook, hanging)
    assert 0.15 < taken < 5
    assert "limit" in case.events("plugin failed")[0]["reason"]
    upstream = case.gateways[-1].gateway.pipeline.upstreams["mock"]
    assert upstream.open_connections == (0 if hook in UNSENT else 1)
    if hook not in UNSENT:  # it is back in the pool
        assert case.upstream.connections == 1


async def test_t123_a_client_that_leaves_a_hanging_gate(case: Case) -> None:
    """A departure ends the hanging hook too, and counts as a departure, not as a plugin's failure."""
    gateway = await case.start(misbehaving("check_request", hanging))
    wire = await case.wire()
    await wire.send(post(chat()))
    await asyncio.sleep(0.1)
    await wire.close()
    ended = await case.last()
    assert ended.outcome is Outcome.CANCELLED
    assert ended.status == 499
    assert gateway.gateway.observation.failures == {}
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "deed",
    [raising(RuntimeError("x")), raising(GatewayError("x")), raising(UpstreamError("x")), raising_later,
     raising(asyncio.CancelledError()), raising(SystemExit(1)), cancelled_inside, hanging],
    ids="error gateway-error upstream-error later cancelled exit cancelled-inside hang".split(),
)  # fmt: skip
async def test_t122_an_observer_that_breaks_is_not_seen(
    case: Case, deed: Callable[[Any], Awaitable[Any]]
) -> None:
    """`finish_exchange` that breaks: clients see nothing, other observers are called, all is logged."""
    case.may_fail = True
    after = After()
    config = {"plugin": {"broken": {"timeout_s": 0.2}}}
    gateway = await case.start(misbehaving("finish_exchange", deed), after, config=config)
    replies = await asyncio.gather(*(case.chat() for _ in range(5)))
    assert {reply.status for reply in replies} == {200}
    await case.settle()
    assert after.finished == 5
    assert len(case.events("exchange")) == 5
    assert {line["plugin"] for line in case.events("plugin failed")} == {"broken"}
    assert gateway.gateway.observation.failures == {("broken", "finish_exchange"): 5}
    assert gateway.gateway.pipeline.in_flight == 0


class Lively:
    """Notes when it is started and shut down."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        self.notes.append("started")

    @hookimpl
    async def shutdown(self, gateway: Gateway) -> None:
        self.notes.append("stopped")


@pytest.mark.parametrize(
    "error", [RuntimeError("no database"), SystemExit(1), asyncio.CancelledError()], ids=repr
)
async def test_t122_a_start_that_fails_is_undone(case: Case, error: BaseException) -> None:
    """`startup` that raises: no start, the error names plugin and hook, what had started is stopped."""
    before, behind = Lively(), type("Behind", (Lively,), {})()
    with pytest.raises(ConfigError, match=r"broken.*startup"):
        await case.start(before, misbehaving("startup", raising(error)), behind)
    assert before.notes == ["started", "stopped"]
    assert behind.notes == []


async def test_t123_a_start_that_hangs_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """`startup` has a limit too."""
    monkeypatch.setattr(service_module, "_STARTUP_TIMEOUT_S", 0.1)
    with pytest.raises(ConfigError, match=r"broken.*startup"):
        await case.start(misbehaving("startup", hanging))


@pytest.mark.parametrize("deed", [raising(RuntimeError("x")), raising(SystemExit(1)), hanging], ids=range(3))
async def test_t122_a_stop_that_fails_stops_the_others(
    case: Case, deed: Callable[[Any], Awaitable[Any]]
) -> None:
    """`shutdown` that raises or hangs is logged, and every other plugin is shut down."""
    case.may_fail = True
    first, last = Lively(), type("Last", (Lively,), {})()
    config = {"plugin": {"broken": {"timeout_s": 0.1}}}
    gateway = await case.start(first, misbehaving("shutdown", deed), last, config=config)
    assert (await case.chat()).status == 200
    await case.check()
    await gateway.service.stop(grace_s=0)
    assert (first.notes, last.notes) == (["started", "stopped"], ["started", "stopped"])
    assert ("broken", "shutdown") in {(line.get("plugin"), line.get("hook")) for line in case.log}
