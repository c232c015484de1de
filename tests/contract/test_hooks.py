"""Every hook through a real gateway: when it is called, what None means, what raising does."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable
from textwrap import dedent
from typing import Any, cast

import click
import msgspec
import pytest
from aiohttp import ClientPayloadError
from structlog.testing import capture_logs

from raven_proxy import (
    Candidate,
    ConfigError,
    Credential,
    Exchange,
    Face,
    Finding,
    ModelInfo,
    Outcome,
    Principal,
    Refused,
    Reply,
    Stage,
    Unauthenticated,
    hookimpl,
    hookspecs,
    plugins,
    read_nothing,
)
from raven_proxy.config import Config
from raven_proxy.events import Event
from raven_proxy.gateway import Gateway
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.resources import Resource
from raven_proxy.testing import assert_fails_closed

HOOKS = {name: value for name, value in vars(hookspecs).items() if hasattr(value, "raven_proxy_spec")}
CHAT = {"model": "mock/any", "messages": [{"role": "user", "content": "hi"}]}
JSON = {"Content-Type": "application/json"}


async def ask(gateway: RunningGateway, **extra: Any) -> tuple[int, Any]:
    headers = extra.pop("headers", {})
    async with gateway.client.post("/v1/chat/completions", json={**CHAT, **extra}, headers=headers) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


def failing(hook: str, error: Exception | None) -> Any:
    """A plugin whose hook raises, or hangs where there is no error to raise."""

    async def broken(self: Any, exchange: Exchange) -> None:
        if error is None:
            await asyncio.sleep(60)
        else:
            raise error

    def plain(self: Any, exchange: Exchange) -> None:
        assert error is not None
        raise error

    return type("Broken", (), {hook: hookimpl(plain if hook == "settle_exchange" else broken)})


# -- the specs ------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_documented(name: str) -> None:
    """Every hook says in a docstring what it is for, when it is called, and how it is written."""
    text = inspect.getdoc(HOOKS[name]) or ""
    assert re.match(r"[A-Z][^\n]+[.:,]?", text)
    assert "    @hookimpl\n" in text, "there is no example"
    assert len(text.partition("@hookimpl")[0].split()) >= 15
    spec = HOOKS[name].raven_proxy_spec
    if spec["firstresult"]:
        assert "None" in text
    if inspect.iscoroutinefunction(HOOKS[name]):
        assert f"async def {name}(" in text, "the example has another colour"
    else:
        assert re.search(rf"(?<!async )def {name}\(", text), "the example has another colour"


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_in_a_docstring_is_a_plugin(name: str) -> None:
    """The example of every hook is accepted as a plugin: known hook, right arguments, right colour."""
    _, mark, example = (inspect.getdoc(HOOKS[name]) or "").partition("    @hookimpl")
    namespace: dict[str, Any] = {"hookimpl": hookimpl}
    exec(compile(dedent(mark + example), name, "exec"), namespace)  # only defines a function
    function = namespace[name]
    in_class = "self" in inspect.signature(function).parameters
    instance: Any = type("Example", (), {name: function})() if in_class else type(sys)("example")
    if not in_class:
        setattr(instance, name, function)
    manager = plugins.register([plugins.Plugin("example", "1", "docs", instance)])
    assert [c.name for c in manager.get_hookcallers(instance) or ()] == [name]


def test_every_hook_has_a_test_here() -> None:
    """For each hook there is a `test_hook_<name>` in this file."""
    tested = {name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")}
    assert {hook for hook in HOOKS if hook not in tested} == set()
    assert all(any(name.startswith(hook) for hook in HOOKS) for name in tested)


# -- start-up -------------------------------------------------------------------------


def face(path: str, **fields: Any) -> Face:
    return Face(name=path, path=path, methods=("GET",), read_call=read_nothing, json_body=False, **fields)


async def serve_ok(exchange: Exchange) -> Reply:
    del exchange
    return Reply(200, dict(JSON), b'{"ok":true}')


async def test_hook_register_faces(raven: GatewayStarter) -> None:
    """Called once per start and once per reload, before `startup`; a face is served at once."""
    called: list[str] = []

    class Plugin:
        @hookimpl
        def register_faces(self, register: Callable[[Face], None]) -> None:
            called.append("register_faces")
            register(face("/v1/mine", serve=serve_ok))

        @hookimpl
        async def startup(self) -> None:
            called.append("startup")

    gateway = await raven([Plugin])
    await gateway.reload()
    assert called == ["register_faces", "startup"] * 2
    for path in ("/v1/mine", "/api/v1/mine"):
        async with gateway.client.get(path) as reply:
            assert (reply.status, await reply.read()) == (200, b'{"ok":true}')


async def test_hook_register_faces_twice_on_one_path(raven: GatewayStarter) -> None:
    """A second face on one method and path stops the start."""

    class Plugin:
        @hookimpl
        def register_faces(self, register: Callable[[Face], None]) -> None:
            register(face("/v1/models"))

    with pytest.raises(
        ConfigError, match=r"plugin plugin: register_faces: .*GET /v1/models is already served by 'models'"
    ):
        await raven([Plugin])


async def test_hook_register_providers(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """A provider serves upstreams under its name and its presets; a name that is taken stops the start."""
    from raven_openai.presets import PRESETS
    from raven_openai.provider import OpenAIProvider

    class Mine(OpenAIProvider):
        name = "mine"

    presets = {"mine": PRESETS["vllm"], "also-mine": PRESETS["vllm"]}

    class Plugin:
        @hookimpl
        def register_providers(self, register: Callable[..., None]) -> None:
            register(Mine(presets), presets=("also-mine",))

    gateway = await raven(
        [Plugin], upstreams=[{"name": "mock", "provider": "also-mine", "base_url": upstream.url}]
    )
    assert (await ask(gateway))[0] == 200
    assert upstream.seen[0].model == "any"

    class Clash:
        @hookimpl
        def register_providers(self, register: Callable[..., None]) -> None:
            register(Mine(presets), presets=("groq",))

    with pytest.raises(ConfigError, match=r"register_providers: .*'groq' is already registered"):
        await raven(["openai", Clash])


async def test_hook_register_models(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """What a plugin knows of a model is listed; the first that knows wins, a broken one is passed over."""
    asked: list[tuple[str, str]] = []

    class Broken:
        @hookimpl
        def register_models(self, register: Callable[..., None]) -> None:
            register(lambda provider, model: [][0])

    class Plugin:
        @hookimpl
        def register_models(self, register: Callable[..., None]) -> None:
            register(self.describe)
            register(lambda provider, model: ModelInfo(id=model, context_window=1, max_tokens=7))

        def describe(self, provider: str, model: str) -> ModelInfo | None:
            asked.append((provider, model))
            return ModelInfo(id=model, context_window=9000)

    alias = {"name": "fast", "target": "mock/gpt-x"}
    gateway = await raven([Broken, Plugin], upstreams=[upstream], config={"models": [alias]})
    for _ in range(2):
        async with gateway.client.get("/v1/models/fast") as reply:
            model = await reply.json()
        assert (model["id"], model["context_window"], model["max_tokens"]) == ("fast", 9000, 7)
    assert asked.count(("openai", "gpt-x")) == 1  # it is remembered


async def test_hook_register_routes(raven: GatewayStarter) -> None:
    """A route passes the same gates as a face: its scope is asked for, unless it is public."""

    class Plugin:
        @hookimpl
        def register_routes(self, register: Callable[[Face], None]) -> None:
            register(face("/hello", scope="admin:read", serve=serve_ok))
            register(face("/open", public=True, serve=serve_ok))

    user = msgspec.structs.replace(ADMINISTRATOR, scopes=frozenset({"chat:write"}))
    for principal, status in ((ADMINISTRATOR, 200), (user, 403)):
        gateway = await raven([Plugin], principal=principal)
        for path, headers, expected in (
            ("/hello", {}, status),
            ("/hello", {"Authorization": "Bearer nobody"}, 401),
            ("/open", {"Authorization": "Bearer nobody"}, 200),
        ):
            async with gateway.client.get(path, headers=headers) as reply:
                assert reply.status == expected

    class Silent:
        @hookimpl
        def register_routes(self, register: Callable[[Face], None]) -> None:
            register(face("/silent"))

    with pytest.raises(ConfigError, match="the route /silent needs an async serve function"):
        await raven([Silent])


async def test_hook_register_resources(raven: GatewayStarter) -> None:
    """One declaration serves list and create; a second one of its name stops the start."""

    class Tag(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
        name: str

    table = """CREATE TABLE tags (id TEXT PRIMARY KEY, organization_id TEXT NOT NULL,
               created_at INTEGER NOT NULL, name TEXT NOT NULL)"""
    tags = Resource(name="tags", singular="tag", table="tags", prefix="tag_", body=Tag, summary="Tags")

    class Plugin:
        @hookimpl
        def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
            register(tags)

        @hookimpl
        async def startup(self, gateway: Gateway) -> None:
            await gateway.storage.migrate("plugin", [table])

    class Other:
        @hookimpl
        def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
            register(tags)

    gateway = await raven([Plugin])
    async with gateway.client.post("/tags", json={"name": "blue"}) as reply:
        assert reply.status == 201
    async with gateway.client.get("/tags") as reply:
        assert [one["name"] for one in await reply.json()] == ["blue"]
    with pytest.raises(
        ConfigError, match=r"plugin other: register_resources: .*'tags' is already registered"
    ):
        await raven([Plugin, Other])


def test_hook_register_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called when the command line starts, without a gateway; the command is there beside the others."""
    from click.testing import CliRunner

    from raven_proxy.cli import main

    @click.command("greet")
    def greet() -> None:
        click.echo("hello")

    class Plugin:
        @hookimpl
        def register_commands(self, register: Callable[[click.Command], None]) -> None:
            register(greet)

    def load(*_: object) -> list[plugins.Plugin]:
        return [plugins.Plugin("plugin", "1", "test", Plugin())]

    monkeypatch.delenv("RAVEN_CONFIG", raising=False)
    monkeypatch.setattr(plugins, "load", load)
    assert "greet" in CliRunner().invoke(main, ["--help"]).output
    assert CliRunner().invoke(main, ["greet"]).output == "hello\n"
    assert Config().plugins is None


