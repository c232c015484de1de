"""The gateway: every gate is passed in order, and every way out ends in one finished exchange."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from raven_proxy import Exchange, Outcome, Principal, Refused, Unauthenticated, hookimpl
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream

from .hard_cases.wire import Wire, chat, post


class Recorder:
    """Keeps how every exchange ended."""

    def __init__(self) -> None:
        self.ended: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


async def ask(
    gateway: RunningGateway, body: Any = None, *, key: str = ADMIN_KEY, path: str = "/v1/chat/completions"
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    async with gateway.client.post(path, json=body or chat(), headers=headers) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def drop_test_keys(gateway: RunningGateway, plugins: list[str]) -> None:
    """Go on without the plugin by which the fixture lets everybody in."""
    (gateway.folder / "plugins" / "test-keys.py").unlink()
    await gateway.reload({"plugins": plugins})


async def test_gates_are_passed_in_order_and_know_what_came_before(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    passed: list[str] = []

    class Gates:
        @hookimpl
        async def authenticate(self, exchange: Exchange) -> Principal:
            assert exchange.headers["authorization"] == "Bearer another"
            assert (exchange.client_address, exchange.body) == ("127.0.0.1", b"")
            passed.append("authenticate")
            return ADMINISTRATOR

        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            assert exchange.principal is not None
            assert exchange.body
            assert exchange.model == "mock/any"
            assert [c.model for c in exchange.candidates] == ["any"]
            passed.append("check_request")

        @hookimpl
        async def answer(self) -> None:
            passed.append("answer")

        @hookimpl
        async def choose_upstreams(self) -> None:
            passed.append("choose_upstreams")

        @hookimpl
        async def provide_credential(self, exchange: Exchange) -> None:
            assert exchange.candidate is not None
            passed.append("provide_credential")

        @hookimpl
        async def before_send(self, exchange: Exchange) -> None:
            assert exchange.outgoing is not None
            assert exchange.outgoing.headers["authorization"] == "Bearer sk-upstream-test"
            passed.append("before_send")

        @hookimpl
        def open_stage(self, exchange: Exchange) -> None:
            assert exchange.head is not None
            assert exchange.attempts[0].status == 200
            passed.append("open_stage")

        @hookimpl
        async def check_reply(self, exchange: Exchange) -> None:
            assert exchange.reply_body
            passed.append("check_reply")

        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            assert exchange.usage is not None
            passed.append("finish_exchange")

    gateway = await raven([Gates], upstreams=[upstream])
    assert (await ask(gateway, key="another"))[0] == 200
    await upstream.wait_until(lambda: len(passed) == 9)
    assert passed == [
        "authenticate", "check_request", "answer", "choose_upstreams", "provide_credential", "before_send",
        "open_stage", "check_reply", "finish_exchange",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "key", "path", "status", "code"),
    [
        (None, "rk_live_other", "/v1/chat/completions", 401, "invalid_api_key"),
        ({"model": "mock/any"}, ADMIN_KEY, "/v1/chat/completions", 400, "bad_request"),
        (chat("none/such"), ADMIN_KEY, "/v1/embeddings", 400, "bad_request"),
        (None, ADMIN_KEY, "/v1/nobody/x", 404, "not_found"),
        (chat("mock/fx-500"), ADMIN_KEY, "/v1/chat/completions", 500, None),
        (chat("mock/fx-close"), ADMIN_KEY, "/v1/chat/completions", 502, "upstream_error"),
        (None, ADMIN_KEY, "/v1/chat/completions", 200, None),
    ],
)
async def test_every_way_out_is_observed_once(
    raven: GatewayStarter,
    upstream: MockUpstream,
    body: Any,
    key: str,
    path: str,
    status: int,
    code: str | None,
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    got, answer = await ask(gateway, body, key=key, path=path)
    assert got == status
    if code is not None:
        assert answer["error"]["code"] == code
    await asyncio.sleep(0.05)
    (ended,) = recorder.ended
    assert ended.status == status
    assert (ended.outcome is Outcome.COMPLETED) is (status == 200)
    assert gateway.gateway.in_flight == 0
    assert gateway.gateway.pipeline.in_flight == 0


async def test_what_reached_no_face_is_not_observed(raven: GatewayStarter) -> None:
    recorder = Recorder()
    gateway = await raven([recorder])
    for path, status in (("/nothing", 404), ("/v1//x", 400), ("/health/live", 405)):
        assert (await ask(gateway, path=path))[0] == status
    await asyncio.sleep(0.05)
    assert recorder.ended == []
    assert gateway.gateway.pipeline.in_flight == 0


async def test_without_a_key_plugin_nobody_passes(raven: GatewayStarter) -> None:
    gateway = await raven()
    await drop_test_keys(gateway, ["openai", "demo"])
    status, answer = await ask(gateway, chat("demo/chat"))
    assert (status, answer["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (None, 401),
        ("a string", 401),
        (object(), 401),
        (Unauthenticated("Bad key."), 401),
        (Refused("Not from here.", code="ip_not_allowed"), 403),
        (KeyError("inside"), 503),
        (Principal(key_id="k"), 403),  # without the scope
    ],
)
async def test_what_authenticates_nobody_lets_nobody_in(
    raven: GatewayStarter, upstream: MockUpstream, result: Any, status: int
) -> None:
    class Keys:
        @hookimpl
        async def authenticate(self) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

    gateway = await raven([Keys], upstreams=[upstream])
    await drop_test_keys(gateway, ["keys", "openai"])
    assert (await ask(gateway))[0] == status
    assert upstream.seen == []


async def test_a_replaced_body_is_judged_anew(raven: GatewayStarter, upstream: MockUpstream) -> None:
    class Rewrite:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            exchange.replace_body(exchange.body.replace(b"mock/any", exchange.headers["x-new"].encode()))

    principal = msgspec.structs.replace(ADMINISTRATOR, allowed_models=("mock/a*",))
    gateway = await raven([Rewrite], upstreams=[upstream], principal=principal)

    async def send(new: str) -> int:
        async with gateway.client.post("/v1/chat/completions", json=chat(), headers={"x-new": new}) as reply:
            return reply.status

    assert await send("mock/another") == 200
    assert upstream.seen[-1].model == "another"
    assert await send("mock/forbidden") == 403
    assert await send("") == 400
    assert len(upstream.seen) == 1


async def test_over_its_own_limit_the_gateway_says_so_at_once(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream], config={"max_concurrency": 2})
    slow = [asyncio.get_running_loop().create_task(ask(gateway, chat("mock/fx-slow-0.4"))) for _ in range(2)]
    await upstream.wait_until(lambda: len(upstream.seen) == 2)
    async with gateway.client.post("/v1/chat/completions", json=chat()) as reply:
        assert reply.status == 503
        assert reply.headers["Retry-After"] == "1"
        assert (await reply.json(loads=msgspec.json.decode))["error"]["code"] == "service_unavailable"
    async with gateway.client.get("/health/live") as reply:
        assert reply.status == 200  # a health check is never refused
    assert [(await task)[0] for task in slow] == [200, 200]
    assert (await ask(gateway))[0] == 200


async def test_a_client_that_leaves_while_waiting_is_noted_as_gone(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    async with await Wire.open(gateway.url) as wire:
        await wire.send(post(chat("mock/fx-slow-60")))
        await upstream.wait_until(lambda: upstream.seen)
    await upstream.wait_until(lambda: recorder.ended)
    assert (recorder.ended[0].outcome, recorder.ended[0].status) == (Outcome.CANCELLED, 499)
    await upstream.wait_until(lambda: upstream.connections == 0)


async def test_a_failing_plugin_is_counted_by_name(raven: GatewayStarter) -> None:
    class Broken:
        @hookimpl
        async def check_request(self) -> None:
            raise KeyError

    gateway = await raven([Broken])
    for _ in range(3):
        assert (await ask(gateway, chat("demo/chat")))[0] == 500
    assert gateway.gateway.observation.failures == {("broken", "check_request"): 3}


async def test_what_is_announced_waits_for_the_terminal(raven: GatewayStarter) -> None:
    gateway = await raven()
    gateway.gateway.announce("admin_key", "rk_live_x")
    assert gateway.gateway.announcements == [("admin_key", "rk_live_x")]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_a_proxy_that_is_not_trusted_is_warned_of_once(raven: GatewayStarter, name: str) -> None:
    """With its address, and the setting that is missing: its clients share one address, and its limits."""
    gateway = await raven(config={"trusted_proxies": ["10.0.0.0/8"]})
    with capture_logs() as events:
        for headers in (
            {},
            {name: "for=192.0.2.1"},
            {name: "for=192.0.2.2"},
            {"X-Forwarded-For": "192.0.2.3"},
        ):
            async with gateway.client.get("/v1/models", headers=headers) as reply:
                assert reply.status == 200
    [warning] = [event for event in events if event["log_level"] == "warning"]
    assert warning["peer"] == "127.0.0.1"
    assert "trusted_proxies" in warning["remedy"]


async def test_a_trusted_proxy_is_not_warned_of(raven: GatewayStarter) -> None:
    gateway = await raven(config={"trusted_proxies": ["127.0.0.0/8"]})
    with capture_logs() as events:
        async with gateway.client.get("/v1/models", headers={"X-Forwarded-For": "192.0.2.1"}) as reply:
            assert reply.status == 200
    assert not [event for event in events if event["log_level"] == "warning"]
