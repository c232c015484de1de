"""What the gateway judges of a request body, strictly and in one narrow decode.

Only the named fields are looked at; all others pass unjudged and untouched. Whatever the bytes are,
a reader returns a call or raises InvalidRequest with `param` as the client would write it.

Shapes: OpenAI's API reference, chat/create, completions/create, embeddings/create.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.faces import Call
from raven_proxy.judging import Limit, ModelName, check_model, judge

__all__ = [
    "REMEDIES", "ChatBody", "CompletionBody", "EmbeddingsBody", "EmbeddingsCall", "StreamCall", "read_chat",
    "read_completion", "read_embeddings",
]  # fmt: skip

_Choices = Annotated[int, Meta(ge=1, le=2**53)]
_Text = Annotated[str, Meta(min_length=1)]
_Inputs = Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=2048)]
_ROLES = "system, developer, user, assistant, tool or function"
REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "model": 'Name a model, for example "gpt-4o-mini", as a string of 1 to 512 characters.',
        "messages": "Send an array of 1 to 2048 message objects.",
        "messages[]": "Each message is an object with a role and content.",
        "messages[].role": f"Use one of {_ROLES}.",
        "messages[].content": "Send a string, an array of content parts, or null.",
        "prompt": "Send a string, or an array of strings or tokens.",
        "input": "Send a non-empty string, or an array of 1 to 2048 strings or token arrays.",
        "stream": "Send true or false.",
        "stream_options": 'Send an object such as {"include_usage": true}, or leave it out.',
        "stream_options.include_usage": "Send true or false.",
        "max_tokens": "Send a whole number, zero or more.",
        "max_completion_tokens": "Send a whole number, zero or more.",
        "n": "Send a whole number, one or more.",
    }
)


class StreamCall(Call):
    """A call that may be streamed. `include_usage` is whether the client asked for the usage chunk;
    `choices` is how many answers it asked for (`n`).
    """

    include_usage: bool = False
    choices: int = 1


class EmbeddingsCall(Call):
    """A call for vectors. `wants_base64`: little-endian float32, as official clients ask by default."""

    wants_base64: bool = False


class StreamOptions(msgspec.Struct, gc=False):
    """What a stream is to have besides."""

    include_usage: bool | None = None


class ChatMessage(msgspec.Struct, gc=False):
    """One message; parts of other kinds than text pass unjudged."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[msgspec.Raw] | None = None


class ChatBody(msgspec.Struct, gc=False):
    """What is judged of a chat completion; every other field goes to the vendor as it is."""

    model: ModelName
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=2048)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    n: _Choices | None = None


class CompletionBody(msgspec.Struct, gc=False):
    """What is judged of a text completion; every other field goes to the vendor as it is."""

    model: ModelName
    prompt: str | list[msgspec.Raw] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Limit | None = None
    n: _Choices | None = None


class EmbeddingsBody(msgspec.Struct, gc=False):
    """What is judged of a request for vectors; every other field goes to the vendor as it is."""

    model: ModelName
    input: (
        Annotated[str, Meta(min_length=1)] | Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=2048)]
    )
    encoding_format: Any = None


_decode_chat = msgspec.json.Decoder(ChatBody).decode
_decode_completion = msgspec.json.Decoder(CompletionBody).decode
_decode_embeddings = msgspec.json.Decoder(EmbeddingsBody).decode


def read_chat(body: bytes) -> StreamCall:
    """Judge a chat completion request. Raises InvalidRequest."""
    members = splice.scan(body)
    chat = judge(_decode_chat, body, REMEDIES)
    limit = chat.max_completion_tokens
    if chat.max_tokens is not None and (limit is None or chat.max_tokens > limit):
        limit = chat.max_tokens
    return _make_call(chat, limit, members)


def read_completion(body: bytes) -> StreamCall:
    """Judge a text completion request. Raises InvalidRequest."""
    members = splice.scan(body)
    completion = judge(_decode_completion, body, REMEDIES)
    return _make_call(completion, completion.max_tokens, members)


def read_embeddings(body: bytes) -> EmbeddingsCall:
    """Judge an embeddings request. Raises InvalidRequest."""
    members = splice.scan(body)
    fields = judge(_decode_embeddings, body, REMEDIES)
    return EmbeddingsCall(check_model(fields.model), False, None, members, fields.encoding_format == "base64")


def _make_call(fields: ChatBody | CompletionBody, limit: int | None, members: splice.Spans) -> StreamCall:
    options = fields.stream_options
    return StreamCall(
        check_model(fields.model),
        fields.stream is True,
        limit,
        members,
        options is not None and options.include_usage is True,
        fields.n or 1,
    )
