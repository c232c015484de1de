"""T59, T60: no route without a key, no path around a gate."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from raven_proxy import (
    Candidate,
    Credential,
    Exchange,
    Face,
    Principal,
    Refused,
    Reply,
    Stage,
    hookimpl,
    read_nothing,
)
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import ScriptedReply

from .conftest import Case
from .wire import CHAT, chat, post

# Documentation: what is open source anyway, and list prices; public_pricing = false closes those.
PUBLIC = {"live", "ready", "openapi"} | {
    "pricing", "pricing.css", "pricing.js", "pricing.json",
}  # fmt: skip


class Routes:
    """A plugin with routes of its own, as dashboards and metrics have them."""

    @hookimpl
    def register_routes(self, register: Any) -> None:
        for path in ("/metrics", "/docs", "/things/{id}", "/files/{name:path}"):
            register(
                Face(
                    name=path,
                    path=path,
                    methods=("GET", "POST"),
                    read_call=read_nothing,
                    serve=self.serve,
                    json_body=False,
                )
            )

    async def serve(self, exchange: Exchange) -> Reply:
        return Reply(body=b"secret things")


async def test_t59_every_route_needs_a_key(case: Case) -> None:
    """The live route table, walked without credentials: 401 but at health checks and documentation."""
    gateway = await case.start(Routes(), base=("auth-keys", "byok", "meter", "openai", "demo"))
    faces = gateway.gateway.pipeline.faces()
    assert len(faces) > 10
    seen = set()
    for face in faces:
        for method, prefix in itertools.product(face.methods, ("", "/api")):
            path = prefix + re.sub(r"\{[^}]*\}", "x", face.path)
            reply = await case.ask(post(chat(), path, key=None, method=method))
            if face.name in PUBLIC and not prefix:
                assert reply.status == 200
                seen.add(face.name)
            elif prefix and not face.path.startswith("/v1/"):
                case.refused(reply, 404)
            else:
                case.refused(reply, 401, code="invalid_api_key")
    assert seen == PUBLIC
    for path in ("/v1/mock/anything", "/v1/openai/files", "/api/v1/demo/chat/completions", "/v1/nobody/x"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            case.refused(await case.ask(post(chat(), path, key=None, method=method)), 401)
    assert case.upstream.seen == []


async def test_t59_no_key_plugin_lets_nobody_pass(case: Case) -> None:
    """Where no plugin knows keys, every request is a 401."""
    await case.start(config={"plugins": ["openai"], "plugins_dir": None})
    for path in (CHAT, "/v1/models", "/v1/mock/x", "/reload"):
        case.refused(await case.ask(post(chat(), path)), 401 if path != "/v1/models" else 405)
    assert case.upstream.seen == []


class Lookalike(msgspec.Struct):
    key_id: str = "key_fake"
    scopes: frozenset[str] = ADMINISTRATOR.scopes


class Judging:
    """An `authenticate` hook that answers as it is told."""

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Any:
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (None, 401),
        (True, 401),
        ("admin", 401),
        (0, 401),
        ({"key_id": "x"}, 401),
        (object(), 401),
        (Lookalike(), 401),
        (Principal, 401),
        (RuntimeError("database is gone"), 503),
        (KeyError("x"), 503),
        (asyncio.CancelledError(), 503),
        (SystemExit(1), 503),
        (TimeoutError(), 503),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else None,
)
async def test_t59_a_broken_key_plugin_lets_nobody_pass(case: Case, verdict: Any, status: int) -> None:
    """A key plugin that answers junk is a 401, one that breaks a 503; never a pass."""
    case.may_fail = verdict is not None
    await case.start(Judging(verdict))
    for path in (CHAT, "/v1/mock/chat/completions", "/reload"):
        case.refused(await case.ask(post(chat(), path, key="whoever")), status)
    assert (await case.chat()).status == 200  # the next request finds the gateway alive
    assert len(case.upstream.seen) == 1


PROMPT: dict[str, Any] = {"model": "mock/any", "prompt": "hi"}
INPUT: dict[str, Any] = {"model": "mock/any", "input": "hi"}
WAYS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, chat()),
    (CHAT, chat(stream=True)),
    ("/api" + CHAT, chat()),
    ("/v1/openai/chat/completions", chat()),
    ("/v1/openai/chat/completions", chat(stream=True)),
    ("/v1/mock/chat/completions", chat()),
    ("/v1/mock/chat/completions/", chat()),
    ("/api/v1/mock/chat/completions", chat(stream=True)),
    ("/v1/completions", PROMPT),
    ("/v1/completions", {**PROMPT, "stream": True}),
    ("/v1/openai/completions", PROMPT),
    ("/v1/embeddings", INPUT),
    ("/v1/mock/embeddings", INPUT),
    ("/v1/mock/responses", INPUT),
    ("/v1/mock/batches", INPUT),
    ("/v1/mock/some/thing/new?x=1", {"a": 1}),
]
way = pytest.mark.parametrize(("path", "body"), WAYS)


class Watching:
    """Implements every hook of a request and notes which were called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        self.called.append("authenticate")
        return None

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        self.called.append("check_request")

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply | None:
        self.called.append("answer")
        return None

    @hookimpl
    async def choose_upstreams(self, exchange: Exchange) -> Sequence[Candidate] | None:
        self.called.append("choose_upstreams")
        return None

    @hookimpl
    async def provide_credential(self, exchange: Exchange) -> Credential | None:
        self.called.append("provide_credential")
        return None

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        self.called.append("before_send")

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage | None:
        self.called.append("open_stage")
        return None

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        self.called.append("check_reply")

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.called.append("finish_exchange")


