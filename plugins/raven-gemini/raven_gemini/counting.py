"""Counting a prompt's tokens (`:countTokens`) for clients that ask for nothing else. It costs nothing.

Source: ai.google.dev, `models.countTokens`; AI Studio takes the request as a member, Vertex AI as it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import GatewayError, UpstreamTruncated
from raven_proxy.exchange import Exchange, Usage

from .places import full_name

__all__ = ["COUNTING", "CountStage", "write_count"]

COUNTING = "anthropic.count_tokens"
"""The one dialect whose requests only count."""

# What the answer would be like is not counted; and Vertex AI refuses it.
_OF_THE_ANSWER = ("toolConfig", "labels")


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: int = 0


def write_count(body: dict[str, Any], model: str, *, is_vertex: bool) -> dict[str, Any]:
    """Make the body of `:countTokens` from that of `:generateContent`."""
    kept = {name: value for name, value in body.items() if name not in _OF_THE_ANSWER}
    if is_vertex:
        return kept
    return {"generateContentRequest": {"model": full_name(model), **kept}}


class CountStage:
    """Makes the client's count of Google's. Not metered: a count is no usage."""

    __slots__ = ("_exchange", "_parts")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Keep the next bytes."""
        self._parts.append(data)
        return b""

    def close(self) -> bytes:
        """Write the count. Raises UpstreamTruncated for anything else."""
        try:
            count = msgspec.json.decode(b"".join(self._parts), type=_Count).total_tokens
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise UpstreamTruncated("The provider's reply cannot be read.") from None
        side = self._exchange.face.dialect.client_side
        if side is None:
            raise GatewayError("A count was asked for in a dialect that has none.")
        usage = Usage(prompt_tokens=count, total_tokens=count)
        written: bytes = side.write_reply(hub.ChatReply(usage=usage), self._exchange)
        return written
