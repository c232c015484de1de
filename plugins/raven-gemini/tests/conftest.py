"""Builders shared by this package's tests: recordings, exchanges without sockets, a dialect of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_gemini.provider import GeminiProvider

from raven_proxy import errors, hub
from raven_proxy.config import UpstreamConfig
from raven_proxy.exchange import Candidate, Credential, Exchange, Principal
from raven_proxy.faces import Call, Dialect, Face
from raven_proxy.hookspecs import hookimpl
from raven_proxy.splice import scan
from raven_proxy.upstream import Upstream

SECRET = "AIzaNeverShowThis0123456789"


class Recording(msgspec.Struct):
    """One recorded exchange, as far as these tests read it."""

    id: str
    provider: str
    surface: str
    streaming: bool
    request: dict[str, Any]
    response: dict[str, Any]
    case: str | None = None
    dialect: str | None = None

    @property
    def body(self) -> bytes:
        return (self.response.get("body") or "").encode()

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def model(self) -> str:
        return str(self.request["url"]).partition("/models/")[2].partition(":")[0]


def load() -> list[Recording] | None:
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default))
    if not folder.is_dir():
        return None
    decode = msgspec.json.Decoder(Recording).decode
    return [decode(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange; skips where there are none, and fails in CI."""
    found = load()
    if found is None:
        reason = "no recordings; name their folder in RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def generated(recordings: list[Recording]) -> list[Recording]:
    """Every answer of generateContent that was no error: AI Studio's, Vertex AI's, the parallel corpus'."""
    found = [r for r in recordings if r.surface == "gemini.generate" and r.status < 400]
    assert len(found) > 50
    return found


class PlainWriter:
    """Writes one line an event: what a translation must not make depend on how the bytes were cut."""

    def write(self, event: hub.Event) -> bytes:
        table = msgspec.to_builtins(event)
        if isinstance(event, hub.ToolCallStarted):
            table["id"] = "call" if event.id.startswith("call_") else event.id  # made ids are random
        return type(event).__name__.encode() + b" " + msgspec.json.encode(table) + b"\n\n"


class PlainSide:
    """A client's dialect that is the hub itself, in JSON."""

    def __init__(self, kind: Any = hub.ChatRequest) -> None:
        self._kind = kind

    def read_request(self, exchange: Exchange) -> Any:
        made = msgspec.json.decode(exchange.body, type=self._kind)
        made.model = exchange.candidate.model if exchange.candidate is not None else made.model
        return made

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        return msgspec.json.encode(msgspec.to_builtins(reply))

    def open_writer(self, exchange: Exchange) -> PlainWriter:
        return PlainWriter()


def read_plain(body: bytes) -> Call:
    members = scan(body)
    fields = msgspec.json.decode(body)
    return Call(model=fields.get("model"), stream=bool(fields.get("stream")), members=members)


def stream_error(error: errors.GatewayError, request_id: str) -> bytes:
    return b"Error " + errors.envelope(error, request_id) + b"\n"


def make_face(name: str, kind: Any) -> Face:
    dialect = Dialect(f"plain.{name}", errors.envelope, stream_error, client_side=PlainSide(kind))
    return Face(name=f"plain-{name}", path=f"/v1/plain/{name}", dialect=dialect, read_call=read_plain)


PLAIN = make_face("chat", hub.ChatRequest)
PLAIN_EMBEDDINGS = make_face("embeddings", hub.EmbeddingsRequest)


@pytest.fixture
def plain() -> Face:
    """A face whose clients speak the hub itself."""
    return PLAIN


@pytest.fixture
def plain_embeddings() -> Face:
    return PLAIN_EMBEDDINGS


@pytest.fixture
def provider() -> GeminiProvider:
    return GeminiProvider()


