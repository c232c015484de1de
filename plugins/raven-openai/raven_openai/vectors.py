"""Embeddings through the hub, and vectors in the encoding that the client asked for.

Official clients ask for base64 (little-endian float32) by default, and openai-node takes whatever comes
for it: so a vendor that answers floats is put right, and one that answers base64 unasked too.
Shapes: OpenAI's API reference, embeddings/create.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from array import array
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest, UpstreamError
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.judging import judge
from raven_proxy.providers import estimate_prompt
from raven_proxy.refusals import describe, refuse_event, scrub

from .calls import REMEDIES
from .chat.replies import upstream_model
from .presets import Preset
from .usage import read_usage

__all__ = ["CLIENT_SIDE", "PROVIDER_SIDE", "VENDOR", "Recoding", "pack", "unpack"]


class _Body(msgspec.Struct):
    model: str
    input: str | list[Any]
    dimensions: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    encoding_format: str | None = None
    user: str | None = None
    input_type: str | None = None


_decode = msgspec.json.Decoder(_Body).decode
_KNOWN = frozenset(_Body.__struct_fields__)


def pack(vector: list[float]) -> str:
    """Give a vector as base64 of little-endian float32."""
    try:
        floats = array("f", vector)
    except OverflowError as error:
        raise ValueError("a number is no float32") from error
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


def unpack(text: str, code: str = "f") -> list[float]:
    """Read base64 of little-endian float32, or of int8 with the `code` "b". Raises ValueError."""
    try:
        values = array(code, base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    if sys.byteorder == "big":
        values.byteswap()
    return [float(value) for value in values]


# -- clients ---------------------------------------------------------------------------


class _EmbeddingsClient:
    """The client's half of `openai.embeddings`."""

    def read_request(self, exchange: Exchange) -> hub.EmbeddingsRequest:
        """Read `exchange.body`. Raises InvalidRequest."""
        body = judge(_decode, exchange.body, REMEDIES)
        if body.encoding_format not in (None, "float", "base64"):
            raise InvalidRequest('encoding_format: send "float" or "base64".', param="encoding_format")
        candidate = exchange.candidate
        request = hub.EmbeddingsRequest(
            model=candidate.model if candidate is not None and candidate.model is not None else body.model,
            dimensions=body.dimensions,
            encoding=body.encoding_format or "float",
            purpose=body.input_type,
            user=body.user,
        )
        _read_input(body.input, request)
        for name in sorted(exchange.call.members.keys() - _KNOWN):
            start, end = exchange.call.members[name]
            if (value := exchange.body[start:end]) != b"null":
                request.extra[name] = msgspec.json.decode(value)
                request.dropped.append(name)
        return request

    def write_reply(self, reply: hub.EmbeddingsReply, exchange: Exchange) -> bytes:
        """Write a list of embeddings in the encoding that was asked for."""
        asked = exchange.hub_request
        is_packed = isinstance(asked, hub.EmbeddingsRequest) and asked.encoding == "base64"
        usage = reply.usage or Usage(prompt_tokens=estimate_prompt(exchange.body))
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": i,
                        "embedding": pack(vector) if is_packed else vector,
                    }
                    for i, vector in enumerate(reply.vectors)
                ],
                "model": reply.model or upstream_model(exchange),
                "usage": {
                    "prompt_tokens": usage.prompt_tokens,
                    "total_tokens": usage.total_tokens or usage.prompt_tokens,
                },
            }
        )

    def open_writer(self, exchange: Exchange) -> Any:
        """Refuse: vectors are never streamed."""
        del exchange
        raise InvalidRequest("stream: embeddings are not streamed.", param="stream")


CLIENT_SIDE = _EmbeddingsClient()


def _read_input(given: str | list[Any], request: hub.EmbeddingsRequest) -> None:
    items: list[Any] = [given] if isinstance(given, str) else given
    if items and all(isinstance(item, str) for item in items):
        request.texts = items
    elif items and all(type(item) is int for item in items):
        request.tokens = [items]
    elif items and all(isinstance(item, list) and all(type(n) is int for n in item) for item in items):
        request.tokens = items
    else:
        wrong = next((i for i, item in enumerate(items) if not isinstance(item, str)), 0)
        raise InvalidRequest(f"input[{wrong}]: {REMEDIES['input']}", param=f"input[{wrong}]")


# -- vendors ---------------------------------------------------------------------------


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Reply(msgspec.Struct):
    data: list[_Item] = []
    model: Any = None
    usage: Any = None
    error: Any = None


