"""Anthropic's dialects, and the faces that let clients speak them."""

from __future__ import annotations

import re
from types import MappingProxyType

import msgspec

from raven_proxy.faces import Dialect, Doc, Face, read_nothing

from .calls import CountBody, MessagesBody, read_count, read_messages
from .client_side import CountSide, MessagesSide
from .content import FAMILY
from .errors import render_error, render_stream_error
from .provider_side import PROVIDER_SIDE

__all__ = ["COUNT_TOKENS", "FACES", "MESSAGES", "find_raw_face"]

_STATUSES: MappingProxyType[int, int] = MappingProxyType({})  # clients know all of them, 529 too

MESSAGES = Dialect(
    FAMILY,
    render_error,
    render_stream_error,
    client_side=MessagesSide(),
    provider_side=PROVIDER_SIDE,
    statuses=_STATUSES,
    id_header="request-id",
)
COUNT_TOKENS = Dialect(
    "anthropic.count_tokens",
    render_error,
    client_side=CountSide(),
    statuses=_STATUSES,
    id_header="request-id",
    is_free=True,
)
_OTHER = Dialect("anthropic.other", render_error, statuses=_STATUSES, id_header="request-id")

FACES = (
    Face(
        name="anthropic-messages",
        path="/v1/messages",
        dialect=MESSAGES,
        scope="chat:write",
        endpoint="messages",
        read_call=read_messages,
        doc=Doc(
            summary="Anthropic Messages, whole or streamed", tag="proxy", request=MessagesBody, streams=True
        ),
    ),
    Face(
        name="anthropic-count-tokens",
        path="/v1/messages/count_tokens",
        dialect=COUNT_TOKENS,
        scope="chat:write",
        endpoint="messages/count_tokens",
        read_call=read_count,
        doc=Doc(summary="Count the tokens of a request", tag="proxy", request=CountBody),
    ),
)

_ADMINISTRATION = re.compile(r"(?:v1/)*organizations?(?:/.*)?", re.IGNORECASE)
_RAW = {
    face.endpoint: msgspec.structs.replace(face, name=f"{face.name}-raw", path="", raw=True) for face in FACES
}


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own endpoint: judged by the same rules, sent byte for byte.

    With and without `v1/`, as clients put it behind a base URL. None for what is not known here.
    """
    endpoint = endpoint.strip("/").removeprefix("v1/")
    if _ADMINISTRATION.fullmatch(endpoint):  # of the account at the vendor, whatever the method
        return Face(
            name="anthropic-administration-raw", path="", dialect=_OTHER, scope="admin:write",
            endpoint=endpoint, read_call=read_nothing, json_body=False, raw=True, needs_model=False,
        )  # fmt: skip
    return _RAW.get(endpoint) if method.upper() == "POST" else None
