"""What clients speak: dialects, faces, and the calls read from request bodies.

A *dialect* is a wire format (`openai.chat`, `anthropic.messages`); a *face* binds one to a
path. Vendor packages define both and register the faces; the core knows only these shapes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import msgspec

from . import errors

if TYPE_CHECKING:
    from .exchange import Exchange, Reply

__all__ = [
    "ENVELOPE", "NO_CALL", "UNROUTED", "Call", "Dialect", "Doc", "Face", "Grant", "Query", "Stage",
    "read_nothing",
]  # fmt: skip


class Call(msgspec.Struct):
    """What the gateway itself needs of a request body, whatever the dialect.

    `members` maps each top-level field to its byte span in the body (`splice.scan`), so that a
    field can be changed without touching another byte; it is empty where the body is not a JSON
    object. Dialects subclass this Struct with the fields that they judge.
    """

    model: str | None = None
    stream: bool = False
    max_output_tokens: int | None = None
    members: dict[str, tuple[int, int]] = {}


class _NoCall(Call, frozen=True):  # type: ignore[misc]  # all exchanges share one; msgspec allows it
    pass


NO_CALL = _NoCall(members=cast("dict[str, tuple[int, int]]", MappingProxyType({})))
"""What an exchange holds until its body was read."""


class Stage(Protocol):
    """A synchronous transformer of reply bytes: see `hookspecs.open_stage`."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what may go on now (b"" holds everything back)."""

    def close(self) -> bytes:
        """The reply is complete; return what was held back."""


class Dialect(msgspec.Struct, frozen=True):
    """A wire format: how its errors are written, and how it is translated.

    `render_error(error, request_id)` is a whole body. `render_stream_error(error, request_id)` is a
    complete SSE frame for a stream that already began, or None where the dialect has no streams.
    `client_side` translates for clients that speak it, `provider_side` reads what vendors that speak
    it send; None where only bytes pass. `statuses` are HTTP statuses that its clients do not know, and
    what they get instead. `id_header` is one more header that carries the request's id. `is_free` is what
    no vendor bills: counting tokens.
    """

    name: str
    render_error: Callable[[errors.GatewayError, str], bytes]
    render_stream_error: Callable[[errors.GatewayError, str], bytes] | None = None
    client_side: Any = None  # ClientSide | None; the core's own modules would import each other
    provider_side: Any = None  # ProviderSide | None
    statuses: Mapping[int, int] = MappingProxyType({529: 503})
    id_header: str = ""
    is_free: bool = False


def _stream_envelope(error: errors.GatewayError, request_id: str) -> bytes:
    return b"data: " + errors.envelope(error, request_id) + b"\n\n"


ENVELOPE = Dialect("envelope", errors.envelope, _stream_envelope)
"""The plain envelope: for routes that belong to no vendor."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a route's query, for the documentation. `type` is what msgspec knows."""

    name: str
    type: Any = str
    summary: str = ""
    required: bool = False


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a login gives and later requests show: a cookie, or a header.

    With `for_changes` only what changes something takes it, beside what reading takes.
    """

    name: str  # in the documentation
    place: Literal["cookie", "header"]
    field: str
    summary: str
    for_changes: bool = False


class Doc(msgspec.Struct, frozen=True, kw_only=True):
    """What `/openapi.json` tells of a face.

    `request` is the type of the body. `reply` is the type of the answer, or a `Resource` for what it shows;
    `is_list` makes an array of it. `partial` says that no field of the body is required. `media` is the
    answer's type where that is not JSON; with `streams` it may be server-sent events as well. `grants` are
    what the caller gets by this face to be known by, in the place of a key.
    """

    summary: str
    tag: str
    request: Any = None
    reply: Any = None
    status: int = 200
    query: tuple[Query, ...] = ()
    is_list: bool = False
    partial: bool = False
    media: str = "application/json"
    description: str = ""
    streams: bool = False
    grants: tuple[Grant, ...] = ()


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a client can do: a path, its dialect, and the scope it takes.

    `path` may hold `{name}` segments, the last may be `{name:path}`. `methods` are upper case.
    `read_call(body)` judges a body and raises InvalidRequest with `param`. `endpoint` is the path
    under a provider's base URL. With `serve` the face answers by itself and never goes upstream;
    it runs through the same gates. `scope` is None only where any valid key will do, `role` is the least
    role of who manages the gateway, and `public` is for what needs no key at all (health, documentation).
    """

    name: str
    path: str
    methods: tuple[str, ...] = ("POST",)
    dialect: Dialect = ENVELOPE
    scope: str | None = None
    role: str | None = None
    endpoint: str = ""
    read_call: Callable[[bytes], Call]
    json_body: bool = True
    serve: Callable[[Exchange], Awaitable[Reply]] | None = None
    public: bool = False
    raw: bool = False  # the provider's own API: the request goes up byte for byte
    opaque: bool = False  # raw, and nobody knows what it does or costs: `raw.find_raw_face`
    needs_model: bool = True  # False: `choose_upstreams` hooks find the place (files, stored replies)
    streams_json: bool = False  # a stream may be one JSON document in pieces: it is not collected
    doc: Doc | None = None


def read_nothing(body: bytes) -> Call:
    """Read a body that the gateway need not understand."""
    del body
    return Call()


UNROUTED = Face(name="unrouted", path="", public=True, read_call=read_nothing)
"""What an exchange holds until its path was understood."""
