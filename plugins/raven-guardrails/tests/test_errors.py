"""What a provider says of an error is judged as a reply is, and the header says what was."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

from . import vendors
from .test_charsets import PROVIDER_KEY, start
from .test_replies import MESSAGES, cut, read, script
from .test_requests import WORD, said

WORDS = "falcon is no model"
HOOK = {"name": "hook", "type": "webhook", "config": {"url": "http://203.0.113.1/"}}
SCHEMA = {"name": "shape", "type": "json_schema", "config": {"schema": {"type": "object"}}}
BODIES: dict[str, bytes] = {
    "openai": msgspec.json.encode({"error": {"message": WORDS, "code": "falcon", "param": "falcon"}}),
    "fastapi": msgspec.json.encode({"detail": [{"loc": ["body", "falcon"], "msg": WORDS}]}),
    "html": f"<html><h1>{WORDS}</h1></html>".encode(),
    "escaped": b'{"error": "the \\u0066alcon is no model"}',
}
WAYS: dict[str, tuple[str, Any]] = {
    "chat": ("/v1/chat/completions", said("hi")),
    "stream": ("/v1/chat/completions", said("hi", stream=True)),
    "translated": ("/v1/messages", {"model": "mock/m", **MESSAGES}),
    "raw": ("/v1/mock/chat/completions", {**said("hi"), "model": "m"}),
    "unknown": ("/v1/mock/new/endpoint", {"model": "m"}),
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDRAILS_TEST_KEY", PROVIDER_KEY)


def refuse(upstream: MockUpstream, body: bytes, status: int = 400) -> None:
    upstream.script(ScriptedReply(status=status, headers={"Content-Type": "application/json"}, chunks=[body]))


@pytest.mark.parametrize("action", ["block", "redact"])
@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize("name", BODIES)
async def test_an_error_is_judged(
    raven: Any, upstream: MockUpstream, name: str, status: int, action: str
) -> None:
    """In whatever form it comes and on whatever face: the word is not on the wire, and who ran is said."""
    gateway = await start(raven, upstream, WORD, applies_to="output", action=action)
    for way, (path, body) in WAYS.items():
        refuse(upstream, BODIES[name], status)
        async with gateway.client.post(path, json=body) as reply:
            text = await reply.text()
            assert "falcon" not in text, way
            said_of_it = "blocked" if action == "block" else "redacted"
            assert reply.headers["X-Raven-Guardrails"] == f"words;output={said_of_it}", way
            assert (reply.status == 403) == (action == "block"), way
            assert "guardrail" in text or "[REDACTED]" in text


async def test_what_is_clean_passes(raven: Any, upstream: MockUpstream) -> None:
    """An error stays what it is; a schema has no say in it."""
    gateway = await start(raven, upstream, WORD, SCHEMA, applies_to="output")
    refuse(upstream, b'{"error": {"message": "no such model", "code": "model_not_found"}}', 404)
    async with gateway.client.post("/v1/chat/completions", json=said("hi")) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["message"], error["code"]) == (404, "no such model", "model_not_found")
        assert reply.headers["X-Raven-Guardrails"] == "words;output=passed"


@pytest.mark.parametrize(("on_error", "is_said"), [("block", False), ("allow", True)])
async def test_a_webhook_is_not_asked(
    raven: Any, upstream: MockUpstream, on_error: str, is_said: bool
) -> None:
    """Where it has to agree, the provider's words are left out; the status stays."""
    hook = {**HOOK, "config": {**HOOK["config"], "on_error": on_error}}
    gateway = await start(raven, upstream, hook, applies_to="output")
    refuse(upstream, BODIES["openai"], 429)
    async with gateway.client.post("/v1/chat/completions", json=said("hi")) as reply:
        text = await reply.text()
        assert reply.status == 429
        assert "Retry-After" in reply.headers
        assert ("falcon" in text) is is_said
        wanted = None if is_said else "hook;output=failed"  # who was not asked did not run
        assert reply.headers.get("X-Raven-Guardrails") == wanted


@pytest.mark.parametrize("action", ["block", "redact"])
@pytest.mark.parametrize("before", ["", "So it goes on and on. "])
async def test_an_error_within_a_stream(raven: Any, upstream: MockUpstream, action: str, before: str) -> None:
    """The provider's own event, passed on or translated."""
    for path, body in (WAYS["stream"], ("/v1/messages", {"model": "mock/m", "stream": True, **MESSAGES})):
        gateway = await start(raven, upstream, WORD, applies_to="output", action=action)
        data = vendors.chat(cut(before, 5)).replace(b"data: [DONE]\n\n", b"") if before else b""
        script(upstream, vendors.EVENTS, data + b"data: " + BODIES["openai"] + b"\n\n")
        _, _, received, _ = await read(gateway, path, body)
        assert b"falcon" not in received


async def test_nothing_is_watched_where_an_error_goes_out(raven: Any, upstream: MockUpstream) -> None:
    """A stream that begins with what is blocked is a 403 and says so; one that never began was not judged."""
    two = {**WORD, "name": "others", "config": {"topics": ["eagle"]}}
    gateway = await start(raven, upstream, WORD, two, applies_to="output")
    script(upstream, vendors.EVENTS, vendors.chat(["falcon ", "and"]), 10**6)
    async with gateway.client.post("/v1/chat/completions", json=said("hi", stream=True)) as reply:
        assert reply.status == 403, await reply.text()
        assert reply.headers["X-Raven-Guardrails"] == "others;output=passed, words;output=blocked"


async def test_whose_guardrail_it_was(raven: Any, upstream: MockUpstream) -> None:
    """One of the config is not an organisation's."""
    gateway = await start(raven, upstream, WORD)
    async with gateway.client.post("/v1/chat/completions", json=said("falcon")) as reply:
        assert "organisation" not in await reply.text()
    stored = {"name": "mine", "type": "block_topics", "config": {"topics": ["eagle"]}}
    async with gateway.client.post("/guardrails", json=stored) as reply:
        assert reply.status == 201
    async with gateway.client.post("/v1/chat/completions", json=said("eagle")) as reply:
        assert "'mine' of this organisation" in await reply.text()
