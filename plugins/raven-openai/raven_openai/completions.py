"""Text completions of any vendor: what clients of `/v1/completions` ask becomes a chat of one message.

For vendors that have the endpoint themselves bytes pass (`passing`). Thinking, which the dialect has no
field for, stands in `reasoning_content`. Shapes: OpenAI's API reference, completions/create.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.judging import judge

from .calls import REMEDIES, StreamCall
from .chat.replies import completion_id, render_usage, upstream_model

__all__ = ["CLIENT_SIDE"]

_FINISH = {"tool_calls": "stop"}  # nobody could have called one
_ECHO = "completions.echo"  # the key in `ChatRequest.names` under which the prompt is kept to be repeated
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Body(msgspec.Struct):
    model: str
    prompt: str | list[Any] | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: _Count | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    n: _Count | None = None
    stream: bool | None = None
    stream_options: Any = None
    max_tokens: _Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    user: str | None = None


_KNOWN = frozenset(_Body.__struct_fields__)
_PLAIN = (
    "max_tokens temperature top_p top_k n seed presence_penalty frequency_penalty logit_bias user".split()
)
_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


class _CompletionsClient:
    """The client's half of `openai.completions`."""

    def read_request(self, exchange: Exchange) -> hub.ChatRequest:
        """Read `exchange.body`. Raises InvalidRequest for what only a model of this kind could do."""
        body = judge(_decode, exchange.body, REMEDIES)
        prompt = _read_prompt(body)
        if body.suffix:
            raise InvalidRequest("suffix: this model cannot fill in a gap; leave it out.", param="suffix")
        candidate = exchange.candidate
        model = candidate.model if candidate is not None and candidate.model is not None else body.model
        request = hub.ChatRequest(
            model=model,
            messages=[hub.Message(role="user", parts=[hub.Text(text=prompt)])],
            stream=body.stream is True,
            stop=[word for word in ([body.stop] if isinstance(body.stop, str) else body.stop or []) if word],
            family="openai.completions",
        )
        for name in _PLAIN:
            setattr(request, name, getattr(body, name))
        if body.logprobs is not None:
            request.logprobs, request.top_logprobs = True, body.logprobs or None
            request.names["top_logprobs"] = "logprobs"
        if body.echo:
            request.names[_ECHO] = prompt
        if (body.best_of or 1) > 1:
            request.dropped.append("best_of")
        for name in sorted(exchange.call.members.keys() - _KNOWN):
            start, end = exchange.call.members[name]
            if exchange.body[start:end] != b"null":
                request.dropped.append(name)
        return request

    def write_reply(self, reply: hub.ChatReply, exchange: Exchange) -> bytes:
        """Write a whole text completion."""
        document = _head(exchange, reply.id, reply.created, reply.model, reply.system_fingerprint)
        document["choices"] = [_render_choice(choice, i, exchange) for i, choice in enumerate(reply.choices)]
        if reply.usage is not None:
            document["usage"] = render_usage(reply.usage)
        return _encode(document)

    def open_writer(self, exchange: Exchange) -> _CompletionsWriter:
        """Begin a stream."""
        return _CompletionsWriter(exchange)


CLIENT_SIDE = _CompletionsClient()


def _read_prompt(body: _Body) -> str:
    prompt = body.prompt
    if isinstance(prompt, str):
        return prompt
    if prompt and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if not prompt:
        raise InvalidRequest("prompt: it is missing. Send a string.", param="prompt")
    if isinstance(prompt[0], str):
        raise InvalidRequest(
            "prompt: this model takes one prompt a request; send several requests.", param="prompt"
        )
    raise InvalidRequest("prompt: this model takes no tokens; send the text.", param="prompt")


def _echo(exchange: Exchange) -> str:
    request = exchange.hub_request
    return request.names.get(_ECHO, "") if isinstance(request, hub.ChatRequest) else ""


def _head(
    exchange: Exchange, reply_id: str, created: int, model: str, fingerprint: str | None
) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": reply_id or completion_id(exchange, "cmpl-"),
        "object": "text_completion",
        "created": created or int(time.time()),
        "model": model or upstream_model(exchange),
    }
    if fingerprint is not None:
        head["system_fingerprint"] = fingerprint
    return head


