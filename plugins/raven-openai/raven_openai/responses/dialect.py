"""The Responses dialect, its faces, and how its errors are written.

A stream that fails ends with two events, as OpenAI's own do: `error`, and `response.failed` with the same
response id as a translated stream has. Both say it in the words of our envelope. An error does not
know how many events went before: `sequence_number` is the highest that a client can take for a whole
number of 32 bits, so that it still follows all others.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from raven_proxy.errors import GatewayError, envelope
from raven_proxy.exchange import Exchange
from raven_proxy.faces import Dialect, Doc, Face, read_nothing
from raven_proxy.hub import ChatReply, ChatRequest

from .calls import ResponseBody, read_call
from .objects import failed_response, write_reply
from .requests import DIALECT, read_request
from .vendor import SIDE
from .writer import ResponsesWriter

__all__ = ["COMPACT", "COUNT", "FACES", "ITEM", "RESPONSES", "find_raw_face", "read_id"]

_LAST = 2**31 - 1
_PATH = re.compile(r"(?:(?:openai|v\d+)/)*responses(?:/([^/]+)(?:/.*)?)?", re.IGNORECASE)


class _ClientSide:
    def read_request(self, exchange: Exchange) -> ChatRequest:
        return read_request(exchange)

    def write_reply(self, reply: ChatReply, exchange: Exchange) -> bytes:
        return write_reply(reply, exchange)

    def open_writer(self, exchange: Exchange) -> ResponsesWriter:
        return ResponsesWriter(exchange)


def render_stream_error(error: GatewayError, request_id: str) -> bytes:
    """Render an error as the last two events of a stream.

    `error` has OpenAI's documented members, and the object under "error" that OpenAI really sends:
    official clients raise on it.
    """
    said = msgspec.json.encode(
        {"code": error.code, "message": error.message, "param": error.param, "sequence_number": _LAST - 1}
    )
    inner = envelope(error, request_id)
    event = b'{"type":"error",' + said[1:-1] + b"," + inner[1:]
    failed = b'{"type":"response.failed","sequence_number":%d,"response":%b}' % (
        _LAST,
        failed_response(error, request_id),
    )
    return b"event: error\ndata: %b\n\nevent: response.failed\ndata: %b\n\n" % (event, failed)


RESPONSES = Dialect(DIALECT, envelope, render_stream_error, client_side=_ClientSide(), provider_side=SIDE)
ITEM = Dialect("openai.responses.item", envelope, render_stream_error)
"""Responses that a vendor has stored: nothing of them is translated."""
COMPACT = Dialect("openai.responses.compact", envelope)
"""A long conversation made short by its vendor, for the same model to go on with."""
COUNT = Dialect("openai.responses.input_tokens", envelope, is_free=True)
"""How many tokens a request would have."""


def _item_face(name: str, method: str, action: str = "") -> Face:
    endpoint = "responses/{response_id}" + action
    return Face(
        name=f"openai-responses-{name}",
        path=f"/v1/{endpoint}",
        methods=(method,),
        dialect=ITEM,
        scope="chat:write",
        endpoint=endpoint,
        read_call=read_nothing,
        json_body=False,
        needs_model=False,
    )


def _face(name: str, endpoint: str, dialect: Dialect, summary: str, *, streams: bool = False) -> Face:
    return Face(
        name=name,
        path=f"/v1/{endpoint}",
        dialect=dialect,
        scope="chat:write",
        endpoint=endpoint,
        read_call=read_call,
        doc=Doc(summary=summary, tag="proxy", request=ResponseBody, streams=streams),
    )


_NEW = {
    None: _face(
        "openai-responses", "responses", RESPONSES, "OpenAI Responses, whole or streamed", streams=True
    ),
    "compact": _face(
        "openai-responses-compact", "responses/compact", COMPACT, "Make a long conversation short"
    ),
    "input_tokens": _face(
        "openai-responses-input-tokens", "responses/input_tokens", COUNT, "Count the tokens of a request"
    ),
}

FACES = (
    *_NEW.values(),
    _item_face("retrieve", "GET"),
    _item_face("delete", "DELETE"),
    _item_face("cancel", "POST", "/cancel"),
    _item_face("input-items", "GET", "/input_items"),
)


def read_id(endpoint: str) -> str:
    """Find the response's id in a path under a vendor's base URL; "" if there is none."""
    match = _PATH.fullmatch(unquote(endpoint).strip("/"))
    return match[1] or "" if match is not None else ""


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own endpoint for responses, in any way of writing it; None for others.

    Whatever stands behind an id is judged by its owner, also what is not known here.
    """
    match = _PATH.fullmatch(unquote(endpoint).strip("/"))
    if match is None:
        return None
    if method.upper() == "POST" and match[1] in _NEW:
        face = _NEW[match[1]]
    elif match[1] is not None:
        face = _item_face("stored", method.upper())
    else:
        return None
    return msgspec.structs.replace(face, name=f"{face.name}-raw", path="", endpoint=endpoint, raw=True)
