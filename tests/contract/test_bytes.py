"""With no plugin that wants to, nothing is changed: requests and replies pass byte for byte."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from raven_proxy import Exchange, hookimpl, hookspecs
from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream, ScriptedReply

HEADERS = {"Content-Type": "application/json", "X-Vendor-Thing": "kept", "OpenAI-Organization": "org"}
REQUESTS = {
    "chat": ("/v1/chat/completions", '{"model":"m","messages":[{"role":"user","content":"hi"}]%s}'),
    "chat with white space": (
        "/v1/chat/completions",
        '\n{ "messages" : [ {"content":"hi" ,"role":"user"} ] ,\t"model":"m"%s }\r\n',
    ),
    "chat with unknown fields": (
        "/v1/chat/completions",
        (
            '{"zeta":1.0,"nested":{"a":[1e3,-0.0,12345678901234567890]},"model":"\\u006d",'
            '"messages":[{"role":"user","content":[{"type":"text","text":"你好🙂\\ud83d\\ude42","x":null}]}]%s}'
        ),
    ),
    "completions": ("/v1/completions", '{"model":"m","prompt":["a","b"],"suffix":null%s}'),
    "embeddings": ("/v1/embeddings", '{"input":[[1,2],[3]],"model":"m"%s}'),
    "a raw path": ("/v1/mock/some/endpoint?x=%%20&y=1", '{"anything":true%s}'),
}  # fmt: skip
USAGE = b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
WHOLE = b'{ "id" : "x", "choices":[] ,"unknown":{"a":1.0,"b":[]},\r\n ' + USAGE + b"}\n"
STREAM = (
    b": comment\n\n"
    b'event: x\r\ndata: {"id":"1","choices":[{"index":0,"delta":{"content":"\xe4\xbd\xa0"}}]}\r\n\r\n'
    b'id: 7\rdata:{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\r'
    b'retry: 10\n\ndata: {"id":"1","choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n"
)


class Idle:
    """A plugin that implements every exchange hook and takes no part."""


async def _nothing(self: Any, exchange: Exchange) -> None:
    del exchange


def _nothing_plain(self: Any, exchange: Exchange) -> None:
    del exchange


for _hook, _spec in vars(hookspecs).items():
    if hasattr(_spec, "raven_proxy_spec") and "exchange" in _spec.__annotations__:
        _body = _nothing if inspect.iscoroutinefunction(_spec) else _nothing_plain
        setattr(Idle, _hook, hookimpl(_body))

PLUGINS: dict[str, Sequence[Any]] = {"none": (), "an idle one": (Idle,), "all": ("meter", "byok", Idle)}


@pytest.mark.parametrize("plugins", PLUGINS.values(), ids=PLUGINS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_bytes_pass_untouched_both_ways(
    raven: GatewayStarter, upstream: MockUpstream, kind: str, *, streamed: bool, plugins: Sequence[Any]
) -> None:
    """Where the dialects match, no alias is used and usage was asked for, sha256 is equal on both sides."""
    path, template = REQUESTS[kind]
    body = (
        template % (',"stream": true,"stream_options":{"include_usage":true}' if streamed else "")
    ).encode()
    kept = {
        "name": "mock",
        "provider": "openai",
        "base_url": upstream.url,
        "key": {"env": "RAVEN_TEST_PROVIDER_KEY"},
    }
    gateway = await raven(plugins, upstreams=[kept])
    if streamed:
        cuts = [STREAM[i : i + 7] for i in range(0, len(STREAM), 7)]
        upstream.script(ScriptedReply(chunks=list(cuts), headers={"Content-Type": "text/event-stream"}))
    else:
        upstream.script(ScriptedReply(body=WHOLE, headers={"Content-Type": "application/json"}))
    async with gateway.client.post(path.replace("%%", "%"), data=body, headers=HEADERS) as reply:
        received = await reply.read()
        assert reply.status == 200
    assert hashlib.sha256(received).hexdigest() == hashlib.sha256(STREAM if streamed else WHOLE).hexdigest()
    (seen,) = upstream.seen
    assert hashlib.sha256(seen.body).hexdigest() == hashlib.sha256(body).hexdigest()
    assert (seen.headers["x-vendor-thing"], seen.headers["openai-organization"]) == ("kept", "org")


@pytest.fixture(autouse=True)
def _provider_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVEN_TEST_PROVIDER_KEY", "sk-test")
