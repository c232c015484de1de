"""The plugin `demo`: a provider that needs no key and no network.

With it an upstream named "demo" exists without any config, so that a newcomer sees everything else
work: keys, limits, streaming, tools, structured output, metering. What it says is made up here, is
the same for the same request, and is never sent anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raven_proxy import Exchange, NotFound, Reply, Usage, hookimpl

from . import bridge, chat, completion, embedding, models
from .answer import Answer
from .provider import NAME, DemoProvider

__all__ = ["Demo"]

_MAX_STREAM_S = 4.0  # a long reply comes faster, it does not take longer
_ENDPOINTS: dict[str, Callable[[bytes, str], Answer]] = {
    "chat/completions": chat.answer,
    "completions": completion.answer,
    "embeddings": embedding.answer,
}


class Demo:
    """Answers what is addressed to the demo provider, in the client's dialect."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.demo]`. `delay_s` is the pause between two pieces of a stream, in seconds."""

        delay_s: Annotated[float, Meta(ge=0, le=10)] = 0.02

    def __init__(self, config: Config) -> None:
        self._delay_s = config.delay_s

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer the provider "demo", and the upstream of that name."""
        register(DemoProvider(), implicit=True)

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply | None:
        """Answer if the demo provider is the first choice for this request."""
        if not exchange.candidates or exchange.candidates[0].upstream.preset != NAME:
            return None
        method = exchange.request.method
        endpoint = (exchange.face.endpoint or exchange.params.get("endpoint", "")).strip("/")
        if method == "POST" and endpoint in _ENDPOINTS:
            return self._reply(exchange, _ENDPOINTS[endpoint](exchange.body, exchange.model or ""))
        if method == "POST" and not exchange.face.raw and exchange.face.dialect.client_side is not None:
            return bridge.answer(exchange, self._delay_s)
        found = models.find(endpoint) if method in {"GET", "HEAD"} else None
        if found is None:
            raise NotFound(f"The demo provider has nothing at {method} {endpoint or exchange.face.path}.")
        return _whole(found)

    def _reply(self, exchange: Exchange, answer: Answer) -> Reply:
        # The usage tap reads this: a stream's own bytes need not say how long the prompt was.
        exchange.notes[NAME] = Usage(prompt_tokens=answer.prompt_tokens)
        if answer.chunks is None:
            return _whole(answer.whole)
        pause_s = min(self._delay_s, _MAX_STREAM_S / max(1, answer.completion_tokens))
        return Reply(200, {"Content-Type": "text/event-stream"}, _frames(answer, pause_s))


def _whole(value: object) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, msgspec.json.encode(value))


async def _frames(answer: Answer, pause_s: float) -> AsyncIterator[bytes]:
    chunks: Any = answer.chunks
    for chunk in chunks:
        yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
        await asyncio.sleep(pause_s)
    yield b"data: [DONE]\n\n"
