"""Errors as Anthropic's clients know them."""

from __future__ import annotations

import msgspec
import pytest
from raven_anthropic.errors import read_refusal, render_error, render_stream_error, status_of, type_of

from raven_proxy.errors import GatewayError, InvalidRequest

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 409: "conflict_error", 413: "request_too_large",
    429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


@pytest.mark.parametrize(("status", "kind"), TYPES.items())
def test_the_type_follows_the_status(status: int, kind: str) -> None:
    error = GatewayError("No", status=status, type="insufficient_quota")
    assert msgspec.json.decode(render_error(error, "req_1")) == {
        "type": "error",
        "error": {"type": kind, "message": "No"},
        "request_id": "req_1",
    }
    assert type_of(status) == kind


def test_a_types_status_is_the_one_it_has_outside_a_stream() -> None:
    assert [status_of(kind) for kind in ("overloaded_error", "api_error", "x", None)] == [
        529,
        500,
        None,
        None,
    ]


def test_the_field_and_what_the_vendor_said_stand_beside_the_message() -> None:
    error = InvalidRequest("No", param="tools[0].name", metadata={"provider": "main", "status": 400})
    inner = msgspec.json.decode(render_error(error, "req_1"))["error"]
    assert (inner["param"], inner["metadata"]) == ("tools[0].name", {"provider": "main", "status": 400})


def test_in_a_stream_it_is_an_event() -> None:
    frame = render_stream_error(GatewayError("No", status=529), "req_1")
    assert frame.startswith(b'event: error\ndata: {"type":"error"')
    assert frame.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("messages.0.content: Field required", "messages.0.content"),
        ("max_tokens: 200000 > 64000, which is the maximum", "max_tokens"),
        ("tools.0.custom.input_schema.type: Field required", "tools.0.custom.input_schema.type"),
        ("Your credit balance is too low", None),
        ("Note: this", None),
    ],
)
def test_the_vendors_words_name_the_field(message: str, param: str | None) -> None:
    theirs = read_refusal(msgspec.json.encode({"type": "error", "error": {"type": "x", "message": message}}))
    assert (theirs.message, theirs.type, theirs.param) == (message, "x", param)
    assert read_refusal(b"<html>").message == ""