_decode_reply = msgspec.json.Decoder(_Reply).decode


class _EmbeddingsSide:
    """The vendor's half of `openai.embeddings`."""

    def __init__(self, preset: Preset, exchange: Exchange | None = None) -> None:
        self._preset = preset
        self._exchange = exchange

    def read_reply(self, body: bytes) -> hub.EmbeddingsReply:
        """Read a list of embeddings. Raises GatewayError for an error under a status of 200."""
        reply = _decode_reply(body)
        exchange = self._exchange
        if reply.error:
            said = describe({"error": reply.error})
            if exchange is None:
                raise UpstreamError(scrub(said.message))
            raise refuse_event(exchange, hub.Failed(message=said.message, type=said.type, code=said.code))
        code = "b" if self._preset.vectors == "int8" else "f"
        items = sorted(reply.data, key=lambda item: item.index)
        table = reply.usage if isinstance(reply.usage, dict) else {}
        return hub.EmbeddingsReply(
            model=reply.model if isinstance(reply.model, str) else "",
            vectors=[
                unpack(item.embedding, code) if isinstance(item.embedding, str) else item.embedding
                for item in items
            ],
            usage=read_usage(
                {"completion_tokens": 0, **table},
                lambda: estimate_prompt(exchange.body) if exchange is not None else 0,
                lambda: 0,
            ),
        )

    def open_reader(self) -> Any:
        """Refuse: vectors are never streamed."""
        raise ValueError("embeddings are not streamed")


class _EmbeddingsVendor:
    """How embeddings of another dialect are asked of vendors of this family."""

    endpoint = "embeddings"

    def write_request(self, request: hub.EmbeddingsRequest, exchange: Exchange, preset: Preset) -> bytes:
        """Write the vendor's body."""
        del exchange
        given: list[Any] = [*request.texts, *request.tokens]
        body: dict[str, Any] = {"model": request.model, "input": given}
        if request.dimensions is not None:
            body[preset.renames.get("dimensions", "dimensions")] = request.dimensions
        if preset.vectors != "int8":
            body["encoding_format"] = "float"
        if request.purpose is not None:
            if preset.takes_purpose:
                body["input_type"] = request.purpose
            else:
                request.drop("input_type")
        if request.user is not None:
            if "user" in preset.unsupported:
                request.drop("user")
            else:
                body["user"] = request.user
        for name in sorted(preset.unsupported & body.keys()):
            del body[name]
        return msgspec.json.encode(body)

    def provider_side(self, exchange: Exchange, preset: Preset) -> _EmbeddingsSide:
        return _EmbeddingsSide(preset, exchange)


VENDOR = _EmbeddingsVendor()
PROVIDER_SIDE = _EmbeddingsSide(Preset())


# -- the same dialect -------------------------------------------------------------------


class Recoding:
    """The stage that turns a reply's vectors into what the client asked for; every other byte stays.

    `packed`: into base64 of float32; else into numbers. `code` tells what base64 of the vendor's holds.
    """

    __slots__ = ("_code", "_packed", "_parts")

    def __init__(self, *, packed: bool, code: str) -> None:
        self._packed = packed
        self._code = code
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Keep the next bytes: vectors are whole replies."""
        self._parts.append(data)
        return b""

    def close(self) -> bytes:
        """Give the reply."""
        body = b"".join(self._parts)
        try:
            return self._recode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return body  # whatever it is, it is no list of vectors: the client's to judge

    def _recode(self, body: bytes) -> bytes:
        if not self._packed:
            return _PACKED.sub(lambda found: found[1] + self._numbers(found[2]), body)
        if self._code != "f":
            return _PACKED.sub(lambda found: found[1] + _quote(unpack(found[2].decode(), self._code)), body)
        return _NUMBERS.sub(lambda found: found[1] + _quote(_decode_vector(found[2])), body)

    def _numbers(self, text: bytes) -> bytes:
        return msgspec.json.encode(unpack(text.decode(), self._code))


# A quote inside a JSON string is escaped, so these never match in a text.
_PACKED = re.compile(rb'("embedding"\s*:\s*)"([A-Za-z0-9+/=]*)"')
_NUMBERS = re.compile(rb'("embedding"\s*:\s*)(\[[^\[\]"]*\])')
_decode_vector = msgspec.json.Decoder(list[float]).decode


def _quote(vector: list[float]) -> bytes:
    return b'"' + pack(vector).encode() + b'"'
