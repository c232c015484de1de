"""What clients may speak, as the five published systems document it (contract 2.1)."""

from __future__ import annotations

import re
from typing import Any

from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, REQUEST_ID, Case, cases, check

_USAGE = {"prompt_tokens": int, "completion_tokens": int, "total_tokens": int}
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": str}, "finish_reason": "stop"}
_COMPLETION = {"object": "chat.completion", "model": "gpt-4o", "choices": [_CHOICE], "usage": _USAGE}
_SERVED = {
    "X-Request-ID": REQUEST_ID,
    "X-Raven-Provider": "openai-main",
    "X-Raven-Model": "gpt-4o",
    "X-Raven-Latency-Ms": re.compile(r"^\d+$"),
}
_OPEN: dict[str, Any] = {"method": "GET", "headers": {"Authorization": ""}, "reply": {"status": "ok"}}

FACES = [
    Case(mark="R.RR.AV.RX", what="chat", send=CHAT, reply=_COMPLETION, reply_headers=_SERVED),
    Case(mark="RX", what="chat under /api", path="/api/v1/chat/completions", send=CHAT, reply=_COMPLETION),
    Case(
        mark="AV",
        what="legacy completions",
        path="/v1/completions",
        send={"model": "gpt-3.5-turbo-instruct", "prompt": "Once"},
        reply={
            "object": "text_completion",
            "choices": [{"text": str, "finish_reason": "stop"}],
            "usage": _USAGE,
        },
    ),
    Case(
        mark="AV",
        what="embeddings",
        path="/v1/embeddings",
        send={"model": "text-embedding-3-small", "input": ["a", "b"]},
        reply={
            "object": "list",
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
            "data": [{"object": "embedding", "index": 0, "embedding": list}, {"index": 1, "embedding": list}],
        },
    ),
    Case(
        mark="R",
        what="the demo provider needs no key",
        send=CHAT | {"model": "demo/demo-chat"},
        reply={"choices": [_CHOICE], "usage": _USAGE},
        calls=0,
    ),
    Case(mark="R", what="alive without a key", path="/health/live", **_OPEN),
    Case(mark="R", what="ready without a key", path="/health/ready", **_OPEN),
    Case(mark="RX", what="usage", method="GET", path="/v1/usage", reply={"object": "usage"}),
    Case(mark="RX", what="usage under /api", method="GET", path="/api/v1/usage", reply={"object": "usage"}),
    Case(mark="RX", what="models under /api", method="GET", path="/api/v1/models", reply={"object": "list"}),
]

RAW = [
    Case(mark="PK", what="chat", path="/v1/openai/chat/completions", send=CHAT, reply=_COMPLETION, sent=CHAT),
    Case(
        mark="PK",
        what="by the upstream's name",
        path="/v1/openai-main/chat/completions",
        send=CHAT,
        sent=CHAT,
    ),
    Case(mark="PK.RX", what="under /api", path="/api/v1/openai/chat/completions", send=CHAT, sent=CHAT),
    Case(
        mark="PK",
        what="responses",
        path="/v1/openai/responses?include=a&include=b",
        send=b'{ "model":"gpt-4o",\n "input" : "Hi", "x":1.50 }',
        script={"json": {"object": "response"}},
        reply={"object": "response"},
    ),
    Case(
        mark="PK",
        what="embeddings",
        path="/v1/openai/embeddings",
        reply={"object": "list"},
        send={"model": "text-embedding-3-small", "input": "a"},
    ),
    Case(
        mark="PK",
        what="an upload",
        path="/v1/openai/files",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        send=b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x00\xff\r\n--b--\r\n',
        script={"json": {"object": "file"}},
        reply={"object": "file"},
    ),
    Case(
        mark="PK",
        what="a read",
        method="GET",
        path="/v1/openai/models",
        reply={"object": "list", "data": list},
    ),
    Case(
        mark="PK",
        what="a removal",
        method="DELETE",
        path="/v1/openai/models/ft-1",  # a file would have to be the caller's own
        script={"json": {"deleted": True}},
        reply={"deleted": True},
    ),
    Case(
        mark="PK",
        what="an unknown provider",
        path="/v1/nobody/chat/completions",
        send=CHAT,
        status=404,
        reply={"error": {"type": "not_found_error", "code": "not_found"}},
        calls=0,
    ),
]


@cases(*FACES, *RAW)
async def test_a_documented_face(case: Case, documented: VendorStarter, upstream: MockUpstream) -> None:
    """The documented request gets the documented answer."""
    await check(case, await documented(), upstream)


@cases(*[case for case in RAW if case.status == 200])
async def test_PK_a_raw_path_is_untouched(
    case: Case, documented: VendorStarter, upstream: MockUpstream
) -> None:
    """PK: method, path, query and body arrive as they were sent; so does the reply."""
    gateway = await documented()
    theirs = b'{"object":\t"anything",  "usage": {}}\n'
    upstream.reply(body=theirs, headers={"Content-Type": "application/json"})
    headers = {"Content-Type": "application/json"} | case.headers
    async with gateway.client.request(case.method, case.path, data=case.body, headers=headers) as reply:
        assert await reply.read() == theirs
    [seen] = upstream.seen
    endpoint = re.sub(r"^(/api)?/v1/[^/]+", "", case.path)
    assert (seen.method, seen.target) == (case.method, "/v1" + endpoint)
    assert seen.body == (case.body or b"")
