"""T99: what is no reply does not pass for one under a status of 200."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "hi"}]}
HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
WRONG = [
    ScriptedReply(headers=HTML, body=b"<html>Please log in</html>"),
    ScriptedReply(headers={"Content-Type": "text/plain"}, body=b"upstream is busy"),
    ScriptedReply(headers=JSON, body=b""),
    ScriptedReply(headers=JSON, body=b'{"choices": ['),
    ScriptedReply(status=204),
    ScriptedReply(status=304),
]


@pytest.mark.parametrize("reply", WRONG, ids=lambda one: f"{one.status}-{(one.body or b'')[:9]!r}")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/mock/chat/completions"])
async def test_what_is_no_reply_is_a_502(raven: Any, upstream: MockUpstream, reply: Any, path: str) -> None:
    """Of a dialect that is known here; nothing of it goes out."""
    upstream.script(reply)
    gateway = await raven(base=("openai",), upstreams=[upstream])
    body = CHAT if "chat" in path else {"model": "mock/m", "input": "hi"}
    async with gateway.client.post(
        path, json={**body, "model": body["model"].removeprefix("mock/")} if "mock" in path else body
    ) as got:
        error = (await got.json())["error"]
    assert (got.status, error["type"]) == (502, "upstream_error")


async def test_a_page_is_no_stream(raven: Any, upstream: MockUpstream) -> None:
    """Asked for a stream, a provider that answers with a page has not answered."""
    upstream.script(ScriptedReply(headers=HTML, body=b"<html>Please log in</html>"))
    gateway = await raven(base=("openai",), upstreams=[upstream])
    async with gateway.client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as got:
        assert got.status == 502
        assert b"log in" not in await got.read()


async def test_what_nobody_knows_passes_as_it_is(raven: Any, upstream: MockUpstream) -> None:
    """An endpoint of the vendor's own may answer with anything, sound and pages included."""
    for reply in WRONG[:2]:
        upstream.script(reply)
    gateway = await raven(base=("openai",), upstreams=[upstream])
    for reply in WRONG[:2]:
        async with gateway.client.get("/v1/mock/some/page") as got:
            assert (got.status, await got.read()) == (200, reply.body)
