"""T52, T55, T59, T60, T63, T66: who may pass, on every way in, and what must never come out."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_auth_keys import KeyStore, NewKey

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
    log,
    read_nothing,
)
from raven_proxy.gateway import Gateway
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR
from raven_proxy.mock import MockUpstream

from .conftest import PROVIDER_KEY, Case
from .running import call, serve, write_config
from .wire import CANARY, CHAT, Wire, chat, post

BASE = ("auth-keys", "openai")
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: g\r\n%b\r\n\r\n"


def models(*lines: bytes) -> bytes:
    return MODELS % b"\r\n".join(lines) if lines else MODELS.replace(b"%b\r\n", b"")


# -- T52: credentials ---------------------------------------------------------------------

KEY = ADMIN_KEY.encode()
NO_GOOD: list[tuple[bytes, ...]] = [
    (),
    (b"Authorization:",),
    (b"Authorization: Bearer",),
    (b"Authorization: Bearer  " + KEY,),
    (b"Authorization: Basic " + KEY,),
    (b"Authorization: " + KEY,),
    (b"Authorization: bearer",),
    (b"Authorization: Bearer" + KEY,),
    (b"Authorization: Bearer\t" + KEY,),
    (b"Authorization: Bearer " + KEY + b" x",),
    (b"Authorization: Bearer " + KEY + b", " + KEY,),
    (b"Authorization: Bearer " + KEY[:-1],),
    (b"Authorization: Bearer " + KEY + b"x",),
    (b"Authorization: Bearer " + KEY.swapcase(),),
    (b'Authorization: Bearer "' + KEY + b'"',),
    (b"Authorization: Bearer \xe9\xff" + KEY,),
    ("Authorization: Bearer ключ-é".encode(),),
    (b"Authorization: Bearer " + b"x" * 8000,),
    (b"Authorization: Bearer " + b"x" * 9000,),
    (b"Authorization: Bearer " + KEY, b"Authorization: Bearer " + KEY),
    (b"Authorization: Bearer " + KEY, b"authorization: Bearer other"),
    (b"Authorization: Bearer other", b"Authorization: Bearer " + KEY),
    (b"Authorization: Bearer other", b"x-api-key: " + KEY),
    (b"Authorization: Bearer " + KEY, b"x-api-key: other"),
    (b"x-api-key: " + KEY, b"x-api-key: " + KEY),
    (b"x-api-key:",),
    (b"api-key: " + KEY,),
    (b"Proxy-Authorization: Bearer " + KEY,),
    (b"Cookie: key=" + KEY,),
    (b"Authorization : Bearer " + KEY,),
    (b"X-A: b\r\n Authorization: Bearer " + KEY,),
]


@pytest.mark.parametrize("lines", NO_GOOD, ids=range(len(NO_GOOD)))
async def test_t52_odd_credentials_are_refused(case: Case, lines: tuple[bytes, ...]) -> None:
    """Anything but one well-formed, known key is a 401, or a 400 where it is not valid HTTP."""
    await case.start(base=BASE)
    reply = await case.ask(models(*lines))
    assert reply.status in {400, 401}, reply
    case.refused(reply, reply.status)
    case.refused(await case.ask(post(chat(), key=None, headers=())), 401)
    assert case.upstream.seen == []


async def test_t52_every_bad_key_gets_the_same_answer(case: Case) -> None:
    """Unknown, nearly right, revoked and expired keys are told apart by nothing in the reply."""
    gateway = await case.start(base=BASE)
    store = KeyStore(gateway.gateway.storage)
    soon = datetime.now(UTC) + timedelta(hours=1)
    revoked, expired = (
        await store.create(NewKey(name="a")),
        await store.create(NewKey(name="b", expires_at=soon)),
    )
    case.needles += [revoked.secret, expired.secret]
    await store.revoke(revoked.key.id)
    await change(gateway.gateway, "UPDATE keys SET expires_at = 1 WHERE id = ?", expired.key.id)
    bad = ["x", revoked.secret, expired.secret, expired.secret[:-1], ADMIN_KEY[:-1], "rk_live_" + "0" * 32]
    replies = [await case.ask(post(chat(), key=key)) for key in bad]
    bodies = {re.sub(rb"req_[0-9a-f]+", b"", reply.body) for reply in replies}
    heads = {tuple(sorted(reply.headers.keys() - {"date", "x-request-id"})) for reply in replies}
    assert [reply.status for reply in replies] == [401] * len(bad)
    assert len(bodies) == len(heads) == 1
    case.refused(replies[0], 401, code="invalid_api_key", type="authentication_error")
    assert case.upstream.seen == []


async def test_t52_and_in_about_the_same_time(case: Case) -> None:
    """How long a refusal takes does not tell how much of a key was right."""
    await case.start(base=BASE)
    times: dict[str, list[float]] = {"x": [], ADMIN_KEY[:-1] + "x": [], "rk_live_" + "0" * 32: []}
    async with await case.wire() as wire:
        for key in list(times) * 150:
            began = time.perf_counter()
            await wire.send(models(b"Authorization: Bearer " + key.encode()))
            assert (await wire.reply()).status == 401
            times[key].append(time.perf_counter() - began)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) < 3 * min(medians) + 0.001


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "token", "x-api-key", "Authorization"])
async def test_t52_a_key_in_the_query_is_never_looked_at(case: Case, name: str) -> None:
    """A key in the URL ends up in logs and histories: it is not accepted, and not logged."""
    await case.start(base=BASE)
    for path in (f"{CHAT}?{name}={ADMIN_KEY}", f"/v1/mock/chat/completions?{name}=Bearer%20{ADMIN_KEY}"):
        case.refused(await case.ask(post(chat(), path, key=None)), 401)
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer " + KEY, b"authorization:Bearer " + KEY, b"Authorization: bearer " + KEY + b"  ",
     b"x-api-key: " + KEY, b"Authorization: Bearer " + KEY + b"\r\nx-api-key: " + KEY],
)  # fmt: skip
async def test_t52_the_good_spellings_pass(case: Case, line: bytes) -> None:
    """The scheme's case and white space around a field do not matter (RFC 9110)."""
    await case.start(base=BASE)
    assert (await case.ask(models(line))).status == 200


