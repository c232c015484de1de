"""Webhooks of guardrails: what they get, what their answer does, and what no answer does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.organizations import Organization

from . import vendors
from .test_replies import LEFT, ROUTES, SAID, cut, script
from .test_requests import WORD, said


@pytest.fixture
async def judge() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as mock:
        yield mock


async def start(raven: Any, upstream: MockUpstream, judge: MockUpstream, *more: Any, **fields: Any) -> Any:
    hook = {
        "name": "hook",
        "type": "webhook",
        "config": {"url": f"{judge.origin}/judge", **fields.pop("config", {})},
    }
    config = {
        "allow_private_upstreams": True,
        "plugin": {"guardrails": {"rules": [*more, {**hook, **fields}]}},
    }
    return await raven(upstreams=[upstream], base=("guardrails", "openai"), config=config)


async def ask(gateway: Any, text: str = "hello", **fields: Any) -> tuple[int, bytes, Any]:
    async with gateway.client.post("/v1/chat/completions", json=said(text, **fields)) as reply:
        return reply.status, await reply.read(), reply.headers


async def test_it_gets_texts_and_no_credential(
    raven: Any, upstream: MockUpstream, judge: MockUpstream
) -> None:
    """T131: redacted texts, a direction, two ids and its own name; nothing else of the request."""
    gateway = await start(raven, upstream, judge, {**WORD, "action": "redact"}, applies_to="input")
    judge.reply(json={"flagged": False})
    status, _, headers = await ask(gateway, "a falcon", user="bob")
    assert status == 200
    assert headers["X-Raven-Guardrails"].startswith("hook;input=passed, words;input=redacted")
    (seen,) = judge.seen
    sent = msgspec.json.decode(seen.body)
    request_id = headers["X-Request-ID"]
    assert sent == {
        "texts": ["a [REDACTED]", "bob"], "direction": "input", "requestId": request_id,
        "organizationId": "org_default", "guardrail": "hook",
    }  # fmt: skip
    assert ADMIN_KEY not in seen.raw.decode()
    assert "authorization" not in seen.headers


@pytest.mark.parametrize("applies_to", ["input", "output"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_flags_is_blocked(
    raven: Any, upstream: MockUpstream, judge: MockUpstream, applies_to: str, stream: bool
) -> None:
    """A stream is collected for it, so it is a 403 there too."""
    gateway = await start(raven, upstream, judge, applies_to=applies_to)
    judge.reply(json={"flagged": True})
    status, body, headers = await ask(gateway, stream=stream)
    assert (status, b"guardrail_blocked" in body) == (403, True)
    assert headers["X-Raven-Guardrails"] == f"hook;{applies_to}=blocked"
    assert len(upstream.seen) == (applies_to == "output")


async def test_it_redacts(raven: Any, upstream: MockUpstream, judge: MockUpstream) -> None:
    """Its texts go up in the place of those that it got, and come down in a stream's first pieces."""
    gateway = await start(raven, upstream, judge, action="redact", applies_to="input")
    judge.reply(json={"flagged": True, "texts": ["hello, you"]})
    assert (await ask(gateway))[0] == 200
    assert msgspec.json.decode(upstream.seen[0].body)["messages"][0]["content"] == "hello, you"
    gateway = await start(raven, upstream, judge, action="redact", applies_to="output")

    async def answer(seen: Any) -> ScriptedReply:
        texts = msgspec.json.decode(seen.body)["texts"]
        return ScriptedReply.of_json(
            {"flagged": True, "texts": [LEFT if one == SAID else one for one in texts]}
        )

    judge.handler = answer
    for name in ("chat", "chat tool", "responses"):
        path, body, kind, make = ROUTES[name]
        if path != "/v1/chat/completions":
            continue
        script(upstream, kind, make(cut(SAID)))
        async with gateway.client.post(path, json=body) as reply:
            texts = vendors.spelled(await reply.read(), kind)
        assert LEFT in texts
        assert not [text for text in texts if "falcon" in text]


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 500, "body": b"{}"},
        {"body": b"not json"},
        {"body": b'{"flagged": "yes"}'},
        {"body": b'{"flagged": true, "texts": ["one", "too", "many"]}'},
        {"end": "reset", "framing": "raw", "chunks": []},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}, "body": b""},
        {"end": "hang", "framing": "raw", "chunks": []},
    ],
)
async def test_no_answer_blocks_or_lets_pass(
    raven: Any, upstream: MockUpstream, judge: MockUpstream, reply: Any
) -> None:
    """`onError` decides; either way the header says that it failed."""
    for on_error, wanted in (("block", 403), ("allow", 200)):
        gateway = await start(
            raven, upstream, judge, applies_to="input", config={"on_error": on_error, "timeout_ms": 400}
        )
        judge.script(ScriptedReply(**reply))
        status, _, headers = await ask(gateway)
        assert status == wanted
        assert headers["X-Raven-Guardrails"] == "hook;input=failed"


async def test_private_addresses_are_not_asked(
    raven: Any, upstream: MockUpstream, judge: MockUpstream
) -> None:
    """Unless the operator allows them: a guardrail is no way into the network."""
    hook = {"name": "hook", "type": "webhook", "config": {"url": f"{judge.origin}/judge"}}
    config = {"plugin": {"guardrails": {"rules": [hook]}}}
    gateway = await raven(upstreams=[upstream], base=("guardrails", "openai"), config=config)
    assert (await ask(gateway))[0] == 403
    assert judge.seen == []


@pytest.mark.parametrize("fields", [{"action": "log"}, {"shadow": True}])
async def test_who_only_looks_does_not_collect_a_stream(
    raven: Any, upstream: MockUpstream, judge: MockUpstream, fields: Any
) -> None:
    """It goes out as it comes; the webhook is asked when it is over, and what it says is logged."""
    gateway = await start(raven, upstream, judge, applies_to="output", **fields)
    judge.reply(json={"flagged": True})
    path, body, kind, make = ROUTES["chat"]
    script(upstream, kind, make(cut(SAID)))
    async with gateway.client.post(path, json=body) as reply:
        assert SAID in vendors.spelled(await reply.read(), kind)
        assert reply.headers["Transfer-Encoding"] == "chunked"
    await judge.wait_until(lambda: judge.seen)
    assert SAID in msgspec.json.decode(judge.seen[0].body)["texts"]


@pytest.mark.parametrize(
    ("region", "strictly", "is_asked"),
    [
        ("eu", True, True),
        ("EU", True, True),
        ("us", False, False),
        ("any", False, True),
        ("any", True, False),
    ],
)
async def test_t62_data_residency_binds_it_too(
    raven: Any, upstream: MockUpstream, judge: MockUpstream, region: str, strictly: bool, is_asked: bool
) -> None:
    """Texts go nowhere that the organisation's data may not; the request fails as without an answer."""
    gateway = await start(raven, upstream, judge, applies_to="input", config={"region": region})
    organizations = gateway.gateway.organizations
    bound = Organization(id="org_default", allowed_regions=("eu",), enforce_strictly=strictly)
    organizations._known = {"org_default": bound}
    judge.reply(json={"flagged": False})
    status, _, headers = await ask(gateway)
    assert bool(judge.seen) is is_asked
    assert status == (200 if is_asked else 403)
    assert headers["X-Raven-Guardrails"] == f"hook;input={'passed' if is_asked else 'failed'}"
