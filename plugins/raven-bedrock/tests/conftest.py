"""Builders shared by this package's tests: exchanges without sockets, frames, recordings, AWS's own model."""

from __future__ import annotations

import base64
import gzip
import os
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import botocore
import msgspec
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from raven_bedrock.models import read_model
from raven_bedrock.provider import BedrockProvider
from raven_bedrock.requests import write_request

from raven_proxy import hub
from raven_proxy.config import UpstreamConfig
from raven_proxy.dialects import SSEReader
from raven_proxy.errors import envelope
from raven_proxy.exchange import Candidate, Credential, Exchange, Usage
from raven_proxy.faces import Call, Dialect, Face
from raven_proxy.splice import scan
from raven_proxy.sse import Event
from raven_proxy.upstream import Upstream

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
Check = Callable[[bytes], dict[str, Any]]
KEYS = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class Recording(msgspec.Struct):
    """One recorded exchange, as far as these tests read it."""

    id: str
    surface: str
    streaming: bool
    model: str | None
    request: dict[str, Any]
    response: dict[str, Any]

    def body(self) -> bytes:
        """Give the reply as Bedrock sends it: streams that an SDK unpacked are framed again."""
        if self.response.get("body_b64") is not None:
            return base64.b64decode(self.response["body_b64"])
        text = (self.response.get("body") or "").encode()
        if not self.streaming:
            return text
        events = [msgspec.json.decode(line[5:]) for line in text.split(b"\n") if line.startswith(b"data:")]
        if self.surface == "bedrock.invoke":
            return b"".join([chunk(event) for event in events])
        return b"".join([frame(name, value) for event in events for name, value in event.items()])


def frame(name: str, payload: Any, kind: str = "event") -> bytes:
    """Frame one message as AWS does."""
    which = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]
    pairs = {which: name.encode(), ":content-type": b"application/json", ":message-type": kind.encode()}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + struct.pack(">BH", 7, len(value)) + value
        for key, value in pairs.items()
    )
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    return seal(headers, data)


def seal(headers: bytes, data: bytes) -> bytes:
    """Put lengths and checksums around headers and payload."""
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + data
    return message + struct.pack(">I", crc32(message))


def chunk(event: Any) -> bytes:
    """Frame one event of a model's own stream, as InvokeModelWithResponseStream does."""
    data = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return frame("chunk", {"bytes": base64.b64encode(data).decode(), "p": "abcdef"})


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange with Bedrock's own API."""
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default))
    if not folder.is_dir():
        reason = f"no recordings at {folder}; set RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    decode = msgspec.json.Decoder(Recording).decode
    paths = [*folder.glob("bedrock/*.json"), *folder.glob("parallel_corpus/*/bedrock*.json")]
    found = [decode(path.read_bytes()) for path in sorted(paths)]
    return [one for one in found if one.surface in {"bedrock.converse", "bedrock.invoke"}]


# -- AWS's model of the service -------------------------------------------------------


@pytest.fixture(scope="session")
def check_converse() -> Callable[[bytes], dict[str, Any]]:
    """Validate a Converse body as strictly as AWS's clients do, enumerations and patterns too."""
    folder = Path(botocore.__file__).parent / "data" / "bedrock-runtime"
    (path,) = folder.glob("*/service-2.json.gz")
    service = ServiceModel(msgspec.json.decode(gzip.decompress(path.read_bytes())), "bedrock-runtime")
    shape = service.operation_model("Converse").input_shape

    def check(body: bytes) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(body)
        report = ParamValidator().validate({"modelId": "m", **document}, shape)
        assert not report.has_errors(), report.generate_report()
        _check_words(document, shape, "")
        return document

    return check


def _check_words(value: Any, shape: Any, where: str) -> None:
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        for name, inner in value.items():
            _check_words(inner, shape.members[name], f"{where}.{name}")
        if getattr(shape, "is_tagged_union", False):
            assert len(value) == 1, f"{where}: {sorted(value)} are too many for a union"
    elif shape.type_name == "list":
        for inner in value:
            _check_words(inner, shape.member, f"{where}[]")
    elif shape.type_name == "string":
        pattern = shape.metadata.get("pattern")
        assert not shape.enum or value in shape.enum, f"{where}: {value!r}"
        assert not pattern or re.fullmatch(pattern, value), f"{where}: {value!r}"
    elif shape.type_name == "blob":
        base64.b64decode(value, validate=True)


@pytest.fixture
def sent(check_converse: Check) -> Callable[[hub.ChatRequest], dict[str, Any]]:
    """Write a request, have AWS's model judge it, give it decoded."""
    return lambda request: check_converse(write_request(request, read_model(request.model)).body)