@pytest.fixture
def make_exchange(provider: GeminiProvider) -> Callable[..., Exchange]:
    """Build an exchange at the point where the provider is asked for Google's request."""

    def make(
        body: Any = None,
        *,
        preset: str = "gemini",
        model: str = "gemini-2.5-flash",
        face: Face = PLAIN,
        headers: dict[str, str] | None = None,
        secret: str | None = SECRET,
        options: dict[str, Any] | None = None,
        base_url: str | None = None,
        path: str = "/v1/plain/chat",
        endpoint: str = "",
        source: str = "config",
    ) -> Exchange:
        request: Any = SimpleNamespace(method="POST", raw_path=path)
        pipeline: Any = None
        exchange = Exchange(request, pipeline, "req_test")
        exchange.face = face
        exchange.headers = {"content-type": "application/json", **(headers or {})}
        if body is None:
            body = {"messages": [{"role": "user", "parts": []}]}
        exchange.body = body if isinstance(body, bytes) else msgspec.json.encode({"model": model, **body})
        exchange.call = face.read_call(exchange.body)
        exchange.principal = Principal(key_id="key_test")
        exchange.params = {"endpoint": endpoint}
        config = UpstreamConfig(name="main", provider=preset, base_url=base_url, options=options or {})
        exchange.candidate = Candidate(Upstream(config, provider, allow_private=True), model)
        exchange.credential = Credential(secret, source) if secret is not None else None
        return exchange

    return make


@pytest.fixture(scope="session")
def cuts() -> Callable[[bytes], Iterator[list[bytes]]]:
    """Cut bytes in telling ways: whole, byte by byte, in pieces, and in two at 400 points at most."""

    def cut(data: bytes) -> Iterator[list[bytes]]:
        yield [data]
        yield [data[i : i + 1] for i in range(len(data))]
        for size in (7, 64, 300):
            yield [data[i : i + size] for i in range(0, len(data), size)]
        for point in range(1, len(data), max(1, len(data) // 400)):
            yield [data[:point], data[point:]]

    return cut


class HubFaces:
    """A plugin whose clients speak the hub itself, with messages as OpenAI writes them."""

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        for kind in (SpokenSide(), PlainSide(hub.EmbeddingsRequest)):
            name = "chat" if isinstance(kind, SpokenSide) else "embeddings"
            dialect = Dialect(f"plain.{name}", errors.envelope, stream_error, client_side=kind)
            register(
                Face(name=f"plain-{name}", path=f"/v1/plain/{name}", dialect=dialect, read_call=read_plain)
            )


class SpokenSide:
    """Reads `{"model", "ask": "text" | [links of images]}`: the hub's own parts have no tags."""

    def read_request(self, exchange: Exchange) -> hub.ChatRequest:
        fields = msgspec.json.decode(exchange.body)
        parts: list[Any] = [hub.Text(text=fields["ask"])]
        parts += [hub.Image(media=hub.Media(url=link)) for link in fields.get("links", ())]
        assert exchange.candidate is not None
        return hub.ChatRequest(
            model=exchange.candidate.model or "",
            messages=[hub.Message(role="user", parts=parts)],
            stream=exchange.stream,
            tools=[hub.Tool(name="f")] if fields.get("tools") else [],
        )

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        return PlainSide().write_reply(reply, exchange)

    def open_writer(self, exchange: Exchange) -> PlainWriter:
        return PlainWriter()


@pytest.fixture
def gemini(raven: Any, upstream: Any, tmp_path: Path) -> Callable[..., Any]:
    """Start a gateway with the upstream "g", which is the mock as AI Studio, or as Vertex AI."""

    async def start(provider: str = "gemini", **options: Any) -> Any:
        key = tmp_path / "key"
        key.write_text(options.pop("key", SECRET))
        base = upstream.origin + ("/v1beta" if provider == "gemini" else "")
        place = {"name": "g", "provider": provider, "base_url": base, "key": {"file": str(key)}}
        return await raven([HubFaces, "gemini"], upstreams=[{**place, "options": options}])

    return start
