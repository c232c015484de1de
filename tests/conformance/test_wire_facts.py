"""Each vendor's error shape as each face's client hears it, and facts that need the whole gateway.

The shapes stand in `vendor_errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from raven_proxy.mock import ScriptedReply, Seen

from .matrix import Bench, open_bench
from .upstreams import require_plugin
from .vendor_errors import INVALID, MISSING, ROWS, SECRET, Row

pytestmark = pytest.mark.asyncio(loop_scope="module")

_QUESTION: Any = [{"role": "user", "content": "Hello?"}]
_FACES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": _QUESTION}),
    "responses": ("/v1/responses", {"input": "Hello?"}),
    "messages": ("/v1/messages", {"messages": _QUESTION, "max_tokens": 9}),
}
_ANTHROPIC = {
    400: INVALID, 402: "billing_error", 404: MISSING, 422: INVALID, 429: "rate_limit_error",
    500: "api_error", 501: "api_error", 502: "api_error", 529: "overloaded_error",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("wire")) as opened:
        yield opened


def _answer_with(bench: Bench, reply: ScriptedReply) -> None:
    async def answer(_: Seen) -> ScriptedReply:
        return reply

    bench.upstream.handler = answer


async def _ask(bench: Bench, face: str, model: str, **more: Any) -> tuple[int, Any, str]:
    path, body = _FACES[face]
    async with bench.gateway.client.post(path, json={"model": model, **body, **more}) as reply:
        return reply.status, reply.headers, await reply.text()


@pytest.mark.parametrize("face", _FACES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_an_error_shape(row: Row, face: str, bench: Bench) -> None:
    """Status, type, code, place and words are those of the table; no key, account or markup comes along."""
    require_plugin({"gemini": "gemini", "vertex": "gemini"}.get(row.model.partition("/")[0], "openai"))
    body = row.said if isinstance(row.said, bytes) else msgspec.json.encode(row.said)
    headers = {"Content-Type": "application/json", "x-request-id": "req_theirs", **row.headers}
    _answer_with(bench, ScriptedReply(status=row.status, headers=headers, body=body))
    status, sent, text = await _ask(bench, face, row.model)
    error = msgspec.json.decode(text)["error"]
    assert row.words in error["message"]
    metadata = error["metadata"]
    assert (metadata["status"], metadata["request_id"]) == (row.status, "req_theirs")
    assert sent.get("Retry-After") == row.wait
    assert not [one for one in (SECRET, "user_2abc", "<") if one in text]
    out = 503 if row.out == 529 and face != "messages" else row.out
    assert status == out
    if face == "messages":
        expected = "overloaded_error" if out == 503 else _ANTHROPIC[out]
        assert (error["type"], msgspec.json.decode(text)["type"]) == (expected, "error")
    else:
        assert (error["type"], error["code"], error["param"]) == (row.type, row.code, row.param)
        assert {"message", "type", "param", "code", "status"} <= error.keys()


# -- errors inside a stream, and under a 200 -------------------------------------------

_START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "c", "usage": {"input_tokens": 9, "output_tokens": 1}},
}
_TEXT = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
]
_BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}


def _events(*documents: Any) -> ScriptedReply:
    frame = b"event: %b\ndata: %b\n\n"
    chunks: Any = [frame % (one["type"].encode(), msgspec.json.encode(one)) for one in documents]
    return ScriptedReply(chunks=chunks, headers={"Content-Type": "text/event-stream"})


async def _ask_stream(bench: Bench, face: str, model: str) -> bytes:
    path, body = _FACES[face]
    data = b""
    async with bench.gateway.client.post(path, json={"model": model, "stream": True, **body}) as reply:
        try:
            async for piece in reply.content.iter_any():
                data += piece
        except Exception:  # the connection is cut, as it should be
            pass
    return data


@pytest.mark.parametrize("face", ["chat", "responses"])
async def test_an_error_event_ends_a_stream_without_a_finish(face: str, bench: Bench) -> None:
    """What came before stands; then the error, and nothing that says that all is well."""
    _answer_with(bench, _events(_START, *_TEXT, _BUSY))
    data = await _ask_stream(bench, face, "anthropic/claude-sonnet-4-5")
    assert b"Hel" in data
    frames = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    told = next(msgspec.json.decode(one)["error"] for one in frames if b"Busy" in one)
    assert {"message", "type", "code"} <= told.keys()
    assert b"[DONE]" not in data
    assert b'"finish_reason":"stop"' not in data
    assert b"response.completed" not in data


async def test_an_error_chunk_of_a_gateway_reaches_other_dialects(bench: Bench) -> None:
    """OpenRouter's chunk with `error` and finish reason "error", for a client of Anthropic's."""
    chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]}
    failed = {
        "id": "x",
        "error": {"code": 502, "message": "Provider disconnected"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    _answer_with(bench, ScriptedReply.of_events([chunk, failed]))
    data = await _ask_stream(bench, "messages", "openrouter-chat/any")
    assert b"Hel" in data
    assert b"event: error" in data
    assert b"Provider disconnected" in data
    assert b"message_stop" not in data


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_under_a_200_is_one_for_other_dialects(bench: Bench, stream: bool) -> None:
    """OpenRouter answers 200 and an error; who is translated for gets a proper one, without the account."""
    body = {"error": {"code": 402, "message": "Insufficient credits"}, "user_id": "user_2abcDEF34567"}
    _answer_with(bench, ScriptedReply.of_json(body))
    status, _, text = await _ask(bench, "messages", "openrouter-chat/any", stream=stream)
    assert (status, msgspec.json.decode(text)["error"]["type"]) == (402, "billing_error")
    assert "user_2abc" not in text


_COMPLETION = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
_CHUNKS = [
    {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("wants_stream", [False, True])
async def test_a_wrong_content_type_harms_nobody(
    bench: Bench, kind: str, is_stream: bool, wants_stream: bool
) -> None:
    """A document or events under either content type: a translated client gets what it asked for."""
    body = msgspec.json.encode(_COMPLETION)
    if is_stream:
        body = b"".join(b"data: %b\n\n" % msgspec.json.encode(one) for one in _CHUNKS) + b"data: [DONE]\n\n"
    _answer_with(bench, ScriptedReply(body=body, headers={"Content-Type": kind}))
    status, headers, text = await _ask(bench, "messages", "openai-chat/any", stream=wants_stream)
    assert (status, "Hello" in text) == (200, True)
    expected = "text/event-stream" if wants_stream else "application/json"
    assert headers["Content-Type"].startswith(expected)
    assert ("message_stop" in text) is wants_stream


async def test_a_retry_after_on_a_reply_is_no_failure(bench: Bench) -> None:
    """Anthropic and Together say when the next request may come with a 200, too."""
    headers = {"retry-after": "7", "anthropic-ratelimit-requests-remaining": "0"}
    reply = {
        "type": "message", "id": "m", "role": "assistant", "model": "c", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    _answer_with(bench, ScriptedReply.of_json(reply, headers=headers))
    for face in ("chat", "messages"):
        status, sent, text = await _ask(bench, face, "anthropic/claude-sonnet-4-5")
        assert (status, "Hello" in text) == (200, True)
        assert not [name for name in sent if "anthropic-ratelimit" in name.lower()]
