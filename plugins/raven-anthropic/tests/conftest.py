"""Builders shared by this package's tests: exchanges without sockets, recordings, cuts of streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_anthropic import Anthropic
from raven_anthropic.dialect import FACES
from raven_anthropic.provider import AnthropicProvider

from raven_proxy.exchange import Candidate, Credential, Exchange
from raven_proxy.faces import Face
from raven_proxy.providers import ModelInfo

LISTED = {"listed-model": 777}
SECRET = "sk-ant-NeverShowThis0123456789"


class Recording(msgspec.Struct):
    """One recorded exchange, as far as these tests read it."""

    id: str
    provider: str
    surface: str
    fidelity: str
    streaming: bool
    request: dict[str, Any]
    response: dict[str, Any]

    def body(self) -> bytes:
        return (self.response.get("body") or "").encode()


@pytest.fixture(scope="session")
def provider() -> AnthropicProvider:
    providers: list[Any] = []
    Anthropic(Anthropic.Config()).register_providers(lambda found, presets: providers.append(found))
    assert isinstance(providers[0], AnthropicProvider)
    return providers[0]


@pytest.fixture(scope="session")
def make_exchange(provider: AnthropicProvider) -> Callable[..., Exchange]:
    """Build an exchange at the point where a provider is asked for the vendor's request."""

    def make(
        body: Any,
        *,
        preset: str = "anthropic",
        model: str | None = None,
        face: Face = FACES[0],
        headers: dict[str, str] | None = None,
        secret: str | None = SECRET,
        path: str = "/v1/messages",
        base_path: str = "/v1",
    ) -> Exchange:
        request: Any = SimpleNamespace(method="POST", raw_path=path)
        pipeline: Any = None
        exchange = Exchange(request, pipeline, "req_test")
        exchange.face = face
        exchange.headers = {"content-type": "application/json", **(headers or {})}
        exchange.body = body if isinstance(body, bytes) else msgspec.json.encode(body)
        exchange.call = face.read_call(exchange.body)
        upstream: Any = SimpleNamespace(
            preset=preset,
            provider=provider,
            base_path=base_path,
            name="main",
            credential=Credential(secret) if secret is not None else None,
            describe=lambda model: ModelInfo(id=model, max_tokens=LISTED.get(model)),
        )
        exchange.candidate = Candidate(upstream, None if face.raw else (model or exchange.call.model))
        exchange.candidates = (exchange.candidate,)
        exchange.credential = Credential(secret) if secret is not None else None
        return exchange

    return make


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange in Anthropic's Messages, whoever served it."""
    decode = msgspec.json.Decoder(Recording).decode
    found = [decode(path.read_bytes()) for path in sorted(find_recordings().rglob("*.json"))]
    return [one for one in found if one.surface in {"anthropic.messages", "vertex.anthropic"}]


@pytest.fixture(scope="session")
def recorded_list() -> bytes:
    """What Anthropic answered to a request for its models."""
    (path,) = find_recordings().joinpath("anthropic").glob("models-*.json")
    return msgspec.json.decode(path.read_bytes(), type=Recording).body()


def find_recordings() -> Path:
    """Find the folder of recordings, or skip; where a whole run is asked for, its lack is a failure."""
    folder = Path(os.environ.get("RAVEN_RECORDED", Path(__file__).parents[4] / "shared" / "recorded"))
    if not folder.is_dir():
        reason = f"no recordings at {folder}; set RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def cuts() -> Callable[[bytes], Iterator[list[bytes]]]:
    """Cut bytes in telling ways: whole, byte by byte, in small pieces."""

    def cut(data: bytes) -> Iterator[list[bytes]]:
        for size in (len(data) or 1, 1, 7, 64, 1460):
            yield [data[i : i + size] for i in range(0, len(data), size)]

    return cut
