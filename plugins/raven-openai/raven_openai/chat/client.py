"""The client's half of `openai.chat`."""

from __future__ import annotations

from raven_proxy import hub
from raven_proxy.exchange import Exchange

from .replies import write_chat_reply
from .requests import read_chat_request
from .writer import ChatWriter

__all__ = ["CLIENT_SIDE"]


class _ChatClient:
    def read_request(self, exchange: Exchange) -> hub.ChatRequest:
        return read_chat_request(exchange)

    def write_reply(self, reply: hub.ChatReply, exchange: Exchange) -> bytes:
        return write_chat_reply(reply, exchange)

    def open_writer(self, exchange: Exchange) -> ChatWriter:
        return ChatWriter(exchange)


CLIENT_SIDE = _ChatClient()