async def test_hook_startup(raven: GatewayStarter) -> None:
    """Called in config order, before listening; raising aborts the start and shuts down what had started."""
    log: list[str] = []

    class First:
        @hookimpl
        async def startup(self, gateway: Gateway) -> None:
            await gateway.storage.migrate("first", ["CREATE TABLE notes (id TEXT PRIMARY KEY)"])
            log.append("start first")

        @hookimpl
        async def shutdown(self) -> None:
            log.append("stop first")

    class Second:
        @hookimpl
        async def startup(self) -> None:
            log.append("start second")
            raise ValueError("no room")

    with pytest.raises(ConfigError, match="plugin second: startup: ValueError: no room"):
        await raven([First, Second])
    assert log == ["start first", "start second", "stop first"]


async def test_hook_startup_of_a_reload(raven: GatewayStarter) -> None:
    """Raising in a reload leaves the old plugins serving."""
    fails = False

    class Plugin:
        @hookimpl
        async def startup(self) -> None:
            if fails:
                raise ValueError("no room")

    gateway = await raven([Plugin])
    fails = True
    with pytest.raises(ConfigError, match="no room"):
        await gateway.reload()
    assert (await ask(gateway, model="demo/chat"))[0] == 200


async def test_hook_shutdown(raven: GatewayStarter) -> None:
    """Called in reverse order after the last exchange; one that raises keeps no other from it."""
    log: list[str] = []

    def make(name: str) -> Any:
        class Plugin:
            @hookimpl
            async def finish_exchange(self) -> None:
                log.append(f"finish {name}")

            @hookimpl
            async def shutdown(self, gateway: Gateway) -> None:
                assert gateway.in_flight == 0
                log.append(f"stop {name}")
                raise KeyError(name)

        Plugin.__name__ = name
        return Plugin

    gateway = await raven([make("one"), make("two")])
    await ask(gateway, model="demo/chat")
    with capture_logs() as events:
        await gateway.service.stop(grace_s=0.0)
    assert log == ["finish one", "finish two", "stop two", "stop one"]
    assert [e["plugin"] for e in events if e["event"] == "plugin failed"] == ["two", "one"]
    gateway.service.stop = lambda **_: asyncio.sleep(0)  # type: ignore[method-assign]


