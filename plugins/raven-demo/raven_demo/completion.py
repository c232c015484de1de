"""The demo's legacy text completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from . import speech
from .answer import Answer, Json, decode, describe, header

__all__ = ["answer"]

Prompt = str | list[str | int | list[int]]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    prompt: Prompt | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    echo: bool | None = None


class _Choice(msgspec.Struct):
    index: int
    pieces: list[str]
    finish: str


def answer(body: bytes, model: str) -> Answer:
    """Continue each prompt `n` times. Raises InvalidRequest."""
    request = decode(body, _Request)
    prompts = texts_of(request.prompt or "")
    choices = [
        _choose(request, prompt, index, variant)
        for index, (prompt, variant) in enumerate((p, v) for p in prompts for v in range(request.n or 1))
    ]
    asked, said = sum(map(speech.count, prompts)), sum(len(choice.pieces) for choice in choices)
    top = header("cmpl", "text_completion", model, body)
    usage = describe(asked, said)
    shown = [_show(choice.index, "".join(choice.pieces), choice.finish) for choice in choices]
    chunks = None
    if request.stream:
        options = request.stream_options
        with_usage = options is not None and options.include_usage is True
        chunks = _stream(top, choices, usage if with_usage else None)
    return Answer({**top, "choices": shown, "usage": usage}, asked, said, chunks)


def texts_of(value: Prompt) -> list[str]:
    """Give the texts of a `prompt` or `input`: a text, texts, token numbers, or lists of those.

    A token number stands for itself, as a word.
    """
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(item, int) for item in value):
        return [" ".join(map(str, value))]
    return [" ".join(map(str, item)) if isinstance(item, list) else str(item) for item in value]


def _choose(request: _Request, prompt: str, index: int, variant: int) -> _Choice:
    pieces = speech.split(speech.stop_at(speech.say(prompt, variant), request.stop))
    limit = len(pieces) if request.max_tokens is None else request.max_tokens
    finish = "length" if len(pieces) > limit else "stop"
    echo = speech.split(prompt) if request.echo else []
    return _Choice(index, echo + pieces[:limit], finish)


def _show(index: int, text: str, finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _stream(top: Json, choices: list[_Choice], usage: Json | None) -> Iterator[Json]:
    pending = {"usage": None} if usage else {}
    for choice in choices:
        for piece in choice.pieces:
            yield {**top, "choices": [_show(choice.index, piece, None)], **pending}
        yield {**top, "choices": [_show(choice.index, "", choice.finish)], **pending}
    if usage:
        yield {**top, "choices": [], "usage": usage}
