"""Counting tokens for clients of Anthropic's `count_tokens`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from raven_proxy.errors import UpstreamTruncated
from raven_proxy.exchange import Exchange, ReplyHead

Make = Callable[..., Exchange]
BODY = b'{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hi"}]}'
HEAD = ReplyHead(200, {"content-type": "application/json"})


@pytest.mark.parametrize("preset", ["gemini", "vertex"])
def test_a_count_is_asked_for_and_told(make_exchange: Make, provider: Any, preset: str) -> None:
    """AI Studio takes the request as a member, Vertex AI as it is; nothing is metered."""
    face = pytest.importorskip("raven_anthropic.dialect").FACES[1]
    exchange = make_exchange(
        BODY, face=face, preset=preset, options={"project": "p"} if preset == "vertex" else {}
    )
    outgoing = provider.build_request(exchange)
    assert outgoing.target.endswith("/models/gemini-2.5-flash:countTokens")
    sent = msgspec.json.decode(outgoing.body)
    asked = sent if preset == "vertex" else sent["generateContentRequest"]
    assert asked["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert asked["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert asked.get("model") == (None if preset == "vertex" else "models/gemini-2.5-flash")
    stage = provider.open_translator(exchange, HEAD)
    assert stage.feed(b'{"totalTokens": 12, "promptTokensDetails": []}') == b""
    assert msgspec.json.decode(stage.close()) == {"input_tokens": 12}
    assert provider.open_usage_tap(exchange, HEAD) is None
    assert provider.counts_tokens


def test_what_is_no_count_is_an_error(make_exchange: Make, provider: Any) -> None:
    """Never a count of nothing."""
    face = pytest.importorskip("raven_anthropic.dialect").FACES[1]
    exchange = make_exchange(BODY, face=face)
    provider.build_request(exchange)
    stage = provider.open_translator(exchange, HEAD)
    stage.feed(b"<html>")
    with pytest.raises(UpstreamTruncated):
        stage.close()
