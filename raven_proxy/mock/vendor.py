"""What the mock upstream answers when no script says otherwise: a plausible OpenAI-like vendor.

Responsible for chat and text completions (whole and streamed), embeddings and models. The same
request always gets the same answer. A token is a word with the space after it; a reply repeats
the last message, calls a tool when the last user message names it (or says "tool"), and fills a
JSON schema with samples. Leaves misbehaviour to `faults.py`, except for what is said.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .faults import error_reply
from .samples import call_tools, fill_schema
from .scripts import ScriptedReply, Seen

__all__ = ["answer"]

_CREATED = 1_700_000_000
_MAX_DIMENSIONS = 4096
_MODELS = ("mock-small", "mock-large", "mock-embedding")
_TOKEN = re.compile(r"\S+\s*")
_TEXTS = {"fx-bytes": "你好🙂", "fx-huge": "x" * (3 * 1024 * 1024)}

Json = dict[str, Any]
Part = tuple[Json, str | None]  # what is new in a stream's choice, and its finish reason


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Message(msgspec.Struct):
    role: str
    content: str | list[Json] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(str(part["text"]) for part in self.content if "text" in part)
        return self.content or ""


class _Generation(msgspec.Struct, kw_only=True):
    """What chat and text completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class _Chat(_Generation, kw_only=True):
    messages: list[_Message]
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    response_format: Json | None = None


class _Completion(_Generation, kw_only=True):
    prompt: str | list[str | int | list[int]]


class _Embedding(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None


class _Choice(msgspec.Struct):
    """One generated choice: its tokens, or its tool calls."""

    tokens: list[str]
    finish: str
    calls: list[Json] = []

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def size(self) -> int:
        return len(self.tokens) + sum(_count(str(call["function"])) for call in self.calls)


def answer(seen: Seen) -> ScriptedReply:
    """Return the reply to any request; a bad one gets 400, 404 or 405 in OpenAI's envelope."""
    if seen.path == "/v1/models":
        return _ok({"object": "list", "data": [_model(name) for name in _MODELS]})
    if seen.path.startswith("/v1/models/"):
        name = seen.path.removeprefix("/v1/models/")
        known = name in _MODELS
        return _ok(_model(name)) if known else error_reply(404, f"The model '{name}' does not exist")
    if seen.path not in _ROUTES:
        return error_reply(404, f"Invalid URL ({seen.method} {seen.path})", code="unknown_url")
    if seen.method != "POST":
        return error_reply(405, f"Not allowed to {seen.method} on {seen.path}", code="method_not_supported")
    try:
        return _ROUTES[seen.path](seen.body)
    except (msgspec.DecodeError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return error_reply(400, f"We could not read your request: {error}")


def _chat(request: _Chat) -> ScriptedReply:
    if not request.messages:
        return error_reply(400, "[] is too short - 'messages'", param="messages")
    prompt = " ".join(message.text for message in request.messages)
    last = request.messages[-1]
    asked = request.tools if last.role == "user" else None
    calls = call_tools(asked or [], request.tool_choice, last.text)
    choices = [
        _Choice([], "tool_calls", calls) if calls else _choice(_chat_text(request), index, request.limit)
        for index in range(request.n or 1)
    ]
    top = _top("chatcmpl", "chat.completion", request.model, prompt)
    usage = _usage(request.model, _count(prompt), choices)
    if request.stream:
        return _stream({**top, "object": "chat.completion.chunk"}, choices, _deltas, usage, request)
    return _whole(top, choices, lambda choice: {"message": _message(choice)}, usage)


def _message(choice: _Choice) -> Json:
    content = None if choice.calls else choice.text
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    return {**message, "tool_calls": choice.calls} if choice.calls else message


def _deltas(choice: _Choice) -> Iterator[Part]:
    """A chat choice as deltas, each with its finish reason."""
    yield {"delta": {"role": "assistant", "content": None if choice.calls else "", "refusal": None}}, None
    for token in choice.tokens:
        yield {"delta": {"content": token}}, None
    for index, call in enumerate(choice.calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2
        start = {"index": index, **call, "function": {"name": name, "arguments": ""}}
        yield {"delta": {"tool_calls": [start]}}, None
        for text in (arguments[:half], arguments[half:]):
            yield {"delta": {"tool_calls": [{"index": index, "function": {"arguments": text}}]}}, None
    yield {"delta": {}}, choice.finish


def _completion(request: _Completion) -> ScriptedReply:
    prompts = _inputs(request.prompt)
    choices = [
        _choice(_said(request.model, prompt), index, request.limit)
        for prompt in prompts
        for index in range(request.n or 1)
    ]
    top = _top("cmpl", "text_completion", request.model, " ".join(prompts))
    usage = _usage(request.model, sum(map(_count, prompts)), choices)
    if request.stream:
        return _stream(top, choices, _texts, usage, request)
    return _whole(top, choices, lambda choice: {"text": choice.text}, usage)


def _texts(choice: _Choice) -> Iterator[Part]:
    yield from (({"text": token}, None) for token in choice.tokens)
    yield {"text": ""}, choice.finish


def _embeddings(request: _Embedding) -> ScriptedReply:
    if request.dimensions is not None and not 1 <= request.dimensions <= _MAX_DIMENSIONS:
        return error_reply(400, f"'dimensions' must be 1 to {_MAX_DIMENSIONS}", param="dimensions")
    inputs = _inputs(request.input)
    packed, size = request.encoding_format == "base64", request.dimensions or 16
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, packed=packed)}
        for index, text in enumerate(inputs)
    ]
    tokens = sum(map(_count, inputs))
    usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    shown = {} if request.model == "fx-no-usage" else usage
    return _ok({"object": "list", "data": data, "model": request.model, **shown})


