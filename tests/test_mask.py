"""A provider key never comes back, and what is no key passes byte for byte."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest

from raven_proxy import Credential, Exchange, hookimpl
from raven_proxy.exchange import Outgoing
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mask import Mask, blot, sent_secrets
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.testing import run_stage

SECRET = "pk/secret+99=="
KEY = SECRET.encode()
STARS = b"*" * len(KEY)
CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "Hi"}]}
ERROR = b'{"error":{"message":"Incorrect API key: %b"}}' % KEY


def outgoing(**headers: str) -> Outgoing:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Outgoing("POST", "/", named, b"")


@pytest.mark.parametrize(
    ("headers", "credential", "expected"),
    [
        ({"authorization": "Bearer sk-secret"}, "sk-secret", {b"sk-secret"}),
        (
            {"authorization": "Bearer an-access-token"},
            "{an identity}",
            {b"an-access-token", b"{an identity}"},
        ),
        ({"x_api_key": "sk-secret"}, None, {b"sk-secret"}),
        ({"api_key": "sk-secret", "x_amz_security_token": "a-session"}, "", {b"sk-secret", b"a-session"}),
        ({"authorization": "Bearer with/slash"}, "with/slash", {b"with/slash", b"with\\/slash"}),
        ({"authorization": "Bearer short"}, "short", set()),
        ({}, None, set()),
    ],
)
def test_what_was_sent_as_authorization_is_secret(
    headers: dict[str, str], credential: str | None, expected: set[bytes]
) -> None:
    """The credential and what the provider made of it; each once, and nothing short."""
    held = Credential(credential) if credential is not None else None
    found = sent_secrets(outgoing(**headers), held)
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a " + KEY + b" b", b"a " + STARS + b" b"),
        (KEY + KEY, STARS + STARS),
        (b"p" + KEY + b"pk/sec", b"p" + STARS + b"pk/sec"),
        (b"pk/pk/secret+99=" + KEY, b"pk/pk/secret+99=" + STARS),
        (b"pk/secret+99=", b"pk/secret+99="),
        (b"pk\\/secret+99==", b"*" * (len(KEY) + 1)),
        (b"nothing here", b"nothing here"),
    ],
)
def test_a_key_is_masked_however_it_is_cut(data: bytes, expected: bytes) -> None:
    """As many asterisks as it has bytes; what only begins like it comes out whole."""
    secrets = sent_secrets(outgoing(), Credential(SECRET))
    assert run_stage(lambda: Mask(secrets), data) == expected
    assert blot(data, secrets) == expected


def test_only_the_start_of_a_key_is_held_back() -> None:
    """A chunk that cannot be the start of one goes on at once, whole."""
    mask = Mask((KEY,))
    assert mask.feed(b"data: x\n\n") == b"data: x\n\n"
    assert mask.feed(b"data: pk/s") == b"data: "
    assert mask.feed(b"x\n\n") == b"pk/sx\n\n"
    assert mask.close() == b""


@pytest.fixture
async def gateway(raven: GatewayStarter, upstream: MockUpstream) -> RunningGateway:
    return await raven([Keys], upstreams=[upstream])


class Keys:
    """Gives every upstream the one key, and keeps what plugins saw of a reply."""

    @hookimpl
    async def provide_credential(self, exchange: Exchange) -> Credential:
        return Credential(SECRET)

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        assert KEY not in (exchange.reply_body or b"")


async def ask(
    gateway: RunningGateway, path: str = "/v1/chat/completions", **fields: Any
) -> tuple[int, bytes]:
    """Give status, and headers with body."""
    async with gateway.client.post(path, json=CHAT | fields) as reply:
        try:
            body = await reply.read()
        except OSError:  # broken off, as the case may want
            body = b""
        return reply.status, repr(reply.raw_headers).encode() + body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/mock/chat/completions", "/v1/mock/other"])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_whole_reply_names_no_key(
    gateway: RunningGateway, upstream: MockUpstream, path: str, status: int, encoding: str
) -> None:
    """An error under any status, on any path, compressed or not, in headers too."""
    body = gzip.compress(ERROR) if encoding == "gzip" else ERROR
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding, "OpenAI-Note": SECRET}
    upstream.script(ScriptedReply(status=status, body=body, headers=headers))
    answered, text = await ask(gateway, path)
    assert upstream.seen[0].key == SECRET
    assert KEY not in text
    assert (answered == 200) is (status == 200)
    if status == 200:
        assert ERROR.replace(KEY, STARS) in text


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/octet-stream"])
async def test_a_stream_names_no_key(
    gateway: RunningGateway, upstream: MockUpstream, size: int, kind: str
) -> None:
    """However it is cut."""
    events = b'data: {"id":"1","choices":[]}\n\ndata: ' + ERROR + b"\n\ndata: [DONE]\n\n"
    cuts = [events[i : i + size] for i in range(0, len(events), size)]
    upstream.script(ScriptedReply(chunks=list(cuts), headers={"Content-Type": kind}))
    status, text = await ask(gateway, stream=True)
    assert status == 200
    assert KEY not in text
    assert STARS in text or b"[redacted]" in text


@pytest.mark.parametrize("tail", [b"pk/sec", b"p", KEY])
async def test_a_stream_that_ends_like_a_key_is_whole(
    gateway: RunningGateway, upstream: MockUpstream, tail: bytes
) -> None:
    """What was held back comes with the end."""
    headers = {"Content-Type": "application/octet-stream"}
    upstream.script(ScriptedReply(chunks=[b"some ", b"bytes ", tail], headers=headers))
    async with gateway.client.get("/v1/mock/things/1") as reply:
        expected = STARS if tail == KEY else tail
        assert await reply.read() == b"some bytes " + expected


async def test_a_translated_error_names_no_key(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """What another dialect's client is told, of whole replies and of streams."""
    upstreams = [{"name": "an", "provider": "anthropic", "base_url": upstream.url}]
    gateway = await raven([Keys], upstreams=upstreams, base=("openai", "anthropic"))
    said = {"type": "error", "error": {"type": "authentication_error", "message": f"bad key {SECRET}"}}
    event = b"event: error\ndata: " + msgspec.json.encode(said) + b"\n\n"
    for reply, stream in (
        (ScriptedReply.of_json(said), False),
        (ScriptedReply.of_json(said, status=401), False),
        (ScriptedReply(chunks=[event], headers={"Content-Type": "text/event-stream"}), True),
    ):
        upstream.script(reply)
        _, text = await ask(gateway, model="an/m", stream=stream)
        assert KEY not in text
        assert b"bad key" in text or b"[redacted]" in text