# -- T55: keys that change ----------------------------------------------------------------


async def change(gateway: Gateway, sql: str, key_id: str) -> None:
    """Change the table of keys as another plugin, or another process, would."""
    async with gateway.storage.transaction() as transaction:
        await transaction.execute(sql, (key_id,))
        await transaction.bump("keys")


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("UPDATE keys SET is_active = 0 WHERE id = ?", 401, "invalid_api_key"),
        ("UPDATE keys SET expires_at = 1 WHERE id = ?", 401, "invalid_api_key"),
        ("DELETE FROM keys WHERE id = ?", 401, "invalid_api_key"),
        ("UPDATE keys SET scopes = '[\"models:read\"]' WHERE id = ?", 403, "missing_scope"),
        ("UPDATE keys SET allowed_models = '[\"gpt-*\"]' WHERE id = ?", 403, "model_not_allowed"),
        ("UPDATE keys SET ip_allowlist = '[\"10.0.0.0/8\"]' WHERE id = ?", 403, "ip_not_allowed"),
    ],
)
async def test_t55_a_change_of_a_key_holds_from_the_next_request(
    case: Case, sql: str, status: int, code: str
) -> None:
    """Revoked, expired, deleted, narrowed: the next request on the same connection is refused."""
    gateway = await case.start(base=BASE)
    issued = await KeyStore(gateway.gateway.storage).create(NewKey(name="a"))
    case.needles.append(issued.secret)
    async with await case.wire() as wire:
        await wire.send(post(chat(), key=issued.secret))
        assert (await wire.reply()).status == 200
        await change(gateway.gateway, sql, issued.key.id)
        await wire.send(post(chat(), key=issued.secret))
        case.refused(await wire.reply(), status, code=code)
    assert len(case.upstream.seen) == 1


