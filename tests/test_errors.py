"""Errors: one envelope, and the words of the contract for each status."""

from __future__ import annotations

import msgspec
import pytest

from raven_proxy import errors
from raven_proxy.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    NoActiveKey,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PluginFailed,
    RateLimited,
    Refused,
    Unauthenticated,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    envelope,
)


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (InvalidRequest("m"), 400, "invalid_request_error", "bad_request"),
        (Unauthenticated("m"), 401, "authentication_error", "invalid_api_key"),
        (Refused("m", status=402), 402, "billing_error", "insufficient_balance"),
        (Refused("m"), 403, "permission_error", "forbidden"),
        (Forbidden("m", code="missing_scope"), 403, "permission_error", "missing_scope"),
        (NotFound("m"), 404, "not_found_error", "not_found"),
        (Refused("m", status=409), 409, "conflict_error", "conflict"),
        (PayloadTooLarge("m"), 413, "invalid_request_error", "payload_too_large"),
        (RateLimited("m", retry_after_s=1), 429, "rate_limit_error", "rate_limit_exceeded"),
        (GatewayError("m"), 500, "internal_error", "internal_error"),
        (PluginFailed("p", "h"), 500, "internal_error", "internal_error"),
        (UpstreamError("m"), 502, "upstream_error", "upstream_error"),
        (UpstreamTimeout("m"), 504, "upstream_error", "upstream_timeout"),
        (NoActiveKey("m"), 503, "upstream_error", "no_active_api_keys"),
        (Overloaded("m"), 503, "upstream_error", "service_unavailable"),
        (UpstreamRefused("m", retryable=False, status=429), 429, "rate_limit_error", "upstream_error"),
    ],
)
def test_each_error_has_the_contracts_words(error: GatewayError, status: int, type_: str, code: str) -> None:
    assert (error.status, error.type, error.code) == (status, type_, code)


def test_the_envelope_has_every_field_and_metadata_only_where_there_is_some() -> None:
    error = InvalidRequest("No.", param="messages[0].role", code="unsupported_parameter")
    assert msgspec.json.decode(envelope(error, "req_1")) == {
        "error": {
            "type": "invalid_request_error",
            "code": "unsupported_parameter",
            "message": "No.",
            "param": "messages[0].role",
            "status": 400,
            "request_id": "req_1",
        }
    }
    error.metadata = {"provider": "openai"}
    assert msgspec.json.decode(envelope(error, "req_1"))["error"]["metadata"] == {"provider": "openai"}


@pytest.mark.parametrize(
    ("wait_s", "header"), [(0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60"), (-3, "1")]
)
def test_retry_after_is_a_whole_number_and_never_too_early(wait_s: float, header: str) -> None:
    assert RateLimited("m", retry_after_s=wait_s).headers == {"Retry-After": header}


def test_a_failed_plugin_says_nothing_of_the_inside() -> None:
    assert b"guardrails" not in envelope(PluginFailed("guardrails", "check_request"), "req_1")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        if isinstance(getattr(errors, name), type):
            assert name in drawn
