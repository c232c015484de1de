"""Facts about vendors' heads and errors that every package relies on; see `conformance/WIRE.md`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from raven_proxy import hub
from raven_proxy.dialects import SSEReader
from raven_proxy.exchange import ReplyHead
from raven_proxy.headers import forward_reply, forward_request
from raven_proxy.refusals import refuse
from raven_proxy.sse import Event
from raven_proxy.testing import ExchangeFactory
from raven_proxy.translation import open_translation

from .toy_dialect import TOY, ToyVendor

SECRET = "sk-proj-NeverShowThis0123456789"


@pytest.mark.parametrize(
    "name",
    "x-request-id request-id x-inference-request-id mistral-correlation-id x-ds-trace-id apim-request-id "
    "x-amzn-requestid cf-ray".split(),
)
def test_every_vendors_request_id_is_kept(name: str) -> None:
    """Whatever the vendor calls it, an error's metadata have its id of the request."""
    error = refuse("main", ReplyHead(400, {name: "id-1"}), b"{}", SECRET)
    assert error.metadata is not None
    assert error.metadata["request_id"] == "id-1"


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-input-images",
        "x-ratelimit-renewalperiod-tokens",
        "x-ratelimit-limit-req-minute",
        "x-ratelimit-remaining-tokens-month",
        "x-ratelimit-over-limit",
        "x-ratelimit-reset",
        "x-ms-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-organization-id",
        "openai-organization",
        "openai-project",
        "x-trial-endpoint-call-limit",
        "ratelimit-limit",
        "x-request-id",
        "request-id",
    ],
)
def test_what_describes_the_gateways_account_stays_here(name: str) -> None:
    """A vendor's limits, and the names of the account they hold for, are not the client's."""
    assert forward_reply({name: "1", "openai-version": "v"}) == {"openai-version": "v"}


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "x-goog-api-key", "api-key"])
def test_no_credential_of_a_client_goes_upstream(name: str) -> None:
    """In whichever header a vendor's client sends its key."""
    kept = {"x-title": "t", "http-referer": "https://a.example"}  # which OpenRouter reads
    assert forward_request({name: "rk_live_x", **kept}) == kept


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: xa***56. You can obtain an API key from https://console.x.ai.",
        "API key not valid. Please pass a valid API key.",
        "Invalid API key",
        "invalid x-api-key",
    ],
)
def test_a_bad_key_is_the_gateways_fault_whatever_its_status(said: str) -> None:
    """xAI and Google answer 400 to it; the client's request was not what was wrong."""
    error = refuse("main", ReplyHead(400, {}), msgspec.json.encode({"code": "c", "error": said}), SECRET)
    assert (error.status, error.type, error.retryable) == (502, "upstream_error", True)
    plain = refuse("main", ReplyHead(400, {}), b'{"error":"Invalid value of `api_key_id`."}', SECRET)
    assert plain.status == 400


@pytest.mark.parametrize(("head", "meant", "wait"), [(400, 429, "1"), (529, None, "1"), (503, None, None)])
def test_who_is_told_to_wait_is_told_how_long(head: int, meant: int | None, wait: str | None) -> None:
    """Also where the vendor's status was another one, and for Anthropic's 529."""
    error = refuse("main", ReplyHead(head, {}), b"{}", SECRET, status=meant)
    assert error.headers.get("Retry-After") == wait


@pytest.mark.parametrize(
    "raw", ['{"error":{"message":"Context too long"}}', "Context too long", '{"detail":"Context too long"}']
)
def test_the_vendor_behind_a_gateway_has_its_say(raw: str) -> None:
    """OpenRouter's own message says only that a provider failed; why stands in `metadata.raw`."""
    body = {
        "error": {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {"raw": raw, "provider_name": "X"},
        },
        "user_id": "user_2abcDEF34567",
    }
    error = refuse("main", ReplyHead(400, {}), msgspec.json.encode(body), SECRET)
    assert error.message == "Provider returned error: Context too long"
    assert "user_2abc" not in f"{error.message} {error.metadata}"


# -- what came is told by its first bytes ----------------------------------------------


def _reader() -> SSEReader:
    def read(event: Event) -> Iterable[hub.Event]:
        return (hub.TextDelta((event.data or b"").decode()),)

    return SSEReader(read, lambda: (hub.Ended(),), lambda body: (hub.TextDelta("whole " + body.decode()),))


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b' \n{"a":1}\n', [hub.TextDelta('whole  \n{"a":1}\n')]),
        (b"data: x\n\n", [hub.TextDelta("x"), hub.Ended()]),
        (b"\n: hi\n\ndata: {}\n\n", [hub.TextDelta("{}"), hub.Ended()]),
        (b"", [hub.Ended()]),
    ],
)
def test_a_document_in_the_place_of_a_stream_is_read(data: bytes, events: list[hub.Event], size: int) -> None:
    """Whatever the content type said, and however the bytes were cut."""
    reader = _reader()
    found = [event for i in range(0, len(data), size) for event in reader.feed(data[i : i + size])]
    assert [*found, *reader.close()] == events


class _EventVendor(ToyVendor):
    def open_reader(self) -> SSEReader:  # type: ignore[override]
        return SSEReader(
            lambda event: (hub.TextDelta((event.data or b"").decode()),),
            lambda: (hub.Finished(finish="stop"), hub.Ended()),
        )


@pytest.mark.parametrize("stream", [False, True])
def test_a_stream_in_the_place_of_a_document_is_gathered(exchange: ExchangeFactory, stream: bool) -> None:
    """A content type of JSON does not make events unreadable."""
    made = exchange({"model": "m", "stream": stream})
    made.face = msgspec.structs.replace(made.face, dialect=TOY)
    stage = open_translation(made, _EventVendor(), streamed=False)
    out = stage.feed(b"data: one\n\ndata: two\n\n") + stage.close()
    assert b"onetwo" in out.replace(b"><", b"")
