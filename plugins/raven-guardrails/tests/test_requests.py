"""What goes to a provider: every text of every face is judged, through a real gateway."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from aiohttp import FormData

from raven_proxy.mock import MockUpstream

WORD = {"name": "words", "type": "block_topics", "config": {"topics": ["falcon", "project x"]}}
CARD = {"name": "cards", "type": "pii", "config": {"entities": ["credit_card"]}}
SECRET = {"name": "secrets", "type": "custom_regex", "config": {"patterns": ["sk-[a-z0-9]{16}"]}}
CARD_NUMBER = "4111 1111 1111 1111"
KEY = "sk-abcdef0123456789"


def rules(*tables: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"plugin": {"guardrails": {"rules": [{**table, **fields} for table in tables]}}}


def said(text: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "mock/any", "messages": [{"role": "user", "content": text}], **fields}


async def post(
    gateway: Any, body: Any, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any, Any]:
    async with gateway.client.post(path, json=body, headers=headers) as reply:
        return reply.status, await reply.json(), reply.headers


PLACES: dict[str, tuple[str, Any]] = {
    "content": ("/v1/chat/completions", lambda t: said(t)),
    "long": ("/v1/chat/completions", lambda t: said("y " * 20_000 + t + " z" * 20_000)),
    "system": ("/v1/chat/completions", lambda t: said("hi", messages=[{"role": "system", "content": t}])),
    "name": (
        "/v1/chat/completions",
        lambda t: said("hi", messages=[{"role": "user", "content": "hi", "name": t}]),
    ),
    "part": ("/v1/chat/completions", lambda t: said([{"type": "text", "text": t}])),
    "split parts": (
        "/v1/chat/completions",
        lambda t: said([{"type": "text", "text": t[:4]}, {"type": "text", "text": t[4:]}]),
    ),
    "arguments": (
        "/v1/chat/completions",
        lambda t: said(
            "hi",
            messages=[
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {
                                "name": "f",
                                "arguments": msgspec.json.encode({"a": [t]}).decode(),
                            },
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
            ],
        ),
    ),
    "escaped arguments": (
        "/v1/chat/completions",
        lambda t: said('{"a":"' + "".join(f"\\u{ord(c):04x}" for c in t) + '"}'),
    ),
    "result": (
        "/v1/chat/completions",
        lambda t: said("hi", messages=[{"role": "tool", "tool_call_id": "call_1", "content": t}]),
    ),
    "tool": (
        "/v1/chat/completions",
        lambda t: said(
            "hi", tools=[{"type": "function", "function": {"name": "f", "description": t, "parameters": {}}}]
        ),
    ),
    "schema": (
        "/v1/chat/completions",
        lambda t: said(
            "hi",
            tools=[
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"type": "object", "properties": {t: {}}}},
                }
            ],
        ),
    ),
    "file": (
        "/v1/chat/completions",
        lambda t: said(
            [
                {
                    "type": "file",
                    "file": {"file_data": "data:text/plain;base64," + b64encode(t.encode()).decode()},
                }
            ]
        ),
    ),
    "zero width": ("/v1/chat/completions", lambda t: said("\u200b".join(t))),
    "responses": ("/v1/responses", lambda t: {"model": "mock/any", "input": t}),
    "responses parts": (
        "/v1/responses",
        lambda t: {
            "model": "mock/any",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": t[:3]}, {"type": "input_text", "text": t[3:]}],
                }
            ],
        },
    ),
    "instructions": ("/v1/responses", lambda t: {"model": "mock/any", "input": "hi", "instructions": t}),
    "messages": (
        "/v1/messages",
        lambda t: {"model": "mock/any", "max_tokens": 9, "messages": [{"role": "user", "content": t}]},
    ),
    "messages system": (
        "/v1/messages",
        lambda t: {
            "model": "mock/any",
            "max_tokens": 9,
            "system": [{"type": "text", "text": t[:5]}, {"type": "text", "text": t[5:]}],
            "messages": [{"role": "user", "content": "hi"}],
        },
    ),
    "messages tool result": (
        "/v1/messages",
        lambda t: {
            "model": "mock/any",
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"x": {"y": t}}}],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "content": [{"type": "text", "text": "ok"}],
                        }
                    ],
                },
            ],
        },
    ),
    "completions": ("/v1/completions", lambda t: {"model": "mock/any", "prompt": t}),
    "embeddings": ("/v1/embeddings", lambda t: {"model": "mock/any", "input": ["hi", t]}),
    "images": ("/v1/images/generations", lambda t: {"model": "mock/any", "prompt": t}),
    "speech": ("/v1/audio/speech", lambda t: {"model": "mock/any", "input": t, "voice": "alloy"}),
    "moderations": ("/v1/moderations", lambda t: {"model": "mock/any", "input": t}),
    "raw": (
        "/v1/mock/chat/completions",
        lambda t: {"model": "any", "messages": [{"role": "user", "content": t}]},
    ),
    "unknown raw": ("/v1/mock/some/new/endpoint", lambda t: {"model": "any", "deep": [{"field": {"x": t}}]}),
    "alias": ("/api/v1/chat/completions", lambda t: said(t)),
}


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(
        upstreams=[upstream], base=("guardrails", "openai", "anthropic"), config=rules(WORD, CARD, SECRET)
    )


@pytest.mark.parametrize("text", ["The FALCON flies", f"card {CARD_NUMBER}.", f"key: {KEY}"])
async def test_what_is_blocked_reaches_nobody(gateway: Any, upstream: MockUpstream, text: str) -> None:
    """T131, T60: every place where text can stand, on every face: 403 `guardrail_blocked`, no attempt."""
    for place, (path, make) in PLACES.items():
        status, body, headers = await post(gateway, make(text), path)
        error = body["error"]
        assert (place, status) == (place, 403), body
        assert error["type"] == "permission_error"
        assert error.get("code", "guardrail_blocked") == "guardrail_blocked"
        assert text not in str(body)
        assert "input=blocked" in headers["X-Raven-Guardrails"]
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("text", "needle"),
    [("The FALCON flies", "FALCON"), (f"card {CARD_NUMBER}.", CARD_NUMBER), (f"key: {KEY}", KEY)],
)
async def test_what_is_redacted_reaches_nobody(
    raven: Any, upstream: MockUpstream, text: str, needle: str
) -> None:
    """The provider gets the rest, and what was found in no place at all."""
    gateway = await raven(
        upstreams=[upstream],
        base=("guardrails", "openai", "anthropic"),
        config=rules(WORD, CARD, SECRET, action="redact"),
    )
    for place, (path, make) in PLACES.items():
        seen = len(upstream.seen)
        async with gateway.client.post(path, json=make(text)) as reply:
            headers = reply.headers
            assert reply.status != 403, (place, await reply.text())
        assert "input=redacted" in headers["X-Raven-Guardrails"], place
        if place in ("speech", "images", "moderations", "unknown raw", "embeddings"):
            assert len(upstream.seen) > seen
        for request in upstream.seen[seen:]:
            sent = request.body.decode()
            assert needle not in sent, place
            assert needle.encode() not in request.body


async def test_forms_are_judged_too(gateway: Any, upstream: MockUpstream) -> None:
    """The prompt of an edited image, and a file of requests for a batch."""
    form = FormData({"model": "mock/any", "prompt": "a falcon"})
    form.add_field("image", b"\x89PNG\xff\x00", filename="a.png", content_type="image/png")
    async with gateway.client.post("/v1/images/edits", data=form) as reply:
        assert reply.status == 403
    line = msgspec.json.encode({"custom_id": "1", "body": said("a \u0066alcon")})
    form = FormData({"purpose": "batch"})
    form.add_field("file", line + b"\n" + line, filename="a.jsonl", content_type="application/jsonl")
    async with gateway.client.post("/v1/mock/files", data=form) as reply:
        assert reply.status == 403
    assert upstream.seen == []


async def test_a_form_is_redacted_in_place(raven: Any, upstream: MockUpstream) -> None:
    """Every other byte of it stays."""
    gateway = await raven(
        upstreams=[upstream], base=("guardrails", "openai"), config=rules(WORD, action="redact")
    )
    form = FormData({"model": "mock/any", "prompt": "a falcon"})
    form.add_field("image", b"\x89PNG\xff\x00falcon", filename="a.png", content_type="image/png")
    async with gateway.client.post("/v1/images/edits", data=form) as reply:
        assert "input=redacted" in reply.headers["X-Raven-Guardrails"]
    (request,) = upstream.seen
    assert b"a [REDACTED]\r\n" in request.body
    assert b"\x89PNG\xff\x00falcon" in request.body


async def test_warn_and_shadow_change_nothing(raven: Any, upstream: MockUpstream) -> None:
    """A warning is a header; what is in shadow is not even that."""
    tables = [WORD | {"action": "warn"}, SECRET | {"shadow": True}, CARD | {"action": "log"}]
    gateway = await raven(upstreams=[upstream], base=("guardrails", "openai"), config=rules(*tables))
    text = f"falcon {KEY} {CARD_NUMBER}"
    status, _, headers = await post(gateway, said(text))
    assert status == 200
    assert headers["X-Guardrail-Warnings"] == "words"
    assert headers["X-Raven-Guardrails"].startswith("cards;input=passed")
    assert "secrets" not in headers["X-Raven-Guardrails"]
    assert text in upstream.seen[0].body.decode()


async def test_who_has_no_guardrail_sees_none(raven: Any, upstream: MockUpstream) -> None:
    """One organisation's guardrails are not another's."""
    gateway = await raven(
        upstreams=[upstream], base=("guardrails", "openai"), config=rules(WORD, organization="org_b")
    )
    status, _, headers = await post(gateway, said("falcon"))
    assert status == 200
    assert "X-Raven-Guardrails" not in headers


async def test_untouched_requests_keep_every_byte(raven: Any, upstream: MockUpstream) -> None:
    """What is not redacted goes up as it came, down to its blanks and its order."""
    gateway = await raven(
        upstreams=[upstream], base=("guardrails", "openai"), config=rules(WORD, action="redact")
    )
    body = b'{ "model":"mock/any",  "messages":[{"role":"user","content":"hi \\u00e9"}], "x":1.50}'
    async with gateway.client.post(
        "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
    ) as reply:
        assert reply.status == 200
    assert upstream.seen[0].body == body.replace(b"mock/any", b"any")


@pytest.mark.parametrize("model", ["falcon", "mock/falcon"])
async def test_ids_and_models_are_no_texts(gateway: Any, upstream: MockUpstream, model: str) -> None:
    """Words of the protocol are not judged: a model may be called like a topic."""
    status, _, _ = await post(gateway, said("hi", model=model))
    assert status != 403


async def test_a_rule_that_cannot_be_is_named_at_the_start(raven: Any) -> None:
    """The message says which and why."""
    from raven_proxy import ConfigError

    for table, place in (
        (WORD | {"config": {}}, "rules[0].config"),
        (SECRET | {"config": {"patterns": ["(?=x)"]}}, "rules[0].config.patterns[0]"),
        ({"name": "x", "type": "max_length", "action": "redact", "config": {"max_characters": 1}}, "action"),
        ({"name": "x", "type": "nope"}, "rules[0]"),
    ):
        with pytest.raises(ConfigError, match="guardrails") as error:
            await raven(base=("guardrails", "demo"), config=rules(table))
        assert place in str(error.value)