# -- exchanges ------------------------------------------------------------------------


class _Whole(msgspec.Struct):
    model: str | None = None
    stream: bool = False


class TinyClient:
    """A client's dialect in which a request of the hub is the body, and a stream one line an event."""

    def __init__(self, request: Any = None) -> None:
        self._request = request

    def read_request(self, exchange: Exchange) -> Any:
        if self._request is not None:
            return self._request
        fields = msgspec.json.decode(exchange.body)
        said = [hub.Message(role="user", parts=[hub.Text(text=fields.get("say", "Hi"))])]
        return hub.ChatRequest(model=fields["model"], messages=said, n=fields.get("n"))

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        return msgspec.json.encode(reply)

    def open_writer(self, exchange: Exchange) -> Any:
        return SimpleNamespace(write=lambda event: f"{event!r}\n\n".encode())


def read_call(body: bytes) -> Call:
    fields = msgspec.json.decode(body, type=_Whole)
    return Call(model=fields.model, stream=fields.stream, members=scan(body))


def make_face(request: Any = None, *, name: str = "tiny", endpoint: str = "tiny", **fields: Any) -> Face:
    def render(error: Any, request_id: str) -> bytes:
        return b"error: " + envelope(error, request_id)

    given: dict[str, Any] = {"client_side": TinyClient(request)} | fields
    dialect = Dialect(name, envelope, render, **given)
    return Face(
        name=name,
        path=f"/v1/{endpoint}",
        dialect=dialect,
        read_call=read_call,
        endpoint=endpoint,
        scope="chat:write",
    )


@pytest.fixture
def provider() -> BedrockProvider:
    return BedrockProvider({})


@pytest.fixture
def make_exchange(provider: BedrockProvider) -> Callable[..., Exchange]:
    """Build an exchange at the point where the provider is asked for the vendor's request."""

    def make(
        body: bytes = b'{"model":"m"}',
        *,
        model: str = HAIKU,
        face: Face | None = None,
        headers: dict[str, str] | None = None,
        secret: str | None = "bedrock-api-key",
        options: dict[str, Any] | None = None,
        path: str = "/v1/tiny",
        base_url: str | None = "http://127.0.0.1:9",
    ) -> Exchange:
        request: Any = SimpleNamespace(method="POST", raw_path=path)
        pipeline: Any = None
        exchange = Exchange(request, pipeline, "req_test")
        exchange.face = face or make_face()
        exchange.headers = {"content-type": "application/json", **(headers or {})}
        exchange.body = body
        exchange.call = exchange.face.read_call(body)
        config = UpstreamConfig(name="aws", provider="bedrock", base_url=base_url, options=options or {})
        upstream = Upstream(config, provider, allow_private=True)
        exchange.candidate = Candidate(upstream, model)
        exchange.credential = Credential(secret) if secret is not None else None
        return exchange

    return make


# -- Anthropic's Messages ---------------------------------------------------------------

MESSAGES_BODY = (
    b'{"model": "claude-x", "max_tokens": 9,  "messages":[{"role":"user","content":"Hi"}] , "stream" :true}'
)


class TinyAnthropic:
    """A reader of Anthropic's streams that knows usage, finish and end."""

    def read_reply(self, body: bytes) -> hub.ChatReply:
        document = msgspec.json.decode(body)
        usage = Usage(completion_tokens=document["usage"]["output_tokens"])
        return hub.ChatReply(choices=[hub.Choice()], usage=usage)

    def open_reader(self) -> SSEReader:
        return SSEReader(self._read, lambda: ())

    def _read(self, event: Event) -> Iterable[hub.Event]:
        data = msgspec.json.decode(event.data or b"{}")
        if data["type"] == "message_delta":
            yield hub.Finished(finish="stop", native=data["delta"]["stop_reason"])
            yield hub.UsageReported(Usage(completion_tokens=data["usage"]["output_tokens"]))
        elif data["type"] == "message_stop":
            yield hub.Ended()


def messages_face(**fields: Any) -> Any:
    given = {"client_side": None, "provider_side": TinyAnthropic()} | fields
    return make_face(name="anthropic.messages", endpoint="messages", **given)


@pytest.fixture
def make_messages(make_exchange: Callable[..., Exchange]) -> Callable[..., Exchange]:
    def make(body: bytes = MESSAGES_BODY, **fields: Any) -> Exchange:
        return make_exchange(body, **({"face": messages_face()} | fields))

    return make
