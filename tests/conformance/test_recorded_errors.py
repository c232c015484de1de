"""What vendors really said when they refused, as the gateway's client hears it (contract 2.3 and 3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy.exchange import Outcome
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import VENDOR_KEY, Ledger, VendorStarter
from .recordings import Recording, loaded, require

_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "upstream_error",
    502: "upstream_error",
}
# Codes that say more than the status does are kept; a status repeated as a code is not.
_CODES = {
    "groq/chat-error-400-gpt-oss-120b-5a981c": "tool_use_failed",
    "groq/chat-error-404-non-existent-4f3eb9": "model_not_found",
    "openai/chat-error-404-gpt-3-5-turbo-0613-d0c645": "model_not_found",
    "azure_openai/chat-error-429-grok-4-1-fast-non-reasoning-bfe955": "RateLimitReached",
    "mistral/chat-error-400-mistral-small-latest-1a8c3f": "3051",
}
_OURS = {400: "bad_request", 429: "rate_limit_exceeded", 500: "upstream_error", 502: "upstream_error"}


def _words(recording: Recording) -> str:
    """The vendor's own message, in whichever of the recorded shapes."""
    said: dict[str, Any] = msgspec.json.decode(recording.body)
    source = said["error"] if isinstance(said.get("error"), dict) else said
    return str(source.get("message") or source["detail"])


@pytest.mark.parametrize("way", ["face", "raw"])
@pytest.mark.parametrize("recording", loaded(errors=True))
async def test_a_recorded_refusal(
    recording: Recording | str, way: str, vendor: VendorStarter, upstream: MockUpstream, ledger: Ledger
) -> None:
    """A vendor's refusal keeps its status, words and request id in the one envelope, and costs nothing."""
    rec = require(recording)
    gateway = await vendor(rec.preset, rec.base_path)
    upstream.script(ScriptedReply.from_recording({"response": rec.response}))
    path = f"/v1/{rec.endpoint}" if way == "face" else f"/v1/{rec.preset}/{rec.endpoint}"
    async with gateway.client.post(path, json=rec.payload) as reply:
        text = await reply.text()

    assert len(upstream.seen) == 1
    status = 502 if rec.status in {401, 403} else rec.status
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/json"
    envelope = msgspec.json.decode(text)
    assert set(envelope) == {"error"}
    error = envelope["error"]
    assert set(error) == {"type", "code", "message", "param", "status", "request_id", "metadata"}
    assert (error["status"], error["type"]) == (status, _TYPES[status])
    assert error["code"] == _CODES.get(rec.id, _OURS.get(status))
    assert error["request_id"] == reply.headers["X-Request-ID"]
    _check_metadata(error, rec)
    assert not [secret for secret in (VENDOR_KEY, "****", "user_REDACTED") if secret in text]
    if status == 429:
        assert reply.headers["Retry-After"] == rec.response["headers"].get("retry-after", "1")

    await upstream.wait_until(lambda: ledger.exchanges)
    [exchange] = ledger.exchanges
    assert exchange.outcome is Outcome.UPSTREAM_ERROR
    assert [attempt.status for attempt in exchange.attempts] == [rec.status]
    assert exchange.usage is None


def _check_metadata(error: dict[str, Any], rec: Recording) -> None:
    metadata, words = error["metadata"], _words(rec)
    assert (metadata["provider"], metadata["status"]) == ("vendor", rec.status)
    if "****" in words:  # the vendor repeated the key, masked by itself: not even that goes on
        words = words.partition(":")[0]
    assert words in error["message"]
    assert words in metadata["message"]
    headers = rec.response["headers"]
    theirs = headers.get("x-request-id") or headers.get("mistral-correlation-id")
    assert metadata.get("request_id") == theirs
