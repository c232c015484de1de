"""The demo's chat completions: text, tool calls, structured output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from . import sample, speech, tool
from .answer import Answer, Json, decode, describe, header
from .tool import ToolCall

__all__ = ["Choice", "Format", "JsonSchema", "Message", "Request", "answer", "choose"]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Message(msgspec.Struct):
    """One message, as far as the demo listens."""

    role: str
    content: str | list[Json] | None = None

    @property
    def text(self) -> str:
        """Its text, parts joined by line feeds."""
        if isinstance(self.content, list):
            return "\n".join(part["text"] for part in self.content if isinstance(part.get("text"), str))
        return self.content or ""


class JsonSchema(msgspec.Struct):
    """The schema inside a response format."""

    schema: Json | bool | None = None


class Format(msgspec.Struct):
    """The shape that the answer must have."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Request(msgspec.Struct):
    """What the demo looks at in a chat completion request."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=0)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    tools: list[tool.Tool] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens of an answer."""
        limits = [m for m in (self.max_tokens, self.max_completion_tokens) if m is not None]
        return min(limits) if limits else None


class Choice(msgspec.Struct):
    """Either text in pieces, or tool calls."""

    index: int
    pieces: list[str]
    finish: str
    calls: list[ToolCall] = []

    @property
    def size(self) -> int:
        """Its tokens."""
        return len(self.pieces) + sum(speech.count(c.name) + speech.count(c.arguments) for c in self.calls)


def answer(body: bytes, model: str) -> Answer:
    """Answer the last message `n` times. Raises InvalidRequest."""
    request = decode(body, Request)
    top = header("chatcmpl", "chat.completion", model, body)
    choices, asked, said = choose(request, top["id"])
    usage = describe(asked, said)
    shown = [_show(choice) for choice in choices]
    chunks = None
    if request.stream:
        options = request.stream_options
        with_usage = options is not None and options.include_usage is True
        chunks = _stream({**top, "object": "chat.completion.chunk"}, choices, usage if with_usage else None)
    return Answer({**top, "choices": shown, "usage": usage}, asked, said, chunks)


def choose(request: Request, seed: str) -> tuple[list[Choice], int, int]:
    """Answer the last message `n` times; give the answers, and the tokens of the prompt and of them."""
    choices = [_choose(request, index, seed) for index in range(request.n or 1)]
    asked = sum(speech.count(message.text) + 1 for message in request.messages)  # and one for its role
    return choices, asked, sum(choice.size for choice in choices)


def _choose(request: Request, index: int, seed: str) -> Choice:
    last = request.messages[-1]
    is_result = last.role in {"tool", "function"}
    calls = tool.call(
        request.tools or [],
        request.tool_choice,
        last.text,
        is_answered=is_result,
        may_be_many=request.parallel_tool_calls is not False,
        seed=f"{seed}{index}",
    )
    if calls:
        return Choice(index, [], "tool_calls", calls)
    text = f"The tool answered: {last.text}" if is_result else speech.say(last.text, index)
    if request.response_format is not None:
        text = _structure(request.response_format, last.text) or text
    pieces = speech.split(speech.stop_at(text, request.stop))
    limit = len(pieces) if request.limit is None else request.limit
    return Choice(index, pieces[:limit], "length" if len(pieces) > limit else "stop")


def _structure(wanted: Format, question: str) -> str | None:
    """Write the JSON that `response_format` asks for; None where it asks for text."""
    if wanted.type == "text":
        return None
    value: Any = {"answer": speech.say(question), "model": "demo"}
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        value = sample.fill(wanted.json_schema.schema or {}, question)
    return msgspec.json.encode(value).decode()


def _show(choice: Choice) -> Json:
    message: Json = {"role": "assistant", "content": "".join(choice.pieces), "refusal": None}
    if choice.calls:
        message |= {
            "content": None,
            "tool_calls": [_show_call(call, call.arguments) for call in choice.calls],
        }
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish}


def _show_call(call: ToolCall, arguments: str) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _stream(top: Json, choices: list[Choice], usage: Json | None) -> Iterator[Json]:
    pending = {"usage": None} if usage else {}
    for choice in choices:
        for delta, finish in _deltas(choice):
            part = {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": finish}
            yield {**top, "choices": [part], **pending}
    if usage:
        yield {**top, "choices": [], "usage": usage}


def _deltas(choice: Choice) -> Iterator[tuple[Json, str | None]]:
    """Give what each chunk of a choice adds, and its finish reason."""
    yield {"role": "assistant", "content": None if choice.calls else "", "refusal": None}, None
    for piece in choice.pieces:
        yield {"content": piece}, None
    for index, call in enumerate(choice.calls):
        yield {"tool_calls": [{"index": index, **_show_call(call, "")}]}, None
        for piece in speech.split(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    yield {}, choice.finish
