"""T60: a text is looked at in whatever it is written: charsets, base64, percent signs, forms, addresses."""

from __future__ import annotations

from base64 import b64encode, encodebytes
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from raven_guardrails.payloads import read_uri
from raven_guardrails.texts import list_passages

from raven_proxy.mock import MockUpstream, ScriptedReply

from .test_replies import BASE, places
from .test_requests import KEY, SECRET, WORD, post, rules, said

TEXT = "So cafés, a falcon. "
LATIN = TEXT.encode("latin-1")
WIDE = TEXT.encode("utf-16-le")
DOCUMENTS = {
    "latin": LATIN,
    "utf-16": TEXT.encode("utf-16"),
    "utf-16 without a mark": WIDE,
    "utf-16, odd": "a falcon".encode("utf-16-be") + b"\n",
    "utf-32": TEXT.encode("utf-32"),
    "zero": b"\0" + TEXT.encode() + b"\0",
}
PROVIDER_KEY = "key-of-the-gateway"
MEDIA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDRAILS_TEST_KEY", PROVIDER_KEY)


async def start(raven: Any, upstream: MockUpstream, *tables: Any, **fields: Any) -> Any:
    config = rules(*(tables or (WORD, SECRET)), **fields)
    return await raven(base=BASE, upstreams=places(upstream), config=config)


def uri(data: bytes, kind: str = "text/plain") -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"


def file(value: str) -> Any:
    return said([{"type": "file", "file": {"filename": "a.txt", "file_data": value}}])


def inline(data: bytes, kind: str) -> Any:
    return {"contents": [{"parts": [{"inlineData": {"mimeType": kind, "data": b64encode(data).decode()}}]}]}


