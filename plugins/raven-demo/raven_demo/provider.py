"""The demo as a provider: it has an address that is never connected to, and needs no key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raven_proxy import (
    Call,
    Exchange,
    Face,
    InvalidRequest,
    ModelInfo,
    Outgoing,
    ReplyHead,
    Stage,
    UpstreamError,
    Usage,
    UsageTap,
)
from raven_proxy.errors import UpstreamRefused
from raven_proxy.metering import EventTap, WholeTap
from raven_proxy.splice import scan

from .answer import decode
from .models import MODELS
from .tap import DemoTap

__all__ = ["NAME", "DemoProvider"]

NAME = "demo"


class _Judged(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


def _read_call(body: bytes) -> Call:
    members = scan(body)
    judged = decode(body, _Judged)
    if not judged.model or not judged.model.isprintable():  # it goes into a reply header
        raise InvalidRequest("Name a model.", param="model")
    limit = judged.max_completion_tokens or judged.max_tokens
    return Call(judged.model, judged.stream is True, limit, members)


_FACES = {
    endpoint: Face(
        name=f"demo-{endpoint.partition('/')[0]}",
        path="",
        scope=scope,
        endpoint=endpoint,
        read_call=_read_call,
        raw=True,
    )
    for endpoint, scope in (
        ("chat/completions", "chat:write"),
        ("completions", "chat:write"),
        ("embeddings", "embeddings:write"),
    )
}


class DemoProvider:
    """Known to the gateway like any vendor; `Demo.answer` speaks before anything would be sent."""

    name = NAME

    def base_url(self, preset: str) -> str | None:
        """Give an address that cannot exist (RFC 6761 section 6.4)."""
        del preset
        return "http://demo.invalid/v1"

    def needs_key(self, preset: str) -> bool:
        """Need no key."""
        del preset
        return False

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List the names that work without `demo/` before them; with it, any name does."""
        del preset
        return MODELS

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Judge `/v1/demo/chat/completions` and its like as OpenAI's."""
        return _FACES.get(endpoint.strip("/")) if method.upper() == "POST" else None

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Refuse: there is nothing to send to."""
        del exchange
        raise UpstreamError("The demo provider answers as the first choice only; it cannot be a fallback.")

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Give up."""
        del exchange, head, body
        return None

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Name an error that cannot come."""
        del exchange, body
        return UpstreamRefused("The demo provider failed.", retryable=False, status=head.status)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Pass the bytes untouched."""
        del exchange, head
        return None

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Count the tokens of a reply to a question; a list of models costs nothing."""
        if exchange.model is None:
            return None
        asked = exchange.notes.get(NAME)  # absent where another plugin (a cache) gave the reply
        side = exchange.face.dialect.provider_side
        if asked is None and side is not None:  # it was written by the client's own dialect
            return (
                EventTap(exchange, side.open_reader())
                if exchange.stream
                else WholeTap(exchange, side.read_reply)
            )
        is_stream = head.headers.get("content-type", "").startswith("text/event-stream")
        return DemoTap(asked.prompt_tokens if isinstance(asked, Usage) else 0, is_stream=is_stream)
