"""Anthropic's half of a translation for clients: Messages, and the counting of tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.dialects import Writer
from raven_proxy.exchange import Exchange
from raven_proxy.hub import ChatRequest

from .client_replies import write_reply
from .client_requests import read_request
from .client_streams import StreamWriter

__all__ = ["CountSide", "MessagesSide"]


class MessagesSide:
    """Messages, for clients that speak it."""

    def read_request(self, exchange: Exchange) -> ChatRequest:
        """Read a request. Raises InvalidRequest with `param`."""
        return read_request(exchange)

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        """Write a whole message."""
        return write_reply(reply, exchange)

    def open_writer(self, exchange: Exchange) -> Writer:
        """Begin a stream."""
        return StreamWriter(exchange)


class CountSide:
    """`count_tokens`: a vendor that counts gives a reply whose usage has the prompt's tokens."""

    def read_request(self, exchange: Exchange) -> ChatRequest:
        """Read a request; it is one for a message, without a bound for the answer."""
        return read_request(exchange)

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        """Write the count."""
        del exchange
        return msgspec.json.encode({"input_tokens": reply.usage.prompt_tokens})

    def open_writer(self, exchange: Exchange) -> Writer:
        """Give what is never written: counts are not streamed."""
        return StreamWriter(exchange)
