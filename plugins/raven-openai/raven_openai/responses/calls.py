"""What the gateway judges of a Responses request, strictly and in one narrow decode.

Only the named fields are looked at; all others pass unjudged and untouched, so that whatever a newer
client sends (Codex: namespaces, `client_metadata`, custom tools) reaches a vendor that has this API.

Shapes: OpenAI's API reference, responses/create.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Call

__all__ = ["ResponseBody", "ResponseCall", "decode", "read_call"]

T = TypeVar("T")
_Model = Annotated[str, Meta(min_length=1, max_length=512)]
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]
_Id = Annotated[str, Meta(min_length=1, max_length=512)]
_MISSING = re.compile(r"missing required field `(\w+)`")
_INDEX = re.compile(r"\[\d+\]")
_REMEDIES = {
    "model": 'Name a model, for example "gpt-5-mini", as a string of 1 to 512 characters.',
    "input": "Send a string, or an array of input items.",
    "input[]": 'Each input item is an object, for example {"role": "user", "content": "Hello"}.',
    "stream": "Send true or false.",
    "background": "Send true or false.",
    "store": "Send true or false.",
    "max_output_tokens": "Send a whole number, zero or more.",
    "previous_response_id": "Send the id of a response, or leave it out.",
    "stream_options": "Send an object, or leave it out.",
    "tools": "Send an array of tools.",
    "tools[]": "Each tool is an object with a type.",
}


class ResponseCall(Call):
    """A call for a response. `previous_response_id` continues one that an upstream has stored.

    `stores` is False where the client says that the vendor is to forget this one.
    """

    previous_response_id: str | None = None
    stores: bool = True


class AnyObject(msgspec.Struct, gc=False):
    """An object of any fields."""


class ResponseBody(msgspec.Struct, gc=False):
    """What is judged of a request for a response; every other field goes to the vendor as it is."""

    model: _Model
    input: str | list[AnyObject] | None = None
    stream: bool | None = None
    max_output_tokens: _Tokens | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: _Id | None = None
    stream_options: AnyObject | None = None
    tools: list[AnyObject] | None = None


_decode_create = msgspec.json.Decoder(ResponseBody).decode


def read_call(body: bytes) -> ResponseCall:
    """Judge a request for a response. Raises InvalidRequest with `param`."""
    members = splice.scan(body)
    create = decode(_decode_create, body)
    if not create.model.isprintable():  # it goes into a reply header and the logs
        raise InvalidRequest("model: the name holds a control character; remove it.", param="model")
    return ResponseCall(
        create.model,
        create.stream is True,
        create.max_output_tokens,
        members,
        create.previous_response_id,
        create.store is not False or create.background is True,
    )


def decode(read: Callable[[Any], T], body: bytes) -> T:
    """Decode with msgspec. Raises InvalidRequest that names the field as the client would write it."""
    try:
        return read(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise _explain(error) from None


def _explain(error: Exception) -> InvalidRequest:
    what, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".")
    missing = _MISSING.search(what)
    if missing is not None:
        param = f"{param}.{missing[1]}" if param else missing[1]
        what = "it is missing"
    if not param:
        return InvalidRequest(f"The body cannot be read: {what[:200]}.")
    remedy = _REMEDIES.get(_INDEX.sub("[]", param), "Correct it or leave it out.")
    return InvalidRequest(f"{param}: {what[:1].lower()}{what[1:200].rstrip('.')}. {remedy}", param=param)
