"""Claude at Vertex AI: passed to clients of Anthropic's dialect, translated for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy import hub
from raven_proxy.exchange import Exchange, ReplyHead

from .test_vertex import OPTIONS, hello

Make = Callable[..., Exchange]


def claude_face() -> Any:
    dialect = pytest.importorskip("raven_anthropic.dialect")
    return dialect.FACES[0]


@pytest.mark.parametrize("stream", [False, True])
def test_messages_pass_with_the_model_in_the_path(make_exchange: Make, provider: Any, stream: bool) -> None:
    """Byte for byte, but for the model and the version; betas stay headers."""
    body = b'{"model":"claude-x","max_tokens": 5,"messages":[{"role":"user","content":"Hi"}]%s}'
    body %= b',"stream":true' if stream else b""
    exchange = make_exchange(
        body,
        face=claude_face(),
        preset="vertex",
        options=OPTIONS,
        secret="ya29.x",
        model="claude-sonnet-4-5",
        headers={"anthropic-beta": "b1", "anthropic-version": "2023-06-01"},
    )
    outgoing = provider.build_request(exchange)
    verb = "streamRawPredict" if stream else "rawPredict"
    assert outgoing.target.endswith(f"/publishers/anthropic/models/claude-sonnet-4-5:{verb}")
    rest = body.replace(b'"model":"claude-x",', b"")
    assert outgoing.body == rest[:-1] + b',"anthropic_version":"vertex-2023-10-16"}'
    assert outgoing.headers["anthropic-beta"] == "b1"
    assert "anthropic-version" not in outgoing.headers
    assert provider.open_translator(exchange, ReplyHead(200, {})) is None


def test_counting_for_claude_names_the_model_in_the_body(make_exchange: Make, provider: Any) -> None:
    """Its endpoint is a model of its own."""
    dialect = pytest.importorskip("raven_anthropic.dialect")
    body = b'{"model":"alias","messages":[{"role":"user","content":"Hi"}]}'
    exchange = make_exchange(
        body,
        face=dialect.FACES[1],
        preset="vertex",
        options=OPTIONS,
        secret="ya29.x",
        model="claude-sonnet-4-5",
    )
    outgoing = provider.build_request(exchange)
    assert outgoing.target.endswith("/publishers/anthropic/models/count-tokens:rawPredict")
    assert msgspec.json.decode(outgoing.body)["model"] == "claude-sonnet-4-5"
    head = ReplyHead(200, {"content-type": "application/json"})
    assert provider.open_translator(exchange, head) is None
    assert provider.open_usage_tap(exchange, head) is None


def test_other_dialects_are_translated_for_claude(
    make_exchange: Make, provider: Any, recordings: list[Any]
) -> None:
    """By the package that owns Anthropic's dialect; recorded streams come back as events."""
    pytest.importorskip("raven_anthropic")
    for recording in [r for r in recordings if r.surface == "vertex.anthropic"]:
        exchange = hello(make_exchange, model="claude-3-7-sonnet@20250219", stream=True)
        exchange.hub_request.tools = [hub.Tool(name="weather")]
        outgoing = provider.build_request(exchange)
        assert outgoing.target.endswith("/models/claude-3-7-sonnet@20250219:streamRawPredict")
        sent = msgspec.json.decode(outgoing.body)
        assert (sent["anthropic_version"], sent["stream"]) == ("vertex-2023-10-16", True)
        assert "model" not in sent
        head = ReplyHead(200, recording.response["headers"])
        stage = provider.open_translator(exchange, head)
        out = stage.feed(recording.body) + stage.close()
        assert out.strip().splitlines()[-1].startswith(b"Ended"), recording.id
        tally = stage.tap.close()
        assert tally.complete
        assert tally.usage.prompt_tokens > 300


def test_claudes_raw_answers_are_metered(make_exchange: Make, provider: Any, recordings: list[Any]) -> None:
    """Through the client's own dialect, or on the raw path."""
    package = pytest.importorskip("raven_anthropic.dialect")
    raw = provider.find_face("POST", "publishers/anthropic/models/claude-x:streamRawPredict")
    for recording in [r for r in recordings if r.surface == "vertex.anthropic"]:
        head = ReplyHead(200, recording.response["headers"])
        for face in (raw, package.FACES[0]):
            body = msgspec.json.encode({"model": "m", **recording.request["body"]})
            exchange = make_exchange(body, face=face, preset="vertex", options=OPTIONS)
            tap = provider.open_usage_tap(exchange, head)
            tap.feed(recording.body)
            tally = tap.close()
            assert tally.complete
            assert tally.usage.prompt_tokens > 300
