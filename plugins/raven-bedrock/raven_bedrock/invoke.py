"""Claude by InvokeModel for clients that speak Anthropic's Messages: the same dialect in another envelope.

The request is the client's body, byte for byte but for the members named here; the reply's stream is taken
out of its frames and becomes server-sent events again, each payload byte for byte.
Source: docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from raven_proxy import hub, splice
from raven_proxy.dialects import Reader
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange
from raven_proxy.metering import UNREADABLE, Meter
from raven_proxy.refusals import refuse_event
from raven_proxy.translation import SSE, Translation

from .eventstream import Decoder, Message
from .streams import read_failure

__all__ = ["build_body", "find_refused_member", "open_messages", "unwrap"]

VERSION = "bedrock-2023-05-31"

_CONTEXT_MANAGEMENT = "context-management-2025-06-27"
# Flags that Bedrock knows: it refuses a request with any other ("invalid beta flag").
_BETAS = frozenset(
    f"""
    computer-use-2024-10-22 computer-use-2025-01-24 computer-use-2025-11-24 context-1m-2025-08-07
    dev-full-thinking-2025-05-14 effort-2025-11-24 fine-grained-tool-streaming-2025-05-14
    interleaved-thinking-2025-05-14 output-128k-2025-02-19 token-efficient-tools-2025-02-19
    tool-examples-2025-10-29 tool-search-tool-2025-10-19 {_CONTEXT_MANAGEMENT}
    """.split()
)
# Members of Anthropic's own API that Bedrock refuses ("Extra inputs are not permitted").
_REFUSED = (
    "container",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "service_tier",
    "speed",
    "user_profile_id",
)
_EXTRA_INPUT = re.compile(r"(?<![\w.])([a-z_]{1,64}): Extra inputs are not permitted")


class _Payload(msgspec.Struct):
    bytes: str = ""


class _Type(msgspec.Struct):
    type: str = "message"


class _Betas(msgspec.Struct):
    anthropic_beta: list[str] = []


_decode_payload = msgspec.json.Decoder(_Payload).decode
_decode_type = msgspec.json.Decoder(_Type).decode


# -- requests ------------------------------------------------------------------------


def build_body(body: bytes, beta_header: str, known_betas: tuple[str, ...]) -> tuple[bytes, list[str]]:
    """Make the body for InvokeModel; give it and the names of what was dropped."""
    dropped: list[str] = []
    betas = _pick_betas(body, beta_header, known_betas, dropped)
    refused = _REFUSED if _CONTEXT_MANAGEMENT in betas else ("context_management", *_REFUSED)
    spans = splice.scan(body)
    dropped += [name for name in refused if name in spans]
    for name in ("model", "stream", "betas", *refused):
        body = _remove(body, name)
    body = splice.put(body, splice.scan(body), "anthropic_version", VERSION)
    if betas:
        body = splice.put(body, splice.scan(body), "anthropic_beta", betas)
    elif "anthropic_beta" in spans:
        body = _remove(body, "anthropic_beta")
    return body, dropped


def find_refused_member(body: bytes, reply: bytes) -> bytes | None:
    """Give the body without the member that an error reply says is not permitted; None if there is none."""
    match = _EXTRA_INPUT.search(reply.decode("utf-8", "replace"))
    if match is None or match[1] not in splice.scan(body):
        return None
    return _remove(body, match[1])


def _remove(body: bytes, name: str) -> bytes:
    spans = splice.scan(body)
    return splice.remove(body, spans, name) if name in spans else body


def _pick_betas(body: bytes, header: str, known: tuple[str, ...], dropped: list[str]) -> list[str]:
    asked = [word.strip() for word in header.split(",") if word.strip()]
    if b'"anthropic_beta"' in body:
        try:
            asked += msgspec.json.decode(body, type=_Betas).anthropic_beta
        except msgspec.ValidationError:
            dropped.append("anthropic_beta")
    asked = list(dict.fromkeys(asked))
    dropped += [f"anthropic-beta: {word}" for word in asked if word not in _BETAS and word not in known]
    return [word for word in asked if word in _BETAS or word in known]


# -- replies -------------------------------------------------------------------------


def unwrap(message: Message) -> bytes:
    """Take a model's own event out of a frame of InvokeModelWithResponseStream."""
    return base64.b64decode(_decode_payload(message.payload).bytes)


def open_messages(exchange: Exchange, *, framed: bool) -> Translation:
    """Give the stage that makes Anthropic's stream of the reply.

    `framed` says whether it comes as an event stream; else it is one of server-sent events already, whose
    `event:` lines may be missing.
    """
    side: Any = exchange.face.dialect.provider_side
    stage = _Messages(exchange, side.open_reader() if side is not None else None, framed=framed)
    return Translation(SSE, stage.feed, stage.close, stage.meter.tally, stage.meter.count)


class _Messages:
    """Frames in, server-sent events out; metered by the dialect's own reader."""

    __slots__ = ("_decoder", "_exchange", "_has_written", "_is_over", "_reader", "_sse", "meter")

    def __init__(self, exchange: Exchange, reader: Reader | None, *, framed: bool) -> None:
        self._exchange = exchange
        self._decoder = Decoder()
        self._sse = None if framed else _EventNames()
        self._reader = reader
        self._has_written = self._is_over = False
        self.meter = Meter(exchange)

    def feed(self, data: bytes) -> bytes:
        if self._is_over:
            return b""
        out: list[bytes] = []
        try:
            if self._sse is not None:
                out += self._sse.feed(data)
            else:
                for message in self._decoder.feed(data):
                    if message.headers.kind != "event":
                        return self._fail(read_failure(message.headers, message.payload), out)
                    payload = unwrap(message)
                    if payload:
                        out.append(name_event(payload))
        except UNREADABLE:
            return self._fail(hub.Failed(message="The provider sent something that cannot be read."), out)
        return self._pass(out)

    def close(self) -> bytes:
        if self._reader is not None:
            self._note(self._reader.close)
        return b""

    def _pass(self, out: list[bytes]) -> bytes:
        data = b"".join(out)
        if data:
            self._has_written = True
            reader = self._reader
            if reader is not None:
                self._note(lambda: reader.feed(data))
        return data

    def _note(self, read: Any) -> None:
        """Meter what goes out; what the meter cannot read passes all the same."""
        try:
            for event in read():
                self.meter.note(event)
        except UNREADABLE:
            self._reader = None

    def _fail(self, failure: hub.Failed, out: list[bytes]) -> bytes:
        before = self._pass(out)
        self._is_over = True
        self.meter.note(failure)
        error: GatewayError = refuse_event(self._exchange, failure)
        render = self._exchange.face.dialect.render_stream_error
        if render is None or not self._has_written:
            raise error
        return before + render(error, self._exchange.id)


class _EventNames:
    """Puts the missing `event:` line before each `data:` line of an unpacked stream."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                yield name_event(line[5:].strip())


def name_event(payload: bytes) -> bytes:
    """Frame one event of Anthropic's stream: its SDKs go by the `event:` line."""
    return b"event: %b\ndata: %b\n\n" % (_decode_type(payload).type.encode(), payload)
