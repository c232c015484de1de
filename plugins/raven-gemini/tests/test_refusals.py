"""Google's errors become the gateway's: statuses, waits, bad keys, whatever wraps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_gemini.refusals import refuse_google

from raven_proxy.exchange import Exchange, ReplyHead

Make = Callable[..., Exchange]
SECRET = "AIzaNeverShowThis0123456789"
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48.2s"}


def body(code: int, status: str, *details: Any, message: str = "It failed.") -> bytes:
    error = {"code": code, "message": message, "status": status, "details": [*details]}
    return msgspec.json.encode({"error": error})


@pytest.mark.parametrize(
    ("status", "word", "ours", "kind", "code", "retryable"),
    [
        (400, "INVALID_ARGUMENT", 400, "invalid_request_error", "bad_request", False),
        (400, "FAILED_PRECONDITION", 400, "invalid_request_error", "bad_request", False),
        (401, "UNAUTHENTICATED", 502, "upstream_error", "upstream_error", True),
        (402, "FAILED_PRECONDITION", 402, "billing_error", "insufficient_balance", True),
        (403, "PERMISSION_DENIED", 502, "upstream_error", "upstream_error", True),
        (404, "NOT_FOUND", 404, "not_found_error", "not_found", False),
        (409, "ABORTED", 409, "conflict_error", "conflict", True),
        (429, "RESOURCE_EXHAUSTED", 429, "rate_limit_error", "rate_limit_exceeded", True),
        (500, "INTERNAL", 500, "upstream_error", "upstream_error", True),
        (501, "UNIMPLEMENTED", 501, "upstream_error", "upstream_error", True),
        (503, "UNAVAILABLE", 503, "upstream_error", "service_unavailable", True),
        (504, "DEADLINE_EXCEEDED", 504, "upstream_error", "upstream_timeout", True),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_status(
    status: int, word: str, ours: int, kind: str, code: str, retryable: bool, wrapped: bool
) -> None:
    """Alone or in an array: the status, Google's message, and its word beside the gateway's."""
    content = body(status, word)
    error = refuse_google(
        "main", ReplyHead(status, {}), b"[" + content + b"]" if wrapped else content, SECRET
    )
    assert (error.status, error.type, error.code, error.retryable) == (ours, kind, code, retryable)
    assert "It failed." in error.message
    assert error.metadata is not None
    assert (error.metadata["type"], error.metadata["status"]) == (word, status)


def test_a_bad_key_is_the_gateways_fault() -> None:
    """Google says 400 of it; the client did not send that key."""
    details = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    content = body(400, "INVALID_ARGUMENT", details, message=f"API key not valid: {SECRET}")
    error = refuse_google("main", ReplyHead(400, {}), content, SECRET)
    assert error.status == 502
    assert error.retryable
    assert SECRET not in error.message + repr(error.metadata)


@pytest.mark.parametrize(
    ("details", "headers", "wait"),
    [
        ([RETRY], {}, "49"),
        ([{"retryDelay": "34s"}], {}, "34"),
        ([{"retryDelay": "0.001s"}], {}, "1"),
        ([RETRY], {"retry-after": "7"}, "7"),
        ([{"retryDelay": "soon"}, "odd", None], {}, "1"),
        ([], {}, "1"),
    ],
)
def test_the_wait_stands_in_the_details(details: Any, headers: Any, wait: str) -> None:
    """Google sends no Retry-After; a 429 of ours always has one."""
    error = refuse_google("main", ReplyHead(429, headers), body(429, "RESOURCE_EXHAUSTED", *details), SECRET)
    assert error.headers == {"Retry-After": wait}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b"[]",
        b"[[]]",
        b'{"error":"text"}',
        b'{"error":{"details":5}}',
        b"\xff{",
    ],
)
def test_anything_else_is_an_error_too(content: bytes) -> None:
    """HTML, nothing, or what only looks like Google's."""
    assert refuse_google("main", ReplyHead(502, {}), content, SECRET).status == 502


def test_recorded_errors(recordings: list[Any], make_exchange: Make, provider: Any) -> None:
    """Eight of them, with JSON behind the content type of a stream among them."""
    found = [r for r in recordings if r.surface.startswith("gemini.") and r.status >= 400]
    assert len(found) >= 6
    for recording in found:
        head = ReplyHead(recording.status, recording.response["headers"])
        error = provider.read_refusal(make_exchange(), head, recording.body)
        said = msgspec.json.decode(recording.body)["error"]
        is_key = "API_KEY_INVALID" in recording.response["body"]
        assert error.status == (502 if is_key or recording.status == 403 else recording.status), recording.id
        assert said["message"][:40] in error.message, recording.id
        if recording.status == 429:
            assert error.headers == {"Retry-After": "48"}
