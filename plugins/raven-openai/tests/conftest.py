"""Builders shared by this package's tests: exchanges without sockets, recordings, any-split runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai import OpenAI
from raven_openai.dialect import FACES
from raven_openai.provider import OpenAIProvider

from raven_proxy.exchange import Candidate, Credential, Exchange
from raven_proxy.faces import Face

SECRET = "sk-proj-NeverShowThis0123456789"


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


@pytest.fixture
def provider() -> OpenAIProvider:
    providers: list[Any] = []
    OpenAI(OpenAI.Config()).register_providers(lambda found, presets: providers.append(found))
    assert isinstance(providers[0], OpenAIProvider)
    return providers[0]


@pytest.fixture
def make_exchange(provider: OpenAIProvider) -> Callable[..., Exchange]:
    """Build an exchange at the point where the provider is asked for the vendor's request."""

    def make(
        body: bytes,
        *,
        preset: str = "openai",
        model: str | None = None,
        face: Face = FACES[0],
        headers: dict[str, str] | None = None,
        secret: str | None = SECRET,
        path: str = "/v1/chat/completions",
        method: str = "POST",
    ) -> Exchange:
        request: Any = SimpleNamespace(method=method, raw_path=path)
        pipeline: Any = None
        exchange = Exchange(request, pipeline, "req_test")
        exchange.face = face
        exchange.headers = {"content-type": "application/json", **(headers or {})}
        exchange.body = body
        exchange.call = face.read_call(body)
        upstream: Any = SimpleNamespace(preset=preset, provider=provider, base_path="/v1", name="main")
        exchange.candidate = Candidate(upstream, None if face.raw else (model or exchange.call.model))
        exchange.credential = Credential(secret) if secret is not None else None
        return exchange

    return make


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange on the faces of this package."""
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default))
    if not folder.is_dir():
        reason = f"no recordings at {folder}; set RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    decode = msgspec.json.Decoder(Recording).decode
    found = [decode(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]
    return [r for r in found if r.surface in {"openai.chat", "openai.completions", "openai.embeddings"}]


@pytest.fixture(scope="session")
def cuts() -> Callable[[bytes], Iterator[list[bytes]]]:
    """Cut bytes in telling ways: whole, byte by byte, and in two at every point (or 400 of them)."""

    def cut(data: bytes) -> Iterator[list[bytes]]:
        yield [data]
        yield [data[i : i + 1] for i in range(len(data))]
        for size in (7, 64, 300):
            yield [data[i : i + size] for i in range(0, len(data), size)]
        for point in range(1, len(data), max(1, len(data) // 400)):
            yield [data[:point], data[point:]]

    return cut