# -- gates ----------------------------------------------------------------------------


async def test_hook_authenticate(raven: GatewayStarter) -> None:
    """The first `Principal` wins; None is "not my kind of key"; raising `Unauthenticated` is a 401."""
    asked: list[str] = []

    def make(name: str, scheme: str) -> Any:
        class Keys:
            @hookimpl
            async def authenticate(self, exchange: Exchange) -> Principal | None:
                assert exchange.body == b""
                asked.append(name)
                sent = exchange.headers.get("authorization", "")
                if not sent.startswith(f"Bearer {scheme}_"):
                    return None
                if sent.endswith("_bad"):
                    raise Unauthenticated("That one is revoked.")
                return msgspec.structs.replace(ADMINISTRATOR, key_id=name)

        Keys.__name__ = name
        return Keys

    gateway = await raven([make("a", "a"), make("b", "b")])
    for token, status, expected in (
        ("b_1", 200, ["a", "b"]),
        ("a_bad", 401, ["a"]),
        ("c_1", 401, ["a", "b"]),
    ):
        asked.clear()
        assert (await ask(gateway, model="demo/chat", headers={"Authorization": f"Bearer {token}"}))[
            0
        ] == status
        assert asked == expected


@pytest.mark.parametrize("error", [KeyError("inside"), None])
async def test_hook_authenticate_that_fails(
    raven: GatewayStarter, upstream: MockUpstream, error: Exception | None
) -> None:
    """Anything else that it raises, or hanging, lets nobody in: 503, since the caller may be in the right."""
    broken = failing("authenticate", error)
    gateway = await raven([broken], upstreams=[upstream], config={"plugin": {"broken": {"timeout_s": 0.2}}})
    status, answer = await ask(gateway, headers={"Authorization": "Bearer of-another-kind"})
    assert (status, answer["error"]["code"]) == (503, "service_unavailable")
    assert upstream.seen == []


