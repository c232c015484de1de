"""T122: provider plugins that break while they translate, judge a refusal, or meter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.presets import PRESETS
from raven_openai.provider import OpenAIProvider

from raven_proxy import Outcome, hookimpl
from raven_proxy.sse import EventReader

from .conftest import PROVIDER_KEY, Case
from .wire import CANARY, chat, post


def explode(*_arguments: Any, **_fields: Any) -> Any:
    raise RuntimeError("translator")


class Bomb:
    """A stage or tap that explodes where it is told."""

    def __init__(self, place: str) -> None:
        self.place = place

    def feed(self, data: bytes) -> bytes:
        return explode() if self.place == "feed" else data

    def close(self) -> Any:
        return explode() if self.place == "close" else b""


class Vendor:
    """Registers a provider that is OpenAI's but for one method."""

    def __init__(self, method: str, deed: Callable[..., Any]) -> None:
        self.provider: Any = OpenAIProvider({"vendor": PRESETS["openai"]})
        self.provider.name = "vendor"
        setattr(self.provider, method, deed)

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        register(self.provider)


async def start(case: Case, method: str, deed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    case.may_fail = True
    monkeypatch.setenv("RAVEN_TEST_PROVIDER_KEY", PROVIDER_KEY)
    key = {"env": "RAVEN_TEST_PROVIDER_KEY"}
    table = {"name": "broken", "provider": "vendor", "base_url": case.upstream.url, "key": key}
    await case.start(Vendor(method, deed), upstreams=[table])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("method", "model", "sent"),
    [
        ("needs_key", "any", 0),
        ("build_request", "any", 0),
        ("open_translator", "any", 1),
        ("revise_request", "fx-400", 1),
        ("read_refusal", "fx-500", 1),
    ],
)
async def test_t122_a_provider_that_raises_fails_closed(
    case: Case, monkeypatch: pytest.MonkeyPatch, method: str, model: str, sent: int, stream: bool
) -> None:
    """A translator that raises: a 500 in the envelope, the connection dropped, the log says where."""
    await start(case, method, explode, monkeypatch)
    if method == "needs_key":  # it is asked where there is no key
        case.gateways[-1].gateway.pipeline.upstreams["broken"].credential = None
    reply = await case.chat(f"broken/{model}", stream=stream)
    case.refused(reply, 500, code="internal_error")
    assert len(case.upstream.seen) == sent
    assert (await case.last()).outcome is Outcome.FAILED
    assert any(line["level"] == "error" and "translator" in str(line.get("exception")) for line in case.log)
    if method == "open_translator":  # nobody took the reply
        await case.upstream.wait_until(lambda: case.upstream.connections == 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["feed", "close"])
async def test_t122_a_translator_that_breaks_passes_nothing(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, stream: bool
) -> None:
    """A translator's stage that raises ends as any stage does: error reply or event, no untranslated byte."""
    await start(case, "open_translator", lambda *_: Bomb(place), monkeypatch)
    reply = await case.chat("broken/any", stream=stream)
    if reply.status == 200:
        assert not reply.is_whole
        last = EventReader().feed(reply.body)[-1].data
        assert msgspec.json.decode(last or b"")["error"]["code"] == "internal_error"
    else:
        case.refused(reply, 500, code="internal_error")
    assert place == "close" or CANARY.encode() not in reply.body
    assert (await case.last()).outcome is Outcome.FAILED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["open", "feed", "close"])
async def test_t122_a_meter_that_breaks_breaks_nothing_else(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: str, stream: bool
) -> None:
    """A usage tap reads a copy: whatever it raises, the client has its reply and the core its record."""
    deed = explode if place == "open" else lambda *_: Bomb(place)
    await start(case, "open_usage_tap", deed, monkeypatch)
    reply = await case.ask(post(chat("broken/any", stream=stream)))
    assert reply.status == 200
    assert reply.is_whole
    assert reply.body.endswith(b"data: [DONE]\n\n" if stream else b"}")
    ended = await case.last()
    assert ended.outcome is Outcome.COMPLETED
    assert ended.usage is None
    assert case.events("usage tap failed")
    assert case.events("exchange")
