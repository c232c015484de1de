"""T63, T66: whom a provider key may reach, and what must never come out."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from raven_proxy import (
    Exchange,
    Refused,
    hookimpl,
    log,
)
from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .conftest import PROVIDER_KEY, Case
from .wire import CHAT, chat, post

KEY = ADMIN_KEY.encode()


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


class Refusing:
    """A gate that lets nobody pass."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        raise Refused("Never.", code="guardrail_blocked")


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


def malformed(key: str, cookie: str) -> list[str]:
    """Requests that are not valid HTTP, or carry a key where none belongs."""
    return [
        f"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\x00x\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\x01\r\n\r\n",
        f"GET /v1/models?key={ADMIN_KEY} HTTP/1.1\r\nHost: g\r\n\r\n",
        f"GET /v1/models?key={key} HTTP/9.9\r\nHost: g\r\nX: {cookie}\r\n\r\n",
        f"{key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: g\r\n{key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: g\r\nX-{key}: {'x' * 9000}\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: x\r\n\r\n",
    ]


async def test_t66_no_secret_is_left_anywhere_after_a_battery(case: Case) -> None:
    """Keys, cookies and prompts are in no log at debug level, error, database file or open route."""
    case.may_fail = True
    cookie = "sid-5e1f0c7a9b"
    broken = "rk_live_" + "Q7xw" * 8
    case.needles += [BYOK, cookie, broken, "canary"]
    base = ("auth-keys", "byok", "meter", "openai", "demo")
    gateway = await case.start(Loud(), base=base, config={"idle_timeout_s": 0.2, "first_byte_timeout_s": 0.2})
    faults = """
        fx-401 fx-403 fx-429 fx-500 fx-html-502 fx-reset fx-reset-mid fx-short fx-chunk-cut
        fx-silent fx-stall fx-error-event fx-bad-json fx-bad-header fx-hop-headers fx-no-done fx-gzip-cut loud
        any""".split()
    headers = (f"Cookie: session={cookie}", f"X-Provider-Key: {BYOK}")
    errors = b""
    for model, stream, extra in itertools.product(faults, (False, True), ((), headers)):
        reply = await case.ask(post(chat(f"mock/{model}", stream=stream), headers=extra))
        if reply.status >= 400:
            errors += reply.body
            case.refused(reply, reply.status)
            assert reply.status != 500 or model in {"loud", "fx-500"}
        else:
            errors += reply.body.rpartition(b'"error":')[2] if b'"error"' in reply.body else b""
    for text in malformed(broken, cookie):
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