async def test_hook_check_request(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """All are called; each may refuse, edit the body, and tell the client something in a header."""
    called: list[str] = []

    class Edit:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            called.append("edit")
            exchange.replace_body(exchange.body.replace(b'"hi"', b'"redacted"'))
            exchange.response_headers["x-edited"] = "yes"

    class Judge:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            called.append("judge")
            if exchange.model == "mock/forbidden":
                raise Refused("Not that one.", code="model_not_allowed")

    gateway = await raven([Edit, Judge], upstreams=[upstream])
    async with gateway.client.post("/v1/chat/completions", json=CHAT) as reply:
        assert (reply.status, reply.headers["x-edited"]) == (200, "yes")
    assert upstream.seen[0].json["messages"][0]["content"] == "redacted"
    status, answer = await ask(gateway, model="mock/forbidden")
    assert (status, answer["error"]["code"]) == (403, "model_not_allowed")
    assert called == ["edit", "judge"] * 2
    assert len(upstream.seen) == 1


async def test_hook_check_request_gives_a_reply_of_before(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """It goes out as it is, at once: the plugins after it are not asked, no stage sees it, nothing used."""
    ended: list[tuple[Outcome, int, int, Any]] = []
    headers: list[dict[str, str]] = []

    class Before:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> Reply | None:
            said = {**JSON, "X-Raven-Provider": "then", "X-Raven-Secret": "no", "x-own": "1", "Date": "then"}
            return Reply(201, said, b'{"of":"before"}') if exchange.model == "mock/known" else None

    class After:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            raise Refused("Never asked.")

        @hookimpl
        def open_stage(self, exchange: Exchange) -> Stage | None:
            raise AssertionError("never opened")

        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            ended.append((exchange.outcome, exchange.status, len(exchange.attempts), exchange.usage))
            headers.append(exchange.reply_headers)

    gateway = await raven([Before, After], upstreams=[upstream])
    async with gateway.client.post("/v1/chat/completions", json=CHAT | {"model": "mock/known"}) as reply:
        assert (reply.status, await reply.read()) == (201, b'{"of":"before"}')
        assert (reply.headers["x-raven-provider"], reply.headers["x-own"]) == ("then", "1")
        assert "x-raven-secret" not in reply.headers
        assert reply.headers.getall("date") != ["then"]
        assert reply.headers["x-raven-latency-ms"].isdecimal()
    assert (await ask(gateway))[0] == 403
    await upstream.wait_until(lambda: len(ended) == 2)
    assert ended[0] == (Outcome.REPLAYED, 201, 0, None)
    assert headers[0]["x-own"] == "1"
    assert headers[0]["X-Request-ID"].startswith("req_")
    assert upstream.seen == []


@pytest.mark.parametrize("given", [True, b"bytes", Reply(body=cast("bytes", iter(())))])
async def test_hook_check_request_gives_something_else(
    raven: GatewayStarter, upstream: MockUpstream, given: Any
) -> None:
    """What is neither None nor a whole `Reply` is a 500, and nothing goes upstream."""

    class Odd:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> Any:
            return given

    gateway = await raven([Odd], upstreams=[upstream])
    with capture_logs():
        status, answer = await ask(gateway)
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert upstream.seen == []


async def test_hook_answer(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """The first `Reply` wins and nothing is sent upstream; None goes on to routing."""
    ended: list[Outcome] = []

    class Cache:
        @hookimpl
        async def answer(self, exchange: Exchange) -> Reply | None:
            return Reply(200, dict(JSON), b'{"cached":true}') if exchange.model == "mock/cached" else None

        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            ended.append(exchange.outcome)

    class Late:
        @hookimpl
        async def answer(self, exchange: Exchange) -> None:
            assert exchange.model != "mock/cached"

    gateway = await raven([Cache, Late], upstreams=[upstream])
    assert await ask(gateway, model="mock/cached") == (200, {"cached": True})
    assert upstream.seen == []
    assert (await ask(gateway))[0] == 200
    assert len(upstream.seen) == 1
    await upstream.wait_until(lambda: ended == [Outcome.COMPLETED] * 2)


async def test_hook_choose_upstreams(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """The first list wins and is tried in order; None keeps the candidates; an empty list is a 503."""
    order: list[str] | None = None

    class Choice:
        @hookimpl
        async def choose_upstreams(self, exchange: Exchange) -> list[Candidate] | None:
            if order is None:
                return None
            return [c for name in order for c in exchange.candidates if c.upstream.name == name]

    async with MockUpstream() as second:
        gateway = await raven([Choice], upstreams=[upstream, second])
        assert (await ask(gateway, model="m"))[0] == 200
        assert (len(upstream.seen), len(second.seen)) == (1, 0)
        order = ["mock2", "mock"]
        assert (await ask(gateway, model="m"))[0] == 200
        assert (len(upstream.seen), len(second.seen)) == (1, 1)
        order = []
        status, answer = await ask(gateway, model="m")
        assert (status, answer["error"]["code"]) == (503, "no_active_api_keys")


async def test_hook_provide_credential(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Called for each attempt; the first `Credential` wins; None uses the configured key."""
    asked: list[str] = []

    class Keys:
        @hookimpl
        async def provide_credential(self, exchange: Exchange) -> Credential | None:
            assert exchange.candidate is not None
            asked.append(exchange.candidate.upstream.name)
            return Credential("sk-mine") if exchange.model == "m" else None

    async with MockUpstream() as second:
        gateway = await raven([Keys], upstreams=[upstream, second])
        upstream.reply(status=500)
        assert (await ask(gateway, model="m"))[0] == 200
        assert (asked, upstream.seen[0].key, second.seen[0].key) == (["mock", "mock2"], "sk-mine", "sk-mine")
        assert (await ask(gateway))[0] == 200
        assert upstream.seen[1].key == "sk-upstream-test"


async def test_hook_before_send(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """All are called for each attempt, and edit the headers that go out."""

    class Stamp:
        @hookimpl
        async def before_send(self, exchange: Exchange) -> None:
            assert exchange.outgoing is not None
            exchange.outgoing.headers["x-attempt"] = str(len(exchange.attempts))
            exchange.outgoing.headers.pop("user-agent", None)

    gateway = await raven([Stamp], upstreams=[upstream])
    assert (await ask(gateway, headers={"User-Agent": "me"}))[0] == 200
    assert upstream.seen[0].headers["x-attempt"] == "0"
    assert "user-agent" not in upstream.seen[0].headers


@pytest.mark.parametrize(
    "hook", ["check_request", "answer", "choose_upstreams", "provide_credential", "before_send"]
)
@pytest.mark.parametrize("error", [KeyError("inside"), None])
async def test_a_gate_that_fails_or_hangs_forwards_nothing(
    raven: GatewayStarter, upstream: MockUpstream, hook: str, error: Exception | None
) -> None:
    """A gate that raises anything but a refusal, or outlasts its limit, is a 500; nothing goes upstream."""
    with capture_logs() as events:
        assert await assert_fails_closed(raven, upstream, failing(hook, error)) == 500
    failed = [event for event in events if event["event"] == "plugin failed"]
    assert [(event["plugin"], event["hook"]) for event in failed] == [("broken", hook)]


@pytest.mark.parametrize(
    "hook",
    ["authenticate", "check_request", "answer", "choose_upstreams", "provide_credential", "before_send"],
)
async def test_a_gate_that_refuses_is_heard_by_the_client(
    raven: GatewayStarter, upstream: MockUpstream, hook: str
) -> None:
    """Every gate may raise `Refused`: that status, type, code and message, in the client's dialect."""
    broken = failing(hook, Refused("Not today.", status=402, code="budget_exceeded"))
    gateway = await raven([broken], upstreams=[upstream])
    headers = {"Authorization": "Bearer of-another-kind"} if hook == "authenticate" else {}
    status, answer = await ask(gateway, headers=headers)
    error = answer["error"]
    assert (status, error["type"], error["code"], error["message"]) == (
        402,
        "billing_error",
        "budget_exceeded",
        "Not today.",
    )
    assert upstream.seen == []


# -- the reply ------------------------------------------------------------------------


class Shift:
    """A stage that passes what came before, and the last of it at the end."""

    def __init__(self, fails: bool = False) -> None:
        self.held, self.fails = b"", fails

    def feed(self, data: bytes) -> bytes:
        if self.fails and self.held:
            raise KeyError("inside")
        out, self.held = self.held, data
        return out

    def close(self) -> bytes:
        if self.fails:
            raise KeyError("inside")
        return self.held


@pytest.mark.parametrize("stream", [False, True])
async def test_hook_open_stage(raven: GatewayStarter, upstream: MockUpstream, *, stream: bool) -> None:
    """Called once, at the reply's headers, below status 400; a stage passes bytes, None takes no part."""
    called: list[int] = []

    class Plugin:
        @hookimpl
        def open_stage(self, exchange: Exchange) -> Stage | None:
            assert exchange.head is not None
            called.append(exchange.head.status)
            return Shift() if exchange.headers.get("x-stage") else None

    gateway = await raven([Plugin], upstreams=[upstream])
    bodies = []
    for headers in ({}, {"x-stage": "1"}):
        body = {**CHAT, "stream": stream}
        async with gateway.client.post("/v1/chat/completions", json=body, headers=headers) as reply:
            bodies.append(await reply.read())
    assert bodies[0] == bodies[1] != b""
    assert (await ask(gateway, model="mock/fx-500"))[0] == 500
    assert called == [200, 200]


async def test_hook_open_stage_that_fails(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Bytes that a failing stage did not pass never go out: an error reply, or an error event and a cut."""

    class Plugin:
        @hookimpl
        def open_stage(self) -> Stage:
            return Shift(fails=True)

    gateway = await raven([Plugin], upstreams=[upstream])
    status, answer = await ask(gateway)
    assert (status, answer["error"]["type"]) == (500, "internal_error")
    events = [b'data: {"n":%d}\n\n' % n for n in range(3)]
    sse = {"Content-Type": "text/event-stream"}
    upstream.script(ScriptedReply(chunks=[events[0], 0.05, events[1], 0.05, events[2]], headers=sse))
    received = b""
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    async with gateway.client.post("/v1/chat/completions", json=body) as reply:
        try:
            async for piece in reply.content.iter_any():
                received += piece
        except ClientPayloadError:  # cut, so that nobody takes it for whole
            received += b"<cut>"
    assert received.endswith(b"<cut>")
    assert b'"n":' not in received
    assert b'"internal_error"' in received
    assert b"[DONE]" not in received


async def test_hook_check_reply(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Called for whole replies only, with every byte; raising `Refused` is the answer instead."""
    called: list[bool] = []

    class Plugin:
        @hookimpl
        async def check_reply(self, exchange: Exchange) -> None:
            called.append(exchange.stream)
            assert exchange.reply_body is not None
            if exchange.model == "mock/bad":
                raise Refused("The reply is not for you.", code="guardrail_blocked")

    gateway = await raven([Plugin], upstreams=[upstream])
    assert (await ask(gateway))[0] == 200
    status, answer = await ask(gateway, model="mock/bad")
    assert (status, answer["error"]["code"]) == (403, "guardrail_blocked")
    async with gateway.client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
        assert (await reply.read()).endswith(b"data: [DONE]\n\n")
    assert called == [False, False]


@pytest.mark.parametrize("error", [KeyError("inside"), None])
async def test_hook_check_reply_that_fails(
    raven: GatewayStarter, upstream: MockUpstream, error: Exception | None
) -> None:
    """A check that breaks or hangs does not let the reply out."""
    broken = failing("check_reply", error)
    gateway = await raven([broken], upstreams=[upstream], config={"plugin": {"broken": {"timeout_s": 0.2}}})
    status, answer = await ask(gateway)
    assert (status, answer["error"]["type"]) == (500, "internal_error")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "outcome"),
    [
        ("mock/any", 200, Outcome.COMPLETED),
        ("mock/fx-500", 500, Outcome.UPSTREAM_ERROR),
        ("", 400, Outcome.REFUSED),
    ],
)
async def test_hook_settle_exchange(
    raven: GatewayStarter, upstream: MockUpstream, model: str, status: int, outcome: Outcome, *, stream: bool
) -> None:
    """Called exactly once and before the client has its reply; a plugin that breaks there spoils nothing."""
    told: list[Any] = []

    class Books:
        @hookimpl
        def settle_exchange(self, exchange: Exchange) -> None:
            used = exchange.usage.total_tokens > 0 if exchange.usage else None
            told.append((exchange.outcome, used))
            exchange.response_headers["X-Settled"] = "yes"

    gateway = await raven([failing("settle_exchange", KeyError("inside")), Books], upstreams=[upstream])
    question = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
    with capture_logs() as events:
        async with gateway.client.post("/v1/chat/completions", json=question) as reply:
            await reply.read()
            before_anything_else_ran = list(told)
        await upstream.wait_until(lambda: told)
        await asyncio.sleep(0.02)
    assert reply.status == status
    assert told == [(outcome, True if status == 200 else None)]
    if status == 200:
        assert before_anything_else_ran == told
        assert ("X-Settled" in reply.headers) == (not stream)
    assert [e["hook"] for e in events if e["event"] == "plugin failed"] == ["settle_exchange"]


@pytest.mark.parametrize(
    ("model", "status", "outcome"),
    [
        ("mock/any", 200, Outcome.COMPLETED),
        ("mock/fx-500", 500, Outcome.UPSTREAM_ERROR),
        ("mock/fx-short", 502, Outcome.UPSTREAM_ERROR),
        ("", 400, Outcome.REFUSED),
    ],
)
async def test_hook_finish_exchange(
    raven: GatewayStarter, upstream: MockUpstream, model: str, status: int, outcome: Outcome
) -> None:
    """Called exactly once, whatever happened; what one observer raises, neither client nor the others see."""
    ended: list[tuple[int, Outcome]] = []

    class Watch:
        @hookimpl
        async def finish_exchange(self, exchange: Exchange) -> None:
            ended.append((exchange.status, exchange.outcome))

    gateway = await raven([failing("finish_exchange", KeyError("inside")), Watch], upstreams=[upstream])
    with capture_logs() as events:
        assert (await ask(gateway, model=model))[0] == status
        await upstream.wait_until(lambda: ended)
        await asyncio.sleep(0.02)
    assert ended == [(status, outcome)]
    assert [e["plugin"] for e in events if e["event"] == "plugin failed"] == ["broken"]


async def test_hook_observe_event(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Called once for each event; what one observer raises, neither the publisher nor the others see."""
    told: list[Event] = []

    class Broken:
        @hookimpl
        async def observe_event(self) -> None:
            raise KeyError("inside")

    class Watch:
        @hookimpl
        async def observe_event(self, event: Event) -> None:
            told.append(event)

    gateway = await raven([Broken, Watch], upstreams=[upstream])
    event = Event(type="budget.exceeded", organization_id="org_a", data={"spent": "2"})
    with capture_logs() as events:
        gateway.gateway.publish(event)
        assert told == []
        await upstream.wait_until(lambda: told)
    assert told == [event]
    assert event.id.startswith("evt_")
    assert [e["plugin"] for e in events if e["event"] == "plugin failed"] == ["broken"]
    assert gateway.gateway.observation.failures == {("broken", "observe_event"): 1}
    old = gateway.gateway.pipeline
    gateway.gateway.publish(event)
    await gateway.reload()  # the old plugins are there until they were told
    await upstream.wait_until(lambda: len(told) == 2 and not old.in_flight)


async def test_hook_find_principal(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """The first plugin that knows an id answers; the id is what was asked."""
    asked: list[str] = []

    class Nobody:
        @hookimpl
        async def find_principal(self, key_id: str) -> Principal | None:
            asked.append(key_id)
            return None

    class Somebody:
        @hookimpl
        async def find_principal(self, key_id: str) -> Principal | None:
            return Principal(key_id=key_id)

    gateway = await raven([Nobody, Somebody], upstreams=[upstream])
    question = {
        "keyId": "key_a",
        "body": {"model": "mock/m", "messages": [{"role": "user", "content": "Hi"}]},
    }
    async with gateway.client.post("/explain", json=question) as answer:
        assert (await answer.json())["key"]["id"] == "key_a"
    assert asked == ["key_a"]


async def test_hook_explain_exchange(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """All are asked in order about an exchange that is judged already; the first refusal is the error."""

    class Early:
        @hookimpl
        async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
            assert exchange.model == "mock/m"
            return [Finding(rule="early", verdict="refuses", reason="No.", status=403, code="forbidden")]

    class Late:
        @hookimpl
        async def explain_exchange(self) -> list[Finding]:
            return [Finding(rule="late", verdict="allows", reason="Yes.")]

    gateway = await raven([Early, Late], upstreams=[upstream])
    question = {"body": {"model": "mock/m", "messages": [{"role": "user", "content": "Hi"}]}}
    async with gateway.client.post("/explain", json=question) as answer:
        told = await answer.json()
    assert [one["rule"] for one in told["findings"]][-2:] == ["early", "late"]
    assert (told["outcome"], told["error"]["rule"]) == ("refused", "early")
    assert not upstream.seen
