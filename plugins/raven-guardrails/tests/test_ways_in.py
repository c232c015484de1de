"""T60: whichever way a text goes in, raw paths of every vendor included, the guardrails see it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from aiohttp import FormData

from raven_proxy.mock import MockUpstream

from .test_replies import BASE, places
from .test_requests import WORD, rules

TEXT = "a FALCON"
FILE = b64encode(TEXT.encode() * 3).decode()

MESSAGE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
WAYS: dict[str, tuple[str, Any]] = {
    "gemini": ("/v1/google/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": TEXT}]}]}),
    "gemini parts": (
        "/v1/google/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "a fal"}, {"text": "con"}]}]},
    ),
    "gemini system": (
        "/v1/google/v1beta/models/m:generateContent",
        {"contents": [], "systemInstruction": {"parts": [{"text": TEXT}]}},
    ),
    "gemini call": (
        "/v1/google/v1beta/models/m:generateContent",
        {"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"type": "falcon"}}}]}]},
    ),
    "gemini result": (
        "/v1/google/v1beta/models/m:generateContent",
        {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {"id": "falcon"}}}]}]},
    ),
    "gemini file": (
        "/v1/google/v1beta/models/m:generateContent",
        {"contents": [{"parts": [{"inlineData": {"mimeType": "text/plain", "data": FILE}}]}]},
    ),
    "gemini embedding": ("/v1/google/v1beta/models/m:embedContent", {"content": {"parts": [{"text": TEXT}]}}),
    "gemini unknown": ("/v1/google/v1beta/models/m:brandNew", {"instances": [{"prompt": TEXT}]}),
    "gemini count": ("/v1/google/v1beta/models/m:countTokens", {"contents": [{"parts": [{"text": TEXT}]}]}),
    "converse": (
        "/v1/aws/model/m/converse",
        {"messages": [{"role": "user", "content": [{"text": "a fal"}, {"text": "con"}]}]},
    ),
    "converse system": ("/v1/aws/model/m/converse", {"messages": [], "system": [{"text": TEXT}]}),
    "converse document": (
        "/v1/aws/model/m/converse-stream",
        {
            "messages": [
                {"content": [{"document": {"format": "txt", "name": "x", "source": {"bytes": FILE}}}]}
            ]
        },
    ),
    "converse result": (
        "/v1/aws/model/m/converse",
        {
            "messages": [
                {"content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"falcon": 1}}]}}]}
            ]
        },
    ),
    "converse tool": (
        "/v1/aws/model/m/converse",
        {
            "messages": [],
            "toolConfig": {
                "tools": [
                    {"toolSpec": {"name": "f", "inputSchema": {"json": {"properties": {"falcon": {}}}}}}
                ]
            },
        },
    ),
    "invoke": ("/v1/aws/model/m/invoke", {"max_tokens": 9, "messages": [{"role": "user", "content": TEXT}]}),
    "invoke other": ("/v1/aws/model/m/invoke", {"inputText": TEXT}),
    "cohere": ("/v1/co/v2/chat", {"model": "m", "messages": [{"role": "user", "content": TEXT}]}),
    "cohere document": (
        "/v1/co/v2/chat",
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "documents": [{"data": {"t": TEXT}}]},
    ),
    "cohere v1": ("/v1/co/v1/chat", {"model": "m", "message": TEXT}),
    "cohere embed": ("/v1/co/v2/embed", {"model": "m", "texts": ["x", TEXT]}),
    "cohere rerank": ("/v1/co/v2/rerank", {"model": "m", "query": "q", "documents": ["x", TEXT]}),
    "rerank": ("/v1/rerank", {"model": "co/m", "query": TEXT, "documents": ["x"]}),
    "ollama": ("/v1/local/api/chat", {"model": "m", "messages": [{"role": "user", "content": TEXT}]}),
    "ollama generate": ("/v1/local/api/generate", {"model": "m", "prompt": "x", "system": TEXT}),
    "ollama embed": ("/v1/local/api/embed", {"model": "m", "input": [TEXT]}),
    "messages": ("/v1/claude/messages", {**MESSAGE, "system": TEXT}),
    "messages document": (
        "/v1/messages",
        {
            "model": "claude/m",
            "max_tokens": 9,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {
                                "type": "text",
                                "media_type": "text/plain",
                                "data": "thisisafalcon falcon",
                            },
                        }
                    ],
                }
            ],
        },
    ),
    "count tokens": (
        "/v1/messages/count_tokens",
        {"model": "claude/m", "messages": [{"role": "user", "content": TEXT}]},
    ),
    "audio text": ("/v1/audio/speech", {"model": "mock/m", "input": "x", "voice": "v", "instructions": TEXT}),
    "array": ("/v1/mock/new/endpoint", [{"x": TEXT}]),
    "query": ("/v1/mock/new/endpoint?q=a%20falcon", {}),
}


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GUARDRAILS_TEST_KEY", "key-of-the-gateway")
    return await raven(base=BASE, upstreams=places(upstream), config=rules(WORD))


async def test_every_way_in(gateway: Any, upstream: MockUpstream) -> None:
    """403, and the provider saw nothing."""
    for name, (path, body) in WAYS.items():
        async with gateway.client.post(path, json=body) as reply:
            assert (name, reply.status) == (name, 403), await reply.text()
    assert upstream.seen == []


async def test_forms_and_text(gateway: Any, upstream: MockUpstream) -> None:
    """Prompts of recordings, files of text in two encodings, their names, and bodies that are no JSON."""
    for parts in (
        [("prompt", TEXT, None), ("file", b"\xff\xfb\x90\x00", "a.mp3")],
        [("file", TEXT.encode("utf-16"), "a.txt")],
        [("file", b"\xff\xfb\x90\x00", "a falcon.mp3")],
    ):
        form = FormData({"model": "mock/m"})
        for name, value, filename in parts:
            form.add_field(name, value, filename=filename)
        async with gateway.client.post("/v1/audio/transcriptions", data=form) as reply:
            assert reply.status == 403, await reply.text()
    headers = {"Content-Type": "text/plain"}
    async with gateway.client.post("/v1/mock/new/text", data=TEXT.encode(), headers=headers) as reply:
        assert reply.status == 403
    assert upstream.seen == []


async def test_the_proxy_cannot_be_talked_into_not_looking(gateway: Any, upstream: MockUpstream) -> None:
    """A form that says of itself that it is none, and the other way round; parts in another coding."""
    body = b'{"model": "m", "messages": [{"role": "user", "content": "a falcon"}]}'
    for content_type in ("text/plain", "multipart/form-data; boundary=x", "application/octet-stream", ""):
        headers = {"Content-Type": content_type} if content_type else {}
        async with gateway.client.post("/v1/mock/new/endpoint", data=body, headers=headers) as reply:
            assert reply.status in (400, 403), (content_type, await reply.text())
    form = b'--x\r\nContent-Disposition: form-data; name="q"\r\n'
    form += b"Content-Transfer-Encoding: base64\r\n\r\n" + b64encode(b"a falcon") + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with gateway.client.post("/v1/mock/new/endpoint", data=form, headers=headers) as reply:
        assert reply.status == 400
    assert upstream.seen == []
