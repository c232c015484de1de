"""What becomes of a request on its way, as the five published systems document it (contract 2.2)."""

from __future__ import annotations

import re

import pytest

from raven_proxy.mock import MockUpstream

from .conftest import VENDOR_KEY, VendorStarter
from .documented import CHAT, Absent, Case, cases, check, fits

_DONE = {"json": {"id": "x", "object": "chat.completion", "choices": []}}
_LONG = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 70_000}]}


def _invalid(what: str, text: bytes, message: str) -> Case:
    error = {"type": "invalid_request_error", "message": re.compile(message)}
    return Case(mark="R.AV", what=what, send=text, status=400, reply={"error": error}, calls=0)


REQUESTS = [
    Case(
        mark="R.AV",
        what="x-api-key in the place of Bearer",
        send=CHAT,
        reply={"choices": list},
        headers={"Authorization": "", "x-api-key": "{key}"},
    ),
    Case(
        mark="R.RX",
        what="Content-Type is required",
        send=CHAT,
        headers={"Content-Type": "text/plain"},
        status=400,
        reply={"error": {"type": "invalid_request_error", "code": "bad_request"}},
        calls=0,
    ),
    Case(
        mark="R.RX",
        what="an alias",
        send=CHAT | {"model": "fast"},
        sent={"model": "gpt-4o-mini"},
        reply_headers={"X-Raven-Model": "gpt-4o-mini"},
    ),
    Case(
        mark="RR.PK", what="provider/model", send=CHAT | {"model": "openai/gpt-4o"}, sent={"model": "gpt-4o"}
    ),
    Case(
        mark="RR",
        what="upstream/model",
        send=CHAT | {"model": "openai-main/gpt-4o"},
        sent={"model": "gpt-4o"},
    ),
    Case(mark="R.RX", what="a bare id", send=CHAT, sent={"model": "gpt-4o"}),
    Case(
        mark="R.RR.AV.RX",
        what="an unknown model",
        send=CHAT | {"model": "gpt-0"} | {"model": "no-such"},
        status=400,
        reply={"error": {"type": "invalid_request_error", "code": "model_not_found", "param": "model"}},
        calls=0,
    ),
    Case(
        mark="RR",
        what="unknown fields and vendor headers survive",
        send=CHAT | {"brand_new": {"a": [None, 1.0]}},
        headers={"OpenAI-Organization": "org-1", "anthropic-beta": "x"},
        sent={"brand_new": {"a": [None, 1.0]}},
        sent_headers={"openai-organization": "org-1", "anthropic-beta": "x"},
    ),
    Case(
        mark="RR",
        what="developer becomes system where only that is known",
        script=_DONE,
        send={"model": "deepseek-chat", "messages": [{"role": "developer", "content": "Be brief."}]},
        sent={"messages": [{"role": "system", "content": "Be brief."}]},
    ),
    Case(
        mark="RR",
        what="max_completion_tokens becomes max_tokens where only that is known",
        script=_DONE,
        send=CHAT | {"model": "deepseek-chat", "max_completion_tokens": 5},
        sent={"max_tokens": 5, "max_completion_tokens": Absent},
    ),
    Case(
        mark="RR",
        what="an unsupported parameter is dropped",
        send=CHAT | {"model": "llama-3", "logit_bias": {"1": 2}},
        script=_DONE,
        sent={"model": "llama-3", "logit_bias": Absent},
    ),
    Case(
        mark="RR",
        what="X-Raven-Strict refuses an unsupported parameter",
        headers={"X-Raven-Strict": "true"},
        send=CHAT | {"model": "llama-3", "logit_bias": {"1": 2}},
        status=400,
        calls=0,
        reply={"error": {"code": "unsupported_parameter", "param": "logit_bias"}},
    ),
    Case(
        mark="R",
        what="a body over the limit",
        send=_LONG,
        status=413,
        calls=0,
        reply={"error": {"type": "invalid_request_error", "code": "payload_too_large"}},
    ),
    _invalid("malformed JSON", b'{"model":"gpt-4o","messages":[}', "byte 30"),
    _invalid("an empty body", b"", "empty"),
    _invalid("no object", b"[]", "object"),
    _invalid(
        "a repeated key",
        b'{"model":"gpt-4o","model":"o3","messages":[{"role":"user","content":"?"}]}',
        "'model'",
    ),
    _invalid(
        "NaN", b'{"model":"gpt-4o","temperature":NaN,"messages":[{"role":"user","content":"?"}]}', "byte"
    ),
    _invalid(
        "a lone surrogate",
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\ud800"}]}',
        "(?i)surrogate|unicode|escape",
    ),
    _invalid("deep nesting", b'{"model":"gpt-4o","messages":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "deep"),
    _invalid("broken UTF-8", b'{"model":"gpt-4o","messages":[{"role":"user","content":"\xff"}]}', "UTF-8"),
    _invalid("a model of the wrong type", b'{"model":1,"messages":[{"role":"user","content":"?"}]}', "model"),
]


@cases(*REQUESTS)
async def test_a_documented_request(case: Case, documented: VendorStarter, upstream: MockUpstream) -> None:
    """The provider gets what is documented, or the client is told what is wrong."""
    await check(case, await documented(), upstream)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/openai/chat/completions"])
async def test_R_bring_your_own_key(path: str, documented: VendorStarter, upstream: MockUpstream) -> None:
    """R: X-Provider-Key serves this request alone; the provider sees it as its key, nobody elsewhere."""
    gateway = await documented()
    own = {"X-Provider-Key": "sk-of-the-caller-0123456789"}
    statuses = []
    for model, headers in (("gpt-4o", own), ("fx-401", own), ("gpt-4o", {})):
        async with gateway.client.post(path, json=CHAT | {"model": model}, headers=headers) as reply:
            text = await reply.text()
            statuses.append(reply.status)
            assert own["X-Provider-Key"] not in text + str(reply.headers)
    assert statuses == [200, 502, 200]
    assert [seen.key for seen in upstream.seen] == [own["X-Provider-Key"]] * 2 + [VENDOR_KEY]
    assert not any("x-provider-key" in seen.headers for seen in upstream.seen)
    await gateway.gateway.storage.flush()
    for file in gateway.folder.rglob("*"):
        assert own["X-Provider-Key"].encode() not in (file.read_bytes() if file.is_file() else b"")


async def test_R_PK_bring_your_own_key_to_a_vendor_without_one(
    documented: VendorStarter, upstream: MockUpstream
) -> None:
    """R PK: without any key a vendor is a 503; the caller's own key opens it."""
    gateway = await documented()
    async with gateway.client.post("/v1/chat/completions", json=CHAT | {"model": "k-1"}) as reply:
        fits({"error": {"code": "no_active_api_keys", "type": "upstream_error"}}, await reply.json())
        assert reply.status == 503
    headers = {"X-Provider-Key": "gsk-of-the-caller"}
    async with gateway.client.post(
        "/v1/chat/completions", json=CHAT | {"model": "k-1"}, headers=headers
    ) as reply:
        assert reply.status == 200
    assert [seen.key for seen in upstream.seen] == ["gsk-of-the-caller"]


async def test_PK_what_is_not_forwarded(documented: VendorStarter, upstream: MockUpstream) -> None:
    """PK: neither the proxy key, cookies, hop-by-hop headers nor the gateway's own headers go upstream."""
    gateway = await documented()
    private = {
        "Cookie": "session=1", "TE": "trailers", "Proxy-Authorization": "Basic x", "X-Raven-Strict": "true",
        "X-Org-Id": "org_1", "X-Forwarded-For": "10.0.0.1", "Connection": "X-Mine", "X-Mine": "y",
    }  # fmt: skip
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions", "/v1/openai/responses"):
        upstream.reply(json={"object": "anything"})
        async with gateway.client.post(path, json=CHAT, headers=private) as reply:
            assert reply.status == 200
        seen = upstream.seen[-1]
        assert not {name.lower() for name in private} & seen.headers.keys()
        assert gateway.key.encode() not in seen.raw