class Refusing:
    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        raise Refused("Never.", code="guardrail_blocked")


@way
async def test_t60_every_way_in_passes_every_hook(case: Case, path: str, body: dict[str, Any]) -> None:
    """No path skips a hook: each is called once, in order, streamed or not."""
    case.upstream.handler = always_answer
    watching = Watching()
    await case.start(watching)
    # The good key is answered for before this plugin is asked: send another first.
    case.refused(await case.ask(post(body, path, key="unknown")), 401)
    await case.settle()
    assert watching.called == ["authenticate", "finish_exchange"]
    watching.called.clear()
    reply = await case.ask(post(body, path))
    assert reply.status == 200, reply
    await case.settle()
    wanted = "check_request answer choose_upstreams provide_credential before_send open_stage".split()
    whole = [] if body.get("stream") else ["check_reply"]
    assert watching.called == [*wanted, *whole, "finish_exchange"]


async def always_answer(seen: Any) -> Any:
    """Answer what the mock does not know."""
    known = seen.path in {CHAT, "/v1/completions", "/v1/embeddings"}
    return None if known else ScriptedReply.of_json({"ok": True})


@way
async def test_t60_no_way_in_skips_a_gate(case: Case, path: str, body: dict[str, Any]) -> None:
    """On every path: no key is 401, a gate that refuses 403, a key without the scope or model 403."""
    gateway = await case.start(Refusing())
    case.refused(await case.ask(post(body, path, key=None)), 401)
    case.refused(await case.ask(post(body, path)), 403, code="guardrail_blocked")
    narrow: list[dict[str, Any]] = [
        {"scopes": frozenset({"models:read"})},
        {"scopes": frozenset()},
        {"allowed_models": ("gpt-*",)},
        {"allowed_models": ()},
    ]
    for fields in narrow:
        await case.start(principal=msgspec.structs.replace(ADMINISTRATOR, **fields))
        reply = await case.ask(post(body, path))
        case.refused(reply, 403, code="missing_scope" if "scopes" in fields else "model_not_allowed")
    assert case.upstream.seen == []
    assert gateway.gateway.in_flight == 0


@pytest.mark.parametrize(("scope", "status"), [("embeddings:write", 200), ("chat:write", 403)])
async def test_t60_a_raw_path_takes_the_scope_of_its_face_alone(case: Case, scope: str, status: int) -> None:
    """What a key may do on a face it may do on the vendor's own path for it, and nothing else."""
    await case.start(principal=Principal(key_id="key_one", scopes=frozenset({scope})))
    for path in ("/v1/embeddings", "/v1/mock/embeddings"):
        reply = await case.ask(post({"model": "mock/e" if path.count("/") == 2 else "e", "input": "a"}, path))
        assert reply.status == status, path


async def test_t60_a_limited_key_reads_nothing_elsewhere(case: Case) -> None:
    """A key limited to some models may use raw paths without a model only where it may call everything."""
    scopes = frozenset({"chat:write", "files:read", "models:read"})
    limited = Principal(key_id="key_two", scopes=scopes, allowed_models=("other/*",))
    await case.start(principal=limited)
    for path in ("/v1/mock/models", "/v1/mock/files/file-abc/content"):
        case.refused(await case.ask(post(b"", path, method="GET")), 403, code="model_not_allowed")
    assert case.upstream.seen == []