async def test_t55_a_rotated_key_is_another_key(case: Case) -> None:
    """After a rotation the new secret works and the old one does not."""
    gateway = await case.start(base=BASE)
    store = KeyStore(gateway.gateway.storage)
    old = await store.create(NewKey(name="a"))
    new = await store.rotate(old.key.id)
    case.needles += [old.secret, new.secret]
    assert old.secret[:8] == new.secret[:8]
    assert (await case.ask(post(chat(), key=new.secret))).status == 200
    case.refused(await case.ask(post(chat(), key=old.secret)), 401)
    case.refused(await case.ask(post(chat(), key=new.secret[:12] + old.secret[12:])), 401)


async def test_t55_every_worker_obeys_the_command_at_once(tmp_path: Path, upstream: MockUpstream) -> None:
    """`keys create` and `keys revoke` beside two running workers: both obey when the command returns."""
    config = write_config(tmp_path, upstream)
    async with serve(config, "--workers", "2") as gateway:
        pids = await two_workers(gateway)
        status, output, errors = await call(
            "keys", "create", "--name", "x", "--json", "--config", str(config)
        )
        assert status == 0, errors
        issued = msgspec.json.decode(output)
        secret, key_id = issued["key"], issued["id"]
        assert await each_worker(pids, gateway.ask, post(chat(), key=secret)) == [200, 200]
        status, _, errors = await call("keys", "revoke", key_id, "--config", str(config))
        assert status == 0, errors
        assert await each_worker(pids, gateway.ask, post(chat(), key=secret)) == [401, 401]
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert secret not in gateway.errors()
    assert len(upstream.seen) == 2


async def two_workers(gateway: Any) -> list[int]:
    async with asyncio.timeout(10):
        while len(gateway.workers()) < 2:
            await asyncio.sleep(0.02)
        for pid in gateway.workers():  # each takes connections by itself
            while await each_worker([pid], gateway.ask, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n") != [
                200
            ]:
                await asyncio.sleep(0.02)
    return list(gateway.workers())


async def each_worker(pids: Sequence[int], ask: Any, raw: bytes) -> list[int]:
    """Send a request to each worker, by holding the others back."""
    statuses = []
    for pid in pids:
        others = [other for other in pids if other != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            statuses.append((await ask(raw)).status)
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)
    return statuses


# -- T59: nothing without a key -----------------------------------------------------------

PUBLIC = {"live", "ready"}


class Routes:
    """A plugin with routes of its own, as dashboards and metrics have them."""

    @hookimpl
    def register_routes(self, register: Any) -> None:
        for path in ("/metrics", "/docs", "/things/{id}", "/files/{name:path}"):
            face = Face(name=path, path=path, methods=("GET", "POST"), read_call=read_nothing, serve=self.serve,
                        json_body=False)  # fmt: skip
            register(face)

    async def serve(self, exchange: Exchange) -> Reply:
        return Reply(body=b"secret things")


async def test_t59_every_route_needs_a_key(case: Case) -> None:
    """The live route table, walked without credentials: 401 everywhere but at the two health checks."""
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


# -- T60: every way in --------------------------------------------------------------------

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
    from raven_proxy.mock import ScriptedReply

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


# -- T63: a caller's own provider key -----------------------------------------------------

BYOK = "sk-byok-0123456789abcdefTail"


