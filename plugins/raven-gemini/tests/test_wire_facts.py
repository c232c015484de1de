"""Facts of Google's wire that no other test here states; see `tests/conformance/WIRE.md`."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError, ClientSession  # noqa: TID251 - a stranger's side of a test
from raven_anthropic.dialect import FACES
from raven_gemini import links
from raven_gemini.contents import Conversation, write_contents
from raven_gemini.models import judge
from raven_gemini.native import find_native_face
from raven_gemini.refusals import refuse_google

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.mock import MockUpstream, ScriptedReply

from .test_vertex import OPTIONS, hello

Make = Callable[..., Exchange]
HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
PIECES = [
    b'[{"candidates":[{"content":{"parts":[{"text":"Hel"}]},"index":0}]}\r\n',
    (
        b',{"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP","index":0}],'
        b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}\r\n]'
    ),
]
JSON = {"Content-Type": "application/json; charset=UTF-8"}


# -- a stream that is one JSON array ----------------------------------------------------


async def test_an_array_goes_out_as_it_comes(gemini: Any, upstream: MockUpstream) -> None:
    """Without `alt=sse` a stream is one JSON document: its first piece is there before its last is made."""
    gateway = await gemini()
    upstream.script(ScriptedReply(chunks=[PIECES[0], 2.0, PIECES[1]], headers=JSON))
    loop = asyncio.get_running_loop()
    began = loop.time()
    path = "/v1/gemini/models/gemini-2.5-flash:streamGenerateContent"
    async with gateway.client.post(path, json=HELLO) as reply:
        first = await reply.content.readany()
        waited = loop.time() - began
        rest = await reply.content.read()
    assert first == PIECES[0]
    assert waited < 1.5
    assert first + rest == b"".join(PIECES)
    assert reply.headers["Content-Type"] == JSON["Content-Type"]


async def test_an_array_that_breaks_off_never_looks_complete(gemini: Any, upstream: MockUpstream) -> None:
    """The connection is cut, and no event is mixed into the document."""
    gateway = await gemini()
    upstream.script(ScriptedReply(chunks=[PIECES[0]], headers=JSON))
    path = "/v1/gemini/models/gemini-2.5-flash:streamGenerateContent"
    async with gateway.client.post(path, json=HELLO) as reply:
        assert await reply.content.readany() == PIECES[0]
        with pytest.raises(ClientPayloadError):
            await reply.content.readany()


def test_only_such_streams_are_not_collected() -> None:
    """A whole answer stays whole, or an error."""
    verbs = ("streamGenerateContent", "generateContent", "countTokens", "streamRawPredict")
    faces = [find_native_face("POST", f"models/m:{verb}") for verb in verbs]
    assert [face.streams_json for face in faces if face is not None] == [True, False, False, False]


# -- keys --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
async def test_googles_client_needs_nothing_but_its_base_url(
    raven: Any, upstream: MockUpstream, tmp_path: Any
) -> None:
    """Its `x-goog-api-key` is the gateway's key, checked by the real plugin, and does not go upstream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genai = pytest.importorskip("google.genai")
    (tmp_path / "key").write_text("AIzaUpstream0123456789")
    place = {"name": "g", "provider": "gemini", "base_url": f"{upstream.origin}/v1beta"}
    place |= {"key": {"file": str(tmp_path / "key")}}
    gateway = await raven(["gemini"], base=("auth-keys",), upstreams=[place])
    options = genai.types.HttpOptions(base_url=f"{gateway.url}/v1/gemini")
    client = genai.Client(api_key=gateway.key, http_options=options)
    upstream.reply(json={"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]})
    reply = await client.aio.models.generate_content(model="gemini-2.5-flash", contents="Hi")
    assert reply.text == "Hi"
    assert upstream.seen[0].headers["x-goog-api-key"] == "AIzaUpstream0123456789"
    assert gateway.key not in upstream.seen[0].raw.decode()
    await client.aio.aclose()
    path = "/v1/gemini/models/m:generateContent"
    target = f"{gateway.url}{path}?key={gateway.key}"
    async with ClientSession() as stranger, stranger.post(target, json=HELLO) as refused:
        assert refused.status == 401
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"])
def test_a_bad_key_is_known_by_its_reason(reason: str) -> None:
    """Whatever Google's message says of it."""
    error = {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT", "details": [{"reason": reason}]}
    found = refuse_google("main", ReplyHead(400, {}), msgspec.json.encode({"error": error}), "")
    assert (found.status, found.type) == (502, "upstream_error")


# -- Claude at Vertex AI ----------------------------------------------------------------

LINK = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
LINKED = {
    "model": "claude-x",
    "max_tokens": 5,
    "temperature": 0.25,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "See"}, LINK]}],
}


