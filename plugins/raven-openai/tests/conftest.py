"""Builders shared by this package's tests: exchanges without sockets, recordings, any-split runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
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
    fidelity: str = ""

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
        upstream: Any = SimpleNamespace(
            preset=preset, provider=provider, base_path="/v1", name="main", options={}
        )
        exchange.candidate = Candidate(upstream, None if face.raw else (model or exchange.call.model))
        exchange.credential = Credential(secret) if secret is not None else None
        return exchange

    return make


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Every recorded exchange on the faces of this package."""
    wanted = {"openai.chat", "openai.completions", "openai.embeddings"}
    return [one for one in _read_recordings() if one.surface in wanted]


def _read_recordings() -> list[Recording]:
    default = Path(__file__).parents[4] / "shared" / "recorded"
    folder = Path(os.environ.get("RAVEN_RECORDED", default))
    if not folder.is_dir():
        reason = f"no recordings at {folder}; set RAVEN_RECORDED"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    decode = msgspec.json.Decoder(Recording).decode
    return [decode(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]


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


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], list[dict[str, Any]]]:
    """Find the recorded exchanges whose id matches a glob, as they are in their files."""
    folder = Path(os.environ.get("RAVEN_RECORDED", Path(__file__).parents[4] / "shared" / "recorded"))

    def find(pattern: str) -> list[dict[str, Any]]:
        found = [msgspec.json.decode(path.read_bytes()) for path in sorted(folder.glob(f"{pattern}.json"))]
        if not found and os.environ.get("CI"):
            pytest.fail(f"no recordings of {pattern} at {folder}; set RAVEN_RECORDED")
        if not found:
            pytest.skip(f"no recordings of {pattern} at {folder}; set RAVEN_RECORDED")
        return found

    return find


@pytest.fixture(scope="session")
def response_recordings() -> list[Recording]:
    """Every recorded exchange on the Responses API."""
    return [one for one in _read_recordings() if one.surface.startswith("openai.responses")]


@pytest.fixture(scope="session")
def check_response_stream() -> Callable[[bytes], dict[str, Any]]:
    """Check the grammar of a Responses stream, event by event; give the whole response at its end.

    Every event is numbered and named; every item that is added is done, with its parts inside it; what
    the deltas add up to is what the items say, and the last event holds exactly those items.
    """

    def check(data: bytes) -> dict[str, Any]:
        checker = _StreamChecker()
        blocks = [block for block in data.split(b"\n\n") if block and not block.startswith(b":")]
        assert data.endswith(b"\n\n")
        assert b"[DONE]" not in data
        for number, block in enumerate(blocks):
            name, _, rest = block.partition(b"\n")
            event = msgspec.json.decode(rest.removeprefix(b"data: "))
            assert name == b"event: " + event["type"].encode()
            assert event["sequence_number"] == number
            checker.take(event, number)
        assert checker.final is not None, "no terminal event"
        return checker.final

    return check


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., Any]]:
    """Make official clients; strict where they read what was written here, and not a recording."""
    from openai import AsyncOpenAI  # the other tests here do without it

    made: list[AsyncOpenAI] = []

    def make(gateway: Any, key: str | None = None) -> AsyncOpenAI:
        client = AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key=key or gateway.key,
            max_retries=0,
            _strict_response_validation=key is None,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


class _StreamChecker:
    def __init__(self) -> None:
        self.final: dict[str, Any] | None = None
        self.id = ""
        self.open: dict[int, str] = {}  # output_index → item_id
        self.parts: dict[tuple[int, int, str], str] = {}  # open parts → their text so far
        self.done: dict[int, dict[str, Any]] = {}
        self.arguments: dict[int, str] = {}

    def take(self, event: dict[str, Any], number: int) -> None:
        kind = event["type"].removeprefix("response.")
        assert self.final is None, "an event after the terminal one"
        if number < 2:
            assert kind == ("created", "in_progress")[number]
        if "response" in event:
            self._take_response(kind, event["response"])
        elif kind.startswith("output_item"):
            self._take_item(kind, event["output_index"], event["item"])
        else:
            assert self.open[event["output_index"]] == event["item_id"]
            self._take_inner(kind, event)

    def _take_response(self, kind: str, response: dict[str, Any]) -> None:
        assert response["id"] == (self.id or response["id"])
        self.id = response["id"]
        if kind in ("created", "in_progress"):
            assert (response["status"], response["output"]) == ("in_progress", [])
            return
        assert kind == response["status"]
        assert not self.open
        assert not self.parts
        assert response["output"] == [self.done[index] for index in range(len(self.done))]
        self.final = response

    def _take_item(self, kind: str, index: int, item: dict[str, Any]) -> None:
        if kind == "output_item.added":
            assert index == len(self.open) + len(self.done), "items are numbered as they come"
            assert item["status"] == "in_progress"
            self.open[index] = item["id"]
            return
        assert self.open.pop(index) == item["id"]
        assert not any(place[0] == index for place in self.parts)
        if index in self.arguments:
            assert self.arguments[index] == item.get("arguments", item.get("input"))
        self.done[index] = item

    def _take_inner(self, kind: str, event: dict[str, Any]) -> None:
        index = event["output_index"]
        if kind.endswith(("arguments.delta", "input.delta")):
            self.arguments[index] = self.arguments.get(index, "") + event["delta"]
            return
        if kind.endswith(("arguments.done", "input.done")):
            assert self.arguments.setdefault(index, "") == event.get("arguments", event.get("input"))
            return
        if kind.startswith("image_generation_call"):
            return
        is_summary = kind.startswith("reasoning_summary")
        number = event["summary_index" if is_summary else "content_index"]
        place = (index, number, "summary" if is_summary else "content")
        if kind.endswith("part.added"):
            assert not any(one[0] == index for one in self.parts), "one part of an item at a time"
            self.parts[place] = ""
        elif kind.endswith("part.done"):
            part = event["part"]
            assert self.parts.pop(place) == part.get("text", part.get("refusal"))
        elif kind.endswith(".delta"):
            self.parts[place] += event["delta"]
        elif kind.endswith(("text.done", "refusal.done")):
            assert self.parts[place] == event.get("text", event.get("refusal"))
        else:
            assert kind == "output_text.annotation.added"
            assert place in self.parts