@pytest.mark.parametrize("path", [CHAT, "/v1/mock/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_t63_a_callers_key_goes_to_the_addressed_provider_alone(
    case: Case, path: str, stream: bool
) -> None:
    """X-Provider-Key takes the place of the stored key; a fallback of another vendor never sees it."""
    case.needles.append(BYOK)
    async with MockUpstream() as second:
        case.upstreams = [case.upstream, second]
        alias = {"name": "two", "targets": ["mock/fx-503", "mock2/any"]}
        await case.start(base=("auth-keys", "byok", "openai", "meter"), config={"models": [alias]})
        headers = (f"X-Provider-Key: {BYOK}",)
        assert (
            await case.ask(
                post(chat("any" if "mock/" in path else "mock/any", stream=stream), path, headers=headers)
            )
        ).status == 200
        reply = await case.ask(post(chat("two", stream=stream), headers=headers))
        case.refused(reply, 503)
        assert second.seen == []
        for seen in case.upstream.seen:
            assert seen.key == BYOK
            assert "x-provider-key" not in seen.headers
            assert PROVIDER_KEY.encode() not in seen.raw
            assert KEY not in seen.raw
        assert (await case.ask(post(chat("two")))).status == 200  # without it the fallback serves
        assert second.seen[0].key == PROVIDER_KEY


async def test_t63_without_it_the_clients_own_key_goes_nowhere(case: Case) -> None:
    """The proxy key is never forwarded, in whichever header it came."""
    await case.start(base=("auth-keys", "byok", "openai"))
    bare = post(chat(), key=None)
    for line in (b"Authorization: Bearer " + KEY, b"x-api-key: " + KEY, b"authorization: bearer " + KEY):
        assert (await case.ask(bare.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n", 1))).status == 200
    assert [seen.key for seen in case.upstream.seen] == [PROVIDER_KEY] * 3
    assert all(KEY not in seen.raw for seen in case.upstream.seen)


@pytest.mark.parametrize(
    "value", ["", " ", "\t", "x" * 5000, "a\x7fb", "é", ADMIN_KEY, "rk_live_" + "x" * 32]
)
async def test_t63_an_unusable_key_is_a_400_and_never_ours_instead(case: Case, value: str) -> None:
    """An empty or broken X-Provider-Key is refused: the stored key does not silently stand in."""
    await case.start(base=("auth-keys", "byok", "openai"))
    for path in (CHAT, "/v1/mock/chat/completions", "/v1/mock/responses"):
        raw = post(chat(), path, headers=(f"X-Provider-Key: {value}",))
        case.refused(await case.ask(raw), 400)
    two = post(chat(), headers=(f"X-Provider-Key: {BYOK}", f"X-Provider-Key: {BYOK}"))
    case.refused(await case.ask(two), 400)
    assert case.upstream.seen == []


async def test_t63_gates_apply_to_byok_as_to_all(case: Case) -> None:
    """Whoever brings a provider key still passes authentication, scopes, models and policies."""
    case.needles.append(BYOK)
    headers = (f"X-Provider-Key: {BYOK}",)
    await case.start(Refusing(), base=("auth-keys", "byok", "openai"))
    case.refused(await case.ask(post(chat(), key=None, headers=headers)), 401)
    case.refused(await case.ask(post(chat(), headers=headers)), 403, code="guardrail_blocked")
    assert case.upstream.seen == []


async def test_t63_a_refused_caller_key_is_not_repeated(case: Case) -> None:
    """A provider that echoes the key in its refusal: the client's error has it scrubbed."""
    case.needles.append(BYOK)
    await case.start(base=("auth-keys", "byok", "openai", "meter"))
    raw = post(chat("mock/fx-401"), headers=(f"X-Provider-Key: {BYOK}",))
    inner = case.refused(await case.ask(raw), 502)
    assert inner["metadata"]["status"] == 401


# -- T66: needles -------------------------------------------------------------------------


class Loud:
    """A plugin that fails with secrets in its exceptions, and logs them."""

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        if exchange.model == "mock/loud" and exchange.outgoing is not None:
            raise RuntimeError(f"cannot send {exchange.outgoing.headers} for {exchange.headers}")

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        if exchange.model == "mock/loud":
            raise ValueError(f"Authorization: {exchange.headers['authorization']}")


async def test_t66_no_secret_is_left_anywhere_after_a_battery(case: Case) -> None:
    """Keys, cookies and prompts are in no log at debug level, error, database file or open route."""
    case.may_fail = True
    cookie = "sid-5e1f0c7a9b"
    broken = "rk_live_" + "Q7xw" * 8
    case.needles += [BYOK, cookie, broken, "canary"]
    base = ("auth-keys", "byok", "meter", "openai", "demo")
    gateway = await case.start(Loud(), base=base, config={"idle_timeout_s": 0.2, "first_byte_timeout_s": 0.2})
    faults = """fx-401 fx-403 fx-429 fx-500 fx-html-502 fx-reset fx-reset-mid fx-short fx-chunk-cut fx-silent
        fx-stall fx-error-event fx-bad-json fx-bad-header fx-hop-headers fx-no-done fx-gzip-cut loud any""".split()
    headers = (f"Cookie: session={cookie}", f"X-Provider-Key: {BYOK}")
    errors = b""
    for model, stream, extra in itertools.product(faults, (False, True), ((), headers)):
        reply = await case.ask(post(chat(f"mock/{model}", stream=stream), headers=extra))
        if reply.status >= 400:
            errors += reply.body
            case.refused(reply, reply.status)
        else:
            errors += reply.body.rpartition(b'"error":')[2] if b'"error"' in reply.body else b""
    malformed = [
        f"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {broken}\x00x\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {broken}\x01\r\n\r\n",
        f"GET /v1/models?key={ADMIN_KEY} HTTP/1.1\r\nHost: g\r\n\r\n",
        f"GET /v1/models?key={broken} HTTP/9.9\r\nHost: g\r\nX: {cookie}\r\n\r\n",
        f"{broken}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: g\r\n{broken}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: g\r\nX-{broken}: {'x' * 9000}\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {broken}\r\nContent-Length: x\r\n\r\n",
    ]
    for text in malformed:
        reply = await case.ask(text.encode())
        case.refused(reply, reply.status)
        errors += reply.body
    async with await case.wire() as wire:  # leaves in the middle
        await wire.send(post(chat("mock/fx-stall", stream=True), headers=headers)[:-20])
    case.find_needles(errors, "an error")
    for path in ("/health/live", "/health/ready", "/v1/models", "/v1/usage", "/reload"):
        reply = await case.ask(post(b"", path, method="POST" if path == "/reload" else "GET"))
        assert reply.status == 200
        case.find_needles(reply.body + str(reply.headers).encode(), path)
    await gateway.gateway.storage.flush()
    await case.settle()
    lines = b"".join(case.lines)
    assert b"Traceback" in lines  # the plugin's own, redacted
    assert lines.count(b"\n") < 12 * len(faults) * 4
    for seen in case.upstream.seen:
        assert KEY not in seen.raw
        assert cookie.encode() not in seen.raw


@pytest.mark.parametrize(
    "secret",
    [
        "rk_live_abcdefghijklmnop",
        "sk-proj-abcdefghijklmnop",
        "gsk_abcdefghijklmnop",
        "AIzaSyabcdefghijklmnopqrst",
    ],
)
def test_t66_masks_show_the_last_four_only(secret: str) -> None:
    """A masked key shows its last four characters, wherever it stands in a text."""
    for text in (secret, f"Bearer {secret}", f"x={secret}, y", f"?key={secret}&x", f'{{"a": "{secret}"}}'):
        masked = log.scrub(text)
        assert secret not in masked
        assert secret[:-4] not in masked
        assert f"…{secret[-4:]}" in masked


@pytest.mark.parametrize(
    "secret", ["Bearer abc", "sk-12345678", "?key=short", "Basic dXNlcg==", "api_key=1234"]
)
def test_t66_of_a_short_secret_nothing_is_shown(secret: str) -> None:
    """Four of twelve characters would be half a secret: short ones are masked whole."""
    assert log.scrub(secret)[-4:] != secret[-4:]
    assert "…" in log.scrub(secret)


class Chatty:
    """Logs what a client sent, and fails with it."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        raise ValueError(exchange.headers["x-nasty"])


@pytest.mark.parametrize(
    "nasty", ["a\tb", "\x1b[31mred", "a\u2028b\u2029c\u0085d", "é", "\udce9\udcff", "x" * 5000]
)
async def test_t66_a_field_of_the_log_stays_one_json_line(case: Case, nasty: str) -> None:
    """Line separators, escape codes and broken UTF-8 in a logged value: one line of valid JSON each."""
    case.may_fail = True
    await case.start(Chatty())
    reply = await case.ask(post(chat(), headers=(f"X-Nasty: {nasty}",)))
    if reply.status == 500:
        assert case.events("plugin failed")[0]["plugin"] == "chatty"
    case.refused(reply, reply.status)
    await case.settle()
    for line in case.lines:
        assert len(line.decode().splitlines()) == 1
        assert b"\x1b" not in line
        msgspec.json.decode(line)