def ask_claude(make_exchange: Make, body: Any, **options: Any) -> Exchange:
    return make_exchange(
        msgspec.json.encode(body), face=FACES[0], preset="vertex", options={**OPTIONS, **options},
        secret="ya29.x", model="claude-sonnet-4-5",
    )  # fmt: skip


async def test_links_for_claude_are_refused_or_fetched(
    make_exchange: Make, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vertex AI refuses them: a 400 with the remedy, or bytes in their place; all else is as it was."""
    exchange = ask_claude(make_exchange, LINKED)
    await provider.prepare(exchange)
    with pytest.raises(InvalidRequest, match="fetch_images"):
        provider.build_request(exchange)

    async def fetch(url: str, **options: Any) -> tuple[str, bytes]:
        return "image/png", b"\x89PNG\r\n\x1a\n"

    monkeypatch.setattr(links.fetcher, "fetch", fetch)
    exchange = ask_claude(make_exchange, LINKED, fetch_images=True)
    await provider.prepare(exchange)
    sent = msgspec.json.decode(provider.build_request(exchange).body)
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert sent["messages"][0]["content"][1] == {"type": "image", "source": source}
    assert (sent["max_tokens"], sent["temperature"]) == (5, 0.25)
    assert sent["anthropic_version"].startswith("vertex")
    assert "model" not in sent
    assert provider.open_translator(exchange, ReplyHead(200, {})) is None


async def test_links_of_other_dialects_are_refused_too(make_exchange: Make, provider: Any) -> None:
    """By the same words."""
    exchange = hello(make_exchange, model="claude-sonnet-4-5")
    image = hub.Image(media=hub.Media(url="https://a.example/x.png"))
    exchange.hub_request.messages = [hub.Message(role="user", parts=[image])]
    with pytest.raises(InvalidRequest, match="fetch_images"):
        provider.build_request(exchange)


async def test_what_only_speaks_of_a_link_passes_byte_for_byte(make_exchange: Make, provider: Any) -> None:
    """A tool with a parameter `url` is no link."""
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"url": {"type": "string"}}}}
    exchange = ask_claude(
        make_exchange, {**LINKED, "tools": [tool], "messages": HELLO_TURN}, fetch_images=True
    )
    await provider.prepare(exchange)
    body = exchange.body.replace(b'"model":"claude-x",', b"")
    assert provider.build_request(exchange).body == body[:-1] + b',"anthropic_version":"vertex-2023-10-16"}'


HELLO_TURN = [{"role": "user", "content": "Hi"}]


def test_the_user_speaks_first() -> None:
    """A history that the assistant begins gets a user turn before it, and no other does."""
    answer = hub.Message(role="assistant", parts=[hub.Text(text="Hello.")])
    question = hub.Message(role="user", parts=[hub.Text(text="Hi?")])
    known = Conversation(judge("gemini-2.5-pro"))
    _, contents = write_contents([answer, question], known)
    assert [turn["role"] for turn in contents] == ["user", "model", "user"]
    assert contents[0]["parts"] == [{"text": "Begin."}]
    _, contents = write_contents([question, answer], known)
    assert [turn["role"] for turn in contents] == ["user", "model"]


@pytest.mark.parametrize("url", ["http://[::1", "https://", "https://[x]/y", "gs://"])
async def test_a_link_that_is_no_url_is_the_clients_fault(gemini: Any, url: str) -> None:
    """400 with the field, and nobody is asked: it was a 500 once."""
    gateway = await gemini()
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"model": "gemini/gemini-2.5-pro", "messages": [{"role": "user", "content": [part]}]}
    async with gateway.client.post("/v1/chat/completions", json=body) as reply:
        error = (await reply.json())["error"]
    assert reply.status == 400
    assert error["param"].startswith("messages")
