"""What the gateway judges of a Messages request, strictly and in one narrow decode.

Only the named fields are looked at; all others pass unjudged and untouched. Whatever the bytes are, a
reader returns a call or raises InvalidRequest with `param` as the client would write it.

Shape: Anthropic's API reference, messages/create and messages/count_tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Call

__all__ = ["CountBody", "MessagesBody", "explain", "read_count", "read_messages"]

T = TypeVar("T")
_Model = Annotated[str, Meta(min_length=1, max_length=512)]
_MISSING = re.compile(r"missing required field `(\w+)`")
_INDEX = re.compile(r"\[\d+\]")
_REMEDIES = {
    "model": 'Name a model, for example "claude-sonnet-4-5", as a string of 1 to 512 characters.',
    "messages": "Send an array of message objects.",
    "messages[]": "Each message is an object with a role and content.",
    "messages[].role": "Use one of user, assistant or system.",
    "messages[].content": "Send a string, or an array of content blocks.",
    "max_tokens": "Say how many tokens the answer may have at most: a whole number, one or more.",
    "stream": "Send true or false.",
}


class MessageParam(msgspec.Struct, gc=False):
    """One message; content blocks pass unjudged."""

    role: Literal["user", "assistant", "system"]
    content: str | list[msgspec.Raw]


_Messages = Annotated[list[MessageParam], Meta(min_length=1, max_length=100_000)]  # Anthropic's own limit


class MessagesBody(msgspec.Struct, gc=False):
    """What is judged of a request for a message; every other field goes to the vendor as it is."""

    model: _Model
    messages: _Messages
    max_tokens: Annotated[int, Meta(ge=0, le=2**53)]
    stream: bool | None = None


class CountBody(msgspec.Struct, gc=False):
    """What is judged of a request to count tokens; every other field goes to the vendor as it is."""

    model: _Model
    messages: _Messages


_decode_request = msgspec.json.Decoder(MessagesBody).decode
_decode_count = msgspec.json.Decoder(CountBody).decode


def read_messages(body: bytes) -> Call:
    """Judge a request for a message. Raises InvalidRequest."""
    members = splice.scan(body)
    request = _decode(_decode_request, body)
    return Call(_check_model(request.model), request.stream is True, request.max_tokens, members)


def read_count(body: bytes) -> Call:
    """Judge a request to count tokens. Raises InvalidRequest."""
    members = splice.scan(body)
    return Call(_check_model(_decode(_decode_count, body).model), False, None, members)


def _check_model(model: str) -> str:
    # The name goes into a reply header and the logs.
    if not model.isprintable():
        raise InvalidRequest("model: the name holds a control character; remove it.", param="model")
    return model


def _decode(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise explain(error) from None


def explain(error: Exception, place: str = "") -> InvalidRequest:
    """Say what is wrong, where (below `place`), and what would be right."""
    what, _, path = str(error).partition(" - at `$")
    param = place + path.rstrip("`")
    param = param.lstrip(".")
    missing = _MISSING.search(what)
    if missing is not None:
        param = f"{param}.{missing[1]}" if param else missing[1]
        what = "it is missing"
    if not param:
        return InvalidRequest(f"The body cannot be read: {what[:200]}.")
    remedy = _REMEDIES.get(_INDEX.sub("[]", param), "Correct it or leave it out.")
    return InvalidRequest(f"{param}: {what[:1].lower()}{what[1:200].rstrip('.')}. {remedy}", param=param)