def _stream(
    top: Json,
    choices: list[_Choice],
    cut: Callable[[_Choice], Iterator[Part]],
    usage: Json,
    request: _Generation,
) -> ScriptedReply:
    asked = request.stream_options is not None and request.stream_options.include_usage
    pending = {"usage": None} if asked and usage else {}
    parts = (
        {"index": index, **part, "logprobs": None, "finish_reason": finish}
        for index, choice in enumerate(choices)
        for part, finish in cut(choice)
    )
    chunks: list[Json] = [{**top, "choices": [part], **pending} for part in parts]
    if pending:
        chunks.append({**top, "choices": [], **usage})
    return ScriptedReply.of_events(chunks, headers=_headers(top["id"]), reason="OK")


def _whole(top: Json, choices: list[_Choice], show: Callable[[_Choice], Json], usage: Json) -> ScriptedReply:
    shown = [
        {"index": index, **show(choice), "logprobs": None, "finish_reason": choice.finish}
        for index, choice in enumerate(choices)
    ]
    return _ok({**top, "choices": shown, **usage})


def _ok(value: Json) -> ScriptedReply:
    return ScriptedReply.of_json(value, headers=_headers(str(value.get("id", "list"))), reason="OK")


def _headers(name: str) -> dict[str, str]:
    return {"X-Request-Id": f"req_{name}", "OpenAI-Processing-Ms": "7", "OpenAI-Version": "2020-10-01"}


def _top(prefix: str, kind: str, model: str, prompt: str) -> Json:
    # Made of the prompt alone: a body changed on its way still gets the same answer.
    digest = hashlib.sha256(f"{model}\n{prompt}".encode("utf-8", "replace")).hexdigest()[:24]
    top = {"id": f"{prefix}-{digest}", "object": kind, "created": _CREATED, "model": model}
    return {**top, "system_fingerprint": "fp_mock"}


def _usage(model: str, prompt_tokens: int, choices: list[_Choice]) -> Json:
    if model == "fx-no-usage":
        return {}
    completion_tokens = sum(choice.size for choice in choices)
    usage: Json = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    usage["total_tokens"] = prompt_tokens + completion_tokens
    usage["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
    usage["completion_tokens_details"] = {"reasoning_tokens": 0, "audio_tokens": 0}
    return {"usage": usage}


def _choice(text: str, index: int, limit: int | None) -> _Choice:
    tokens = _TOKEN.findall(text if index == 0 else f"{text} (choice {index + 1})")
    if limit is not None and len(tokens) > limit:
        return _Choice(tokens[:limit], "length")
    return _Choice(tokens, "stop")


def _chat_text(request: _Chat) -> str:
    wanted = request.response_format or {}
    if wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema", {}).get("schema", {})
        return msgspec.json.encode(fill_schema(schema, schema)).decode()
    if wanted.get("type") == "json_object":
        return '{"answer": "a sample", "certain": true}'
    last = request.messages[-1]
    return f"The tool answered: {last.text}" if last.role == "tool" else _said(request.model, last.text)


def _said(model: str, text: str) -> str:
    said = f"You said: {text} That was {_count(text)} words, and this is the mock upstream speaking."
    return _TEXTS.get(model, said)


def _inputs(value: str | list[str | int | list[int]]) -> list[str]:
    """Texts of an input: a text, texts, token numbers or lists of those; a token is one word."""
    if isinstance(value, str):
        return [value]
    if all(isinstance(item, int) for item in value):
        return [" ".join(map(str, value))]
    return [" ".join(map(str, item)) if isinstance(item, list) else str(item) for item in value]


def _vector(text: str, size: int, *, packed: bool) -> list[float] | str:
    digest = hashlib.shake_256(text.encode("utf-8", "replace")).digest(size * 2)
    values = [number / 32768 for number in struct.unpack(f"<{size}h", digest)]
    norm = sum(value * value for value in values) ** 0.5 or 1.0
    vector = [value / norm for value in values]
    return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if packed else vector


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "mock"}


def _count(text: str) -> int:
    return len(_TOKEN.findall(text))


_ROUTES: dict[str, Callable[[bytes], ScriptedReply]] = {
    "/v1/chat/completions": lambda body: _chat(msgspec.json.decode(body, type=_Chat)),
    "/v1/completions": lambda body: _completion(msgspec.json.decode(body, type=_Completion)),
    "/v1/embeddings": lambda body: _embeddings(msgspec.json.decode(body, type=_Embedding)),
}