def document(text: str) -> Any:
    source = {"type": "text", "media_type": "text/plain", "data": text}
    content = [{"type": "document", "source": source}]
    return {"model": "claude/m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}


CHAT, GEMINI = "/v1/chat/completions", "/v1/google/v1beta/models/m:generateContent"
BODIES: dict[str, tuple[str, Any]] = {
    **{f"uri {name}": (CHAT, file(uri(data))) for name, data in DOCUMENTS.items()},
    **{f"uri of bytes, {name}": (CHAT, file(uri(data, "application/octet-stream")))
       for name, data in DOCUMENTS.items()},
    **{f"percent {name}": (CHAT, file("data:text/plain," + quote(data))) for name, data in DOCUMENTS.items()},
    **{f"inline {name}": (GEMINI, inline(data, "text/plain")) for name, data in DOCUMENTS.items()},
    "percent": (CHAT, file("data:text/plain,%66alcon")),
    "percent, parameters": (CHAT, file("data:text/plain; charset=utf-8,%66alcon")),
    "percent, picture of words": (CHAT, file("data:image/svg+xml,%3Csvg%3E%e9 falcon")),
    "percent in base64": (CHAT, file(uri(LATIN).replace("U", "%55"))),
    "several": (CHAT, file(uri(b"hello1x") + b64encode(LATIN).decode())),
    "signs in base64": (GEMINI, {"contents": [{"parts": [{"inlineData": {
        "mimeType": "text/plain", "data": "*".join(b64encode(LATIN).decode())}}]}]}),
    "blanks before": (CHAT, file(" " + uri(LATIN))),
    "lines": (CHAT, file("data:text/plain;base64," + encodebytes(LATIN * 99).decode())),
    "lines of bytes": (GEMINI, inline(LATIN * 99, "application/octet-stream")),
    "many controls": (GEMINI, inline(b"\x01" * 50 + LATIN, "text/csv; charset=latin-1")),
    "head": (CHAT, file("data:falcon,%20")),
    "head of text": (CHAT, file(f"data:text/{KEY},x%20")),
    "head of media": (CHAT, file(uri(MEDIA, f"image/{KEY}"))),
    "no uri": (CHAT, said(f"data:{KEY}, 100%")),
    "no picture": (CHAT, said(f"data:image/png;base64,{KEY}")),
    "no base64": (CHAT, said(f"data:text/plain;base64,{KEY}")),
    "no percent": (CHAT, said("data:,%66 a falcon")),
    "no base64, document": ("/v1/messages", document(f"{KEY}abcde")),
}  # fmt: skip


async def test_a_document_is_read_whatever_it_is_written_in(raven: Any, upstream: MockUpstream) -> None:
    """403, and the provider saw nothing."""
    gateway = await start(raven, upstream)
    for name, (path, body) in BODIES.items():
        status, answer, _ = await post(gateway, body, path)
        assert (name, status) == (name, 403), answer
    assert upstream.seen == []


async def test_a_document_is_redacted_in_its_own_charset(raven: Any, upstream: MockUpstream) -> None:
    """The provider reads the rest of it as it was, and nothing of what had to go in any reading."""
    gateway = await start(raven, upstream, action="redact")
    for name, (path, body) in BODIES.items():
        seen = len(upstream.seen)
        async with gateway.client.post(path, json=body) as reply:
            assert "input=redacted" in reply.headers["X-Raven-Guardrails"], name
            _ = await reply.read()
        for request in upstream.seen[seen:]:
            passages = list_passages(msgspec.json.decode(request.body))
            texts = [slot.text.replace("\0", "") for passage in passages for slot in passage]
            assert not [text for text in texts if "falcon" in text or KEY in text], name
            assert KEY.encode() not in request.body
    for charset in ("latin-1", "utf-16"):
        upstream.seen.clear()
        async with gateway.client.post(CHAT, json=file(uri(TEXT.encode(charset)))) as reply:
            _ = await reply.read()
        left = TEXT.replace("falcon", "[REDACTED]").encode(charset)
        assert b64encode(left) in upstream.seen[0].body


async def test_media_pass(raven: Any, upstream: MockUpstream) -> None:
    """No text is read into a picture."""
    gateway = await start(raven, upstream, WORD | {"config": {"topics": ["png"], "match": "substring"}})
    status, _, _ = await post(
        gateway, said([{"type": "image_url", "image_url": {"url": uri(MEDIA, "image/png")}}])
    )
    assert status == 200
    assert b64encode(MEDIA) in upstream.seen[0].body


def test_what_only_looks_like_a_uri_is_a_text() -> None:
    """Somebody's words begin with "data:" now and then."""
    assert read_uri("data: the price, 100% of it", "content") is None
    assert read_uri("data of, 100%", "content") is None
    assert read_uri("data: the price, 100% of it", "file_data") is not None


BARE: dict[str, tuple[str, bytes]] = {
    "form": ("application/x-www-form-urlencoded", urlencode({"q": "a falcon"}).replace("f", "%66").encode()),
    "name in a form": ("application/x-www-form-urlencoded; charset=utf-8", b"a%20%66alcon=1"),
    "latin form": ("application/x-www-form-urlencoded", "é+%66alcon=1".encode("latin-1")),
    "utf-16": ("application/json", '{"q": "é falcon"}'.encode("utf-16")),
    "utf-16 escapes": ("application/json", '{"q": "a \\u0066alcon"}'.encode("utf-16-le")),
    "utf-8 mark": ("application/json", b'\xef\xbb\xbf{"q": {"file_data": "%b"}}' % uri(LATIN).encode()),
    "latin": ("text/plain", LATIN),
    "latin json": ("application/octet-stream", b'{"\x7f\x7f\x7f\x7f\x7f": "\xe9 \\u0066alcon"}'),
}  # fmt: skip


async def test_bodies_that_are_no_json_of_ours(raven: Any, upstream: MockUpstream) -> None:
    """Forms with percent signs, UTF-16, a mark before JSON, bytes of Latin-1."""
    gateway = await start(raven, upstream)
    for name, (kind, body) in BARE.items():
        headers = {"Content-Type": kind}
        async with gateway.client.post("/v1/mock/new/endpoint", data=body, headers=headers) as reply:
            wanted = (400, 403) if body.startswith(b"{") else (403,)  # what begins like JSON has to be JSON
            assert reply.status in wanted, (name, await reply.text())
    assert upstream.seen == []


async def test_they_are_redacted_as_they_came(raven: Any, upstream: MockUpstream) -> None:
    """In their own charset, other values as they were."""
    gateway = await start(raven, upstream, action="redact")
    wanted = {
        "form": b"q=a+%5BREDACTED%5D",
        "latin form": b"%E9+%5BREDACTED%5D=1",
        "utf-16": '{"q":"é [REDACTED]"}'.encode("utf-16"),
        "latin": TEXT.replace("falcon", "[REDACTED]").encode("latin-1"),
    }
    for name, left in wanted.items():
        kind, body = BARE[name]
        async with gateway.client.post(
            "/v1/mock/new/endpoint", data=body, headers={"Content-Type": kind}
        ) as reply:
            assert "input=redacted" in reply.headers["X-Raven-Guardrails"], await reply.text()
        assert upstream.seen[-1].body.endswith(left), name


@pytest.mark.parametrize(
    "path",
    ["new/a%20falcon", "new/%66alcon?x=1", "new/caf%E9%20falcon", "new?q=%E9+falcon", "new?%66alcon",
     "new?a=1&falcon=2", "chat/completions?q=a%20falcon"],
)  # fmt: skip
async def test_an_address_is_judged(raven: Any, upstream: MockUpstream, path: str) -> None:
    """Where it goes up as it came: the query, and an endpoint that nobody knows. To redact is to refuse."""
    for action in ("block", "redact"):
        gateway = await start(raven, upstream, action=action)
        async with gateway.client.post(f"/v1/mock/{path}", json=said("hi", model="m")) as reply:
            assert reply.status == 403, await reply.text()
    assert upstream.seen == []


async def test_words_of_the_protocol_are_nobodys(raven: Any, upstream: MockUpstream) -> None:
    """A topic may be called like a provider, an endpoint that is known, or a model in its address."""
    topics = ["chat", "mock", "google", "models", "falcon"]
    gateway = await start(raven, upstream, WORD | {"config": {"topics": topics}}, applies_to="input")
    for path in ("/v1/mock/chat/completions", "/v1/google/v1beta/models/falcon:generateContent"):
        status, answer, _ = await post(gateway, {**said("hi"), "model": "falcon"}, path)
        assert status != 403, answer


TOKENS: list[tuple[str, str, Any]] = [
    ("/v1/completions", "prompt", [101, 102]),
    ("/v1/completions", "prompt", [[101, 102], [103]]),
    ("/v1/embeddings", "input", [101, 102]),
    ("/v1/embeddings", "input", [[101, 102]]),
    ("/v1/embeddings", "input", ["text", [101]]),
    ("/v1/mock/embeddings", "input", [101.0, 102.0]),
    ("/v1/local/api/generate", "context", [1, 2, 3]),
]


@pytest.mark.parametrize(("path", "param", "tokens"), TOKENS)
async def test_tokens_cannot_be_judged(
    raven: Any, upstream: MockUpstream, path: str, param: str, tokens: Any
) -> None:
    """400 that names the field, where something could be blocked; who only looks refuses nothing."""
    body = {"model": "m" if path.count("/") > 2 else "mock/m", param: tokens}
    gateway = await start(raven, upstream)
    status, answer, _ = await post(gateway, body, path)
    error = answer["error"]  # Ollama's is a text
    assert (status, param if isinstance(error, str) else error["param"]) == (400, param)
    assert upstream.seen == []
    for fields in ({"action": "warn"}, {"shadow": True}, {"applies_to": "output"}):
        gateway = await start(raven, upstream, **fields)
        async with gateway.client.post(path, json=body) as reply:
            text = await reply.text()
        assert "guardrails cannot judge" not in text, fields


@pytest.mark.parametrize(
    "disposition",
    ['name="file"; filename="br\xfbl\xe9.txt"', 'name="br%FBl%E9"; filename="a falcon"',
     'name="file"; filename="caf\xe9 a %66alcon.txt"',
     'name="a %66alcon"', 'name="a %66alcon%0A"', 'name="a\\b %66alcon"'],
)  # fmt: skip
async def test_names_of_parts(raven: Any, upstream: MockUpstream, disposition: str) -> None:
    """Bytes of Latin-1 among them hide nothing, nor do percent signs."""
    head = f"Content-Disposition: form-data; {disposition}\r\n\r\n"
    form = (
        b"--x\r\n"
        + head.encode("latin-1")
        + b"\xff\xfb\x90\x00\r\n--x--\r\n".replace(b"\xff\xfb\x90\x00", b"x")
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    words = WORD | {"config": {"topics": ["falcon", "brûlé"]}}
    gateway = await start(raven, upstream, words)
    async with gateway.client.post("/v1/mock/new/endpoint", data=form, headers=headers) as reply:
        assert reply.status == 403, await reply.text()
    assert upstream.seen == []
    gateway = await start(raven, upstream, words, action="redact")
    async with gateway.client.post("/v1/mock/new/endpoint", data=form, headers=headers) as reply:
        assert reply.status != 403
    assert all(b"alcon" not in one.body and b"br\xfbl" not in one.body for one in upstream.seen)


REPLIES = {
    "latin": ("text/plain; charset=iso-8859-1", LATIN),
    "utf-16": ("text/plain; charset=utf-16", TEXT.encode("utf-16")),
    "controls": ("text/csv", b"\x01\x02\x03\x04" * 9 + LATIN),
    "unknown": ("application/octet-stream", LATIN),
    "svg": ("image/svg+xml", LATIN),
}


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("action", ["block", "redact"])
@pytest.mark.parametrize("name", REPLIES)
async def test_replies(raven: Any, upstream: MockUpstream, name: str, action: str, size: int) -> None:
    """Whole or in pieces, the word is in no reply; what is redacted keeps its charset."""
    kind, data = REPLIES[name]
    gateway = await start(raven, upstream, applies_to="output", action=action)
    chunks = [data[n : n + size] for n in range(0, len(data), size)]
    upstream.script(ScriptedReply(headers={"Content-Type": kind}, chunks=chunks))
    received = b""
    async with gateway.client.post("/v1/mock/new/text", json={"model": "m"}) as reply:
        try:
            async for piece in reply.content.iter_any():
                received += piece
        except OSError:
            pass
        status = reply.status
    assert b"falcon" not in received.replace(b"\0", b"")
    if action == "redact":
        assert status == 200
        assert len(received) - len(data) == len(b"[REDACTED]falcon") - 12 or "16" in kind
        assert received.startswith(data[:8])
