"""Builders shared by this package's tests: recordings, exchanges without sockets, cuts of bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_ollama.provider import OllamaProvider

from raven_proxy import errors, hub
from raven_proxy.exchange import Candidate, Credential, Exchange
from raven_proxy.faces import Call, Dialect, Face

SECRET = "ol-NeverShowThis0123456789"


class Recording(msgspec.Struct):
    """One recorded exchange, as far as these tests read it."""

    id: str
    provider: str
    surface: str
    streaming: bool
    request: dict[str, Any]
    response: dict[str, Any]

    def body(self) -> bytes:
        return (self.response.get("body") or "").encode()


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange in the dialects of Ollama itself."""
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default))
    if not folder.is_dir():
        reason = f"no recordings at {folder}; set RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    decode = msgspec.json.Decoder(Recording).decode
    found = [decode(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]
    return [r for r in found if r.surface.startswith("ollama.")]


class TellingWriter:
    """Writes each event as a line of JSON: whatever is lost, shows."""

    def write(self, event: hub.Event) -> bytes:
        return msgspec.json.encode([type(event).__name__, event]) + b"\n"


class TellingSide:
    """A client's half that reads the hub's own request and writes the hub's own reply."""

    def read_request(self, exchange: Exchange) -> Any:
        request = exchange.notes["request"]
        assert exchange.candidate is not None
        request.model = exchange.candidate.model
        return request

    def write_reply(self, reply: Any, exchange: Exchange) -> bytes:
        return msgspec.json.encode(reply)

    def open_writer(self, exchange: Exchange) -> TellingWriter:
        return TellingWriter()


@pytest.fixture
def make_exchange() -> Callable[..., Exchange]:
    """Build an exchange of a client whose dialect is the hub's own shape."""

    def make(
        request: Any = None,
        *,
        body: bytes = b"{}",
        face: Face | None = None,
        stream: bool = False,
        model: str | None = "llama3.2",
        headers: dict[str, str] | None = None,
        path: str = "/v1/test",
        endpoint: str = "",
        options: dict[str, Any] | None = None,
    ) -> Exchange:
        seen: Any = SimpleNamespace(method="POST", raw_path=path)
        pipeline: Any = None
        exchange = Exchange(seen, pipeline, "req_test")
        kind = "embeddings" if isinstance(request, hub.EmbeddingsRequest) else "chat"
        dialect = Dialect(f"test.{kind}", errors.envelope, client_side=TellingSide())
        exchange.face = face or Face(name="t", path=path, dialect=dialect, read_call=lambda body: Call())
        exchange.headers = {"content-type": "application/json", **(headers or {})}
        exchange.params = {"endpoint": endpoint}
        exchange.body = body
        exchange.call = exchange.face.read_call(body)
        exchange.call.stream = exchange.call.stream or stream
        exchange.notes["request"] = request
        provider = OllamaProvider()
        upstream: Any = SimpleNamespace(
            preset="ollama_native", provider=provider, base_path="", name="main", options=options or {}
        )
        exchange.candidate = Candidate(upstream, model)
        exchange.credential = Credential(SECRET)
        return exchange

    return make


@pytest.fixture(scope="session")
def cuts() -> Callable[[bytes], Iterator[list[bytes]]]:
    """Cut bytes in telling ways: whole, byte by byte, and in two at many points."""

    def cut(data: bytes) -> Iterator[list[bytes]]:
        yield [data]
        yield [data[i : i + 1] for i in range(len(data))]
        for size in (7, 64, 300):
            yield [data[i : i + size] for i in range(0, len(data), size)]
        for point in range(1, len(data), max(1, len(data) // 200)):
            yield [data[:point], data[point:]]

    return cut