def _render_choice(choice: hub.Choice, index: int, exchange: Exchange) -> dict[str, Any]:
    echo = _echo(exchange)
    text = "".join([part.text for part in choice.parts if isinstance(part, hub.Text | hub.Refusal)])
    thought = "".join([part.text for part in choice.parts if isinstance(part, hub.Reasoning)])
    rendered: dict[str, Any] = {
        "text": echo + text,
        "index": index,
        "logprobs": _render_logprobs(choice.logprobs, len(echo))[0] if choice.logprobs else None,
        "finish_reason": _FINISH.get(choice.finish, choice.finish),
    }
    if choice.native_finish is not None:
        rendered["native_finish_reason"] = choice.native_finish
    if thought:
        rendered["reasoning_content"] = thought
    return rendered


def _render_logprobs(logprobs: dict[str, Any], offset: int) -> tuple[dict[str, Any], int]:
    """Give the lists of the older dialect, and the offset at which the next token begins."""
    tokens: list[str] = []
    chances: list[Any] = []
    tops: list[dict[str, Any]] = []
    offsets: list[int] = []
    for item in logprobs.get("content") or ():
        token = item.get("token", "") if isinstance(item, dict) else ""
        tokens.append(token)
        chances.append(item.get("logprob"))
        tops.append({top["token"]: top["logprob"] for top in item.get("top_logprobs") or ()})
        offsets.append(offset)
        offset += len(token)
    rendered = {"tokens": tokens, "token_logprobs": chances, "top_logprobs": tops, "text_offset": offsets}
    return rendered, offset


class _CompletionsWriter:
    """Writes the chunks of a text completion's stream; a `dialects.Writer`."""

    __slots__ = ("_begun", "_exchange", "_offsets", "_prefix", "_usage")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._prefix = b""
        self._begun: set[int] = set()
        self._offsets: dict[int, int] = {}
        self._usage: Usage | None = None

    def write(self, event: hub.Event) -> bytes:
        """Give the frames of one event."""
        if isinstance(event, hub.TextDelta | hub.RefusalDelta):
            return self._chunk(event.choice, {"text": event.text})
        if isinstance(event, hub.Started):
            return self._start(event)
        if isinstance(event, hub.ReasoningDelta):
            return self._chunk(event.choice, {"reasoning_content": event.text}) if event.text else b""
        if isinstance(event, hub.LogprobsAdded):
            offset = self._offsets.get(event.choice, len(_echo(self._exchange)))
            rendered, self._offsets[event.choice] = _render_logprobs(event.logprobs, offset)
            return self._chunk(event.choice, {"logprobs": rendered})
        if isinstance(event, hub.Finished):
            fields: dict[str, Any] = {"finish_reason": _FINISH.get(event.finish, event.finish)}
            if event.native is not None:
                fields["native_finish_reason"] = event.native
            return self._chunk(event.choice, fields)
        if isinstance(event, hub.UsageReported):
            self._usage = event.usage
        elif isinstance(event, hub.Pinged):
            return b": ping\n\n"
        elif isinstance(event, hub.Ended):
            return self._end()
        return b""

    def _start(self, event: hub.Started) -> bytes:
        head = _head(self._exchange, event.id, event.created, event.model, event.system_fingerprint)
        self._prefix = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._usage = event.usage
        return b""

    def _chunk(self, choice: int, fields: dict[str, Any]) -> bytes:
        before = b"" if self._prefix else self._start(hub.Started())
        if choice not in self._begun:
            self._begun.add(choice)
            if echo := _echo(self._exchange):
                before += self._chunk(choice, {"text": echo})
        chunk = {"text": "", "index": choice, "logprobs": None, "finish_reason": None, **fields}
        return before + self._prefix + _encode(chunk) + b"]}\n\n"

    def _end(self) -> bytes:
        call = self._exchange.call
        out = b"" if self._prefix else self._start(hub.Started())
        if self._usage is not None and isinstance(call, StreamCall) and call.include_usage:
            out += self._prefix + b'],"usage":' + _encode(render_usage(self._usage)) + b"}\n\n"
        return out + b"data: [DONE]\n\n"
