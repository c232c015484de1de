"""T122, T123, T125: plugins that raise, hang, answer junk, or spoil what they were given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from raven_proxy import ConfigError, Exchange, GatewayError, Outcome, Reply, Stage, UpstreamError, hookimpl
from raven_proxy import service as service_module
from raven_proxy.gateway import Gateway
from raven_proxy.sse import EventReader

from .conftest import Case
from .wire import CANARY, chat, post

GATES = "authenticate check_request answer choose_upstreams provide_credential before_send".split()
UNSENT = set(GATES)  # these run before anything goes upstream


def misbehaving(hook: str, deed: Callable[[Any], Awaitable[Any]]) -> Any:
    """Make a plugin that does `deed` in one asynchronous hook."""

    async def of_exchange(self: Any, exchange: Exchange) -> Any:
        return await deed(exchange)

    async def of_gateway(self: Any, gateway: Gateway) -> Any:
        return await deed(gateway)

    function = of_gateway if hook in {"startup", "shutdown"} else of_exchange
    return type("Broken", (), {hook: hookimpl(function)})


def raising(error: BaseException) -> Callable[[Any], Awaitable[Any]]:
    async def deed(_subject: Any) -> Any:
        raise error

    return deed


async def raising_later(_subject: Any) -> Any:
    await asyncio.sleep(0.01)
    raise ValueError("later")


async def hanging(_subject: Any) -> Any:
    await asyncio.Event().wait()


async def cancelled_inside(_subject: Any) -> Any:
    """Wait for a task of its own that was cancelled."""
    task = asyncio.get_running_loop().create_task(asyncio.sleep(5))
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await task


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
          SystemExit(3), StopAsyncIteration(), RecursionError(), MemoryError()]  # fmt: skip


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
    ids=["error", "gateway-error", "upstream-error", "later", "cancelled", "exit", "cancelled-inside", "hang"],
)  # fmt: skip
async def test_t122_an_observer_that_breaks_is_not_seen(
    case: Case, deed: Callable[[Any], Awaitable[Any]]
) -> None:
    """`finish_exchange` that raises or hangs: the client has its reply, other observers are called, all is logged."""
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


# -- stages -------------------------------------------------------------------------------


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
        return self.owner.deed() if self.owner.place == "close" else b""  # type: ignore[no-any-return]


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


# -- junk ---------------------------------------------------------------------------------


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


# -- life and death -----------------------------------------------------------------------


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
    """`startup` that raises: the start is refused, naming plugin and hook, and what had started is stopped."""
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


# -- T125: what is over is over -----------------------------------------------------------


class Spoiler:
    """Keeps every exchange, spoils what it holds once it is over, and then raises."""

    def __init__(self) -> None:
        self.kept: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Any) -> None:
        self.kept.append(exchange)
        for one in self.kept:
            self._spoil(one)
        raise RuntimeError("and it raises")

    def _spoil(self, exchange: Any) -> None:
        with suppress(AttributeError, TypeError):  # what several exchanges share may refuse
            exchange.call.model = "spoiled"
        with suppress(AttributeError, TypeError):
            exchange.call.members["model"] = (0, 1)
        exchange.headers.clear()
        exchange.headers["authorization"] = "spoiled"
        exchange.response_headers["X-Spoiled"] = "1"
        exchange.attempts.append("spoiled")
        exchange.notes.update(detached=True, openai=True, byok="spoiled")
        exchange.params["provider"] = "spoiled"
        for name in (
            "pipeline",
            "candidate",
            "candidates",
            "credential",
            "outgoing",
            "usage",
            "outcome",
            "error",
        ):
            setattr(exchange, name, SimpleNamespace(spoiled=True))
        exchange.status = "spoiled"
        exchange.principal = None
        exchange.body = b"spoiled"


async def test_t125_a_finished_exchange_is_nobody_elses(case: Case) -> None:
    """A plugin that keeps, spoils and breaks finished exchanges harms no other exchange, nor its record."""
    case.may_fail = True
    gateway = await case.start(Spoiler(), base=("meter", "openai"))
    for _ in range(2):
        mixed = [case.chat("mock/any"), case.stream("any"), case.chat("mock/fx-500"), case.ask(post(chat(), key="x")),
                 case.ask(post(b"{")), case.chat("mock/other"), case.stream("fx-no-done")]  # fmt: skip
        replies = await asyncio.gather(*mixed)
        assert [reply.status for reply in replies] == [200, 200, 500, 401, 400, 200, 200]
        assert all("x-spoiled" not in reply.headers for reply in replies)
        assert replies[0].json()["model"] == "any"
        assert replies[5].json()["model"] == "other"
    ended = await case.settle()
    models = sorted(str(one.model) for one in ended)
    assert models == sorted(
        [
            *["mock/any"] * 4,
            *["mock/fx-500"] * 2,
            *["None"] * 4,
            *["mock/other"] * 2,
            *["mock/fx-no-done"] * 2,
        ]
    )
    assert gateway.gateway.in_flight == 0
    assert gateway.gateway.pipeline.in_flight == 0
    assert gateway.gateway.observation.failures["spoiler", "finish_exchange"] == 14


async def test_t125_kept_exchanges_hold_no_connection(case: Case) -> None:
    """Whoever keeps exchanges keeps no socket: clients and providers are let go."""
    spoiler = Spoiler()
    case.may_fail = True
    await case.start(spoiler)
    for _ in range(3):
        async with await case.wire() as wire:
            await wire.send(post(chat("mock/fx-endless", stream=True)))
            await wire.head()
            await wire.chunk()
    await case.settle()
    assert len(spoiler.kept) == 3
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


class Impostor:
    """Answers with one shared reply whose parts it changes later."""

    def __init__(self) -> None:
        self.headers = {"Content-Type": "application/json", "Connection": "close", "Content-Length": "3",
                        "Transfer-Encoding": "chunked", "X-Request-ID": "req_theirs"}  # fmt: skip
        self.reply = Reply(200, self.headers, b'{"model":"x"}')

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply:
        return self.reply


async def test_t125_a_shared_reply_stays_as_it_was(case: Case) -> None:
    """A reply that a plugin gives out again and again is not changed by the gateway, nor its framing by it."""
    impostor = Impostor()
    before = dict(impostor.headers)
    await case.start(impostor)
    async with await case.wire() as wire:
        for _ in range(3):
            await wire.send(post(chat()))
            reply = await wire.reply()
            assert reply.json() == {"model": "x"}
            assert reply.headers["x-request-id"].startswith("req_")
            assert reply.headers["x-request-id"] != "req_theirs"
    assert impostor.reply.headers == before
    assert case.upstream.seen == []
