"""Attempts: who is asked, in what order, with whose key, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from raven_proxy import Candidate, Credential, Exchange, Outcome, hookimpl
from raven_proxy.exchange import Attempt
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = ScriptedReply.of_json(
    {"id": "x", "object": "chat.completion", "model": "m", "choices": [], "usage": None}
)


class Recorder:
    """Keeps the attempts of every exchange."""

    def __init__(self) -> None:
        self.attempts: list[list[Attempt]] = []
        self.outcomes: list[Outcome] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.attempts.append(exchange.attempts)
        self.outcomes.append(exchange.outcome)


@pytest.fixture
async def second() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as mock:
        yield mock


async def ask(
    gateway: RunningGateway, path: str = "/v1/chat/completions", **extra: Any
) -> tuple[int, dict[str, Any]]:
    headers = extra.pop("headers", {})
    async with gateway.client.post(path, json={**CHAT, **extra}, headers=headers) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


async def settle(recorder: Recorder, upstream: MockUpstream, count: int = 1) -> None:
    await upstream.wait_until(lambda: len(recorder.attempts) == count)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_the_next_candidate_is_asked_before_the_first_byte(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream, status: int
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream, second])
    upstream.reply(status=status, json={"error": {"message": "no"}})
    second.script(ANSWER)
    assert (await ask(gateway))[0] == 200
    await settle(recorder, upstream)
    assert [(a.upstream, a.status) for a in recorder.attempts[0]] == [("mock", status), ("mock2", 200)]
    assert upstream.seen[0].body == second.seen[0].body


async def test_a_port_where_nobody_listens_is_passed_over(
    raven: GatewayStarter, upstream: MockUpstream, unused_tcp_port: int
) -> None:
    dead = {
        "name": "dead",
        "provider": "openai_compatible",
        "base_url": f"http://127.0.0.1:{unused_tcp_port}/v1",
    }
    alive = {"name": "alive", "provider": "openai_compatible", "base_url": upstream.url}
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[dead, alive])
    upstream.script(ANSWER)
    assert (await ask(gateway))[0] == 200
    await settle(recorder, upstream)
    assert [(a.upstream, a.status, a.error) for a in recorder.attempts[0]] == [
        ("dead", None, "upstream_error"),
        ("alive", 200, None),
    ]


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_request_that_is_wrong_is_wrong_everywhere(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream, status: int
) -> None:
    gateway = await raven(upstreams=[upstream, second])
    upstream.reply(status=status, json={"error": {"message": "bad field"}})
    assert (await ask(gateway))[0] == status
    assert second.seen == []


async def test_the_last_candidates_error_is_the_answer(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream, second])
    upstream.reply(status=500, json={"error": {"message": "first"}})
    second.reply(status=503, json={"error": {"message": "second"}})
    status, body = await ask(gateway)
    assert (status, body["error"]["type"]) == (503, "upstream_error")
    await settle(recorder, upstream)
    assert recorder.outcomes == [Outcome.UPSTREAM_ERROR]


async def test_after_the_first_byte_nobody_else_is_asked(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream, second])
    upstream.script(
        ScriptedReply(
            headers={"Content-Type": "application/json"}, body=b'{"half', content_length=100, end="cut"
        )
    )
    assert (await ask(gateway))[0] == 502
    assert second.seen == []


async def test_an_upstream_at_its_cap_is_passed_over_and_alone_it_is_a_503(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    def account(name: str, mock: MockUpstream, **extra: Any) -> dict[str, Any]:
        return {"name": name, "provider": "openai_compatible", "base_url": mock.url, **extra}

    recorder = Recorder()
    gateway = await raven(
        [recorder], upstreams=[account("small", upstream, max_connections=1), account("big", second)]
    )
    upstream.script(ScriptedReply(delay_s=0.5, body=ANSWER.body, headers=ANSWER.headers))
    slow = asyncio.get_running_loop().create_task(ask(gateway))
    await upstream.wait_until(lambda: upstream.seen)
    second.script(ANSWER)
    assert (await ask(gateway))[0] == 200
    status, body = await ask(gateway, model="small/m")
    assert (status, body["error"]["code"]) == (503, "service_unavailable")
    assert (await slow)[0] == 200
    await settle(recorder, upstream, 3)
    assert sorted(len(attempts) for attempts in recorder.attempts) == [0, 1, 1]


async def test_a_stale_connection_is_one_more_attempt_and_no_error(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    recorder = Recorder()
    gateway = await raven([recorder], upstreams=[upstream])
    upstream.script(msgspec.structs.replace(ANSWER, end="stale"), ANSWER)
    assert [(await ask(gateway))[0] for _ in range(2)] == [200, 200]
    await settle(recorder, upstream, 2)
    assert [(a.reused_connection, a.status) for a in recorder.attempts[1]] == [(True, None), (False, 200)]


async def test_a_redirect_is_not_followed(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    upstream.reply(status=307, headers={"Location": second.url})
    status, body = await ask(gateway)
    assert (status, body["error"]["type"]) == (502, "upstream_error")
    assert second.seen == []
    upstream.script(ANSWER)
    assert (await ask(gateway))[0] == 200


async def test_without_a_key_a_provider_that_needs_one_is_not_called(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[{"name": "bare", "provider": "openai", "base_url": upstream.url}])
    status, body = await ask(gateway)
    assert (status, body["error"]["code"]) == (503, "no_active_api_keys")
    assert upstream.seen == []


async def test_each_candidate_gets_its_own_credential(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    class Keys:
        @hookimpl
        async def provide_credential(self, exchange: Exchange) -> Credential:
            assert exchange.candidate is not None
            return Credential(f"sk-for-{exchange.candidate.upstream.name}")

    gateway = await raven([Keys], upstreams=[upstream, second])
    upstream.reply(status=500)
    second.script(ANSWER)
    await ask(gateway)
    assert (upstream.seen[0].key, second.seen[0].key) == ("sk-for-mock", "sk-for-mock2")


async def test_a_plugin_may_choose_and_choose_nobody(
    raven: GatewayStarter, upstream: MockUpstream, second: MockUpstream
) -> None:
    class Choice:
        @hookimpl
        async def choose_upstreams(self, exchange: Exchange) -> list[Candidate]:
            return [] if exchange.headers.get("x-nobody") else list(reversed(exchange.candidates))

    gateway = await raven([Choice], upstreams=[upstream, second])
    second.script(ANSWER)
    await ask(gateway)
    assert (len(upstream.seen), len(second.seen)) == (0, 1)
    status, body = await ask(gateway, headers={"x-nobody": "1"})
    assert (status, body["error"]["code"]) == (503, "no_active_api_keys")


async def test_a_raw_path_is_judged_like_its_face_and_sent_as_it_is(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven(upstreams=[upstream])
    status, _ = await ask(gateway, "/v1/mock/chat/completions?x=1")
    assert status == 200
    assert upstream.seen[0].target == "/v1/chat/completions?x=1"
    assert upstream.seen[0].json == CHAT
    assert (await ask(gateway, "/v1/mock/chat/completions", messages="no"))[0] == 400
    assert (await ask(gateway, "/v1/nobody/chat/completions"))[0] == 404
    assert (await ask(gateway, "/v1/mock/some/new/endpoint", anything={"a": 1}))[0] in {200, 404}
    assert upstream.seen[-1].target == "/v1/some/new/endpoint"


async def test_a_raw_path_takes_the_scope_of_the_face_that_it_speaks(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    principal = msgspec.structs.replace(ADMINISTRATOR, scopes=frozenset({"chat:write"}))
    gateway = await raven(upstreams=[upstream], principal=principal)
    assert (await ask(gateway, "/v1/mock/embeddings", input="x"))[0] == 403
    assert (await ask(gateway, "/v1/mock/chat/completions"))[0] == 200
    assert [seen.path for seen in upstream.seen] == ["/v1/chat/completions"]


@pytest.mark.parametrize("model", ["x" * 600, "a\nb", "a\u2028b"])
async def test_a_models_name_that_could_not_go_into_a_header_is_refused(
    raven: GatewayStarter, upstream: MockUpstream, model: str
) -> None:
    gateway = await raven(upstreams=[upstream])
    for path in ("/v1/chat/completions", "/v1/mock/chat/completions", "/v1/mock/unknown"):
        status, body = await ask(gateway, path, model=model)
        assert (status, body["error"]["param"]) == (400, "model")
    assert upstream.seen == []
