"""What the gateway judges of a request in Ollama's own dialect; all other fields pass unjudged.

Ollama streams unless it is told not to. Source: Ollama's API documentation.
"""

from __future__ import annotations

import msgspec

from raven_proxy import splice
from raven_proxy.faces import Call
from raven_proxy.judging import ModelName, check_model, judge

__all__ = ["read_chat", "read_embed"]

_REMEDIES = {
    "model": 'Name a model, for example "llama3.2", as a string of 1 to 512 characters.',
    "stream": "Send true or false.",
    "options": "Send an object, or leave it out.",
    "options.num_predict": "Send a whole number.",
}


class _Options(msgspec.Struct, gc=False):
    num_predict: int | None = None


class _Chat(msgspec.Struct, gc=False):
    model: ModelName
    stream: bool | None = None
    options: _Options | None = None


class _Embed(msgspec.Struct, gc=False):
    model: ModelName


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_embed = msgspec.json.Decoder(_Embed).decode


def read_chat(body: bytes) -> Call:
    """Judge a request to `/api/chat` or `/api/generate`. Raises InvalidRequest."""
    members = splice.scan(body)
    chat = judge(_decode_chat, body, _REMEDIES)
    limit = chat.options.num_predict if chat.options is not None else None
    is_bound = limit is not None and 0 <= limit <= 2**53  # -1 is no bound, -2 fills the context
    return Call(check_model(chat.model), chat.stream is not False, limit if is_bound else None, members)


def read_embed(body: bytes) -> Call:
    """Judge a request to `/api/embed`. Raises InvalidRequest."""
    members = splice.scan(body)
    return Call(check_model(judge(_decode_embed, body, _REMEDIES).model), members=members)
