"""A vendor's error keeps its meaning and loses its secrets, whatever shape it came in."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.errors import UpstreamRefused, envelope
from raven_proxy.exchange import ReplyHead
from raven_proxy.refusals import describe, read_error, refuse, scrub

SECRET = "sk-proj-NeverShowThis0123456789"


def make(status: int, body: Any, **headers: str) -> UpstreamRefused:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = ReplyHead(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return refuse("main", head, raw, SECRET)


@pytest.mark.parametrize(
    ("status", "ours", "kind", "code", "retryable"),
    [
        (400, 400, "invalid_request_error", "bad_request", False),
        (401, 502, "upstream_error", "upstream_error", True),
        (402, 402, "billing_error", "insufficient_balance", True),
        (403, 502, "upstream_error", "upstream_error", True),
        (404, 404, "not_found_error", "not_found", False),
        (408, 408, "invalid_request_error", "bad_request", True),
        (409, 409, "conflict_error", "conflict", True),
        (413, 413, "invalid_request_error", "payload_too_large", False),
        (422, 422, "invalid_request_error", "bad_request", False),
        (429, 429, "rate_limit_error", "rate_limit_exceeded", True),
        (500, 500, "upstream_error", "upstream_error", True),
        (502, 502, "upstream_error", "upstream_error", True),
        (503, 503, "upstream_error", "service_unavailable", True),
        (504, 504, "upstream_error", "upstream_timeout", True),
        (529, 529, "upstream_error", "upstream_error", True),
    ],
)
def test_the_status_decides(status: int, ours: int, kind: str, code: str, retryable: bool) -> None:
    error = make(status, {"error": {"message": "No."}})
    assert (error.status, error.type, error.code, error.retryable) == (ours, kind, code, retryable)
    assert error.message.endswith("No.")
    assert error.metadata is not None
    assert error.metadata["status"] == status


@pytest.mark.parametrize(
    ("body", "message", "code", "param"),
    [
        (
            {
                "error": {
                    "message": "Too long.",
                    "type": "t",
                    "code": "context_length_exceeded",
                    "param": "messages",
                }
            },
            "Too long.",
            "context_length_exceeded",
            "messages",
        ),
        ({"error": {"code": 400, "message": "No.", "type": "t"}}, "No.", "bad_request", None),
        ({"error": {"code": "400", "message": "No."}}, "No.", "bad_request", None),
        ({"error": "text", "code": "invalid-argument"}, "text", "invalid-argument", None),
        ({"error": "text"}, "text", "bad_request", None),
        ({"message": "flat"}, "flat", "bad_request", None),
        ({"detail": "Invalid"}, "Invalid", "bad_request", None),
        ({"object": "error", "message": "M", "type": "t", "code": "3051", "param": None}, "M", "3051", None),
        ({"object": "error", "message": "M", "code": 1000}, "M", "1000", None),
        (
            [{"error": {"code": 400, "message": "Gemini", "status": "INVALID_ARGUMENT"}}],
            "Gemini",
            "bad_request",
            None,
        ),
        (
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Not permitted"}]},
            "top_k: Not permitted",
            "bad_request",
            "top_k",
        ),
        (
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "a", 0], "msg": "Bad"}]},
                "code": None,
            },
            "a.0: Bad",
            "bad_request",
            "a.0",
        ),
        ("just a string", "just a string", "bad_request", None),
    ],
)
def test_every_known_shape_is_read(body: Any, message: str, code: str, param: str | None) -> None:
    error = make(400, body)
    assert (error.message, error.code, error.param) == (message, code, param)
    assert error.metadata is not None
    assert error.metadata["message"] == message


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"17", b'{"error":{}}', b'{"error":null}', b'{"message":7}']
)
def test_a_reply_without_words_gets_ours(body: bytes) -> None:
    assert make(500, body).message == "The provider answered with status 500."


def test_a_message_may_be_nested_deeper_than_calls() -> None:
    document: dict[str, Any] = {"message": "deep down"}
    for _ in range(5000):
        document = {"message": document}
    assert describe(document).message == "deep down"


def test_a_page_becomes_plain_bounded_text() -> None:
    page = (
        b"<html><head><title>x</title></head><body><script>evil()</script><h1>502 Bad\nGateway</h1>%s</body>"
    )
    error = make(502, page % (b"word " * 5000))
    assert error.message == "The provider answered with status 502."
    assert error.metadata is not None
    text = error.metadata["message"]
    assert text.startswith("502 Bad Gateway word")
    assert len(text) <= 2048
    assert "<" not in text
    assert "evil" not in text
    assert make(503, b"upstream connect error \xff\xfe").metadata["message"].startswith("upstream connect")  # type: ignore[index]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("7", "7"),
        ("2.3", "3"),
        ("0", "1"),
        ("-1", "1"),
        ("soon", "1"),
        ("", "1"),
        ("nan", "1"),
        ("1e99", "1"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1"),
        ("Wed, 21 Oct 2026 07:28:00 +99999999999999999999", "1"),
    ],
)
def test_a_rate_limit_always_says_when_to_come_back(sent: str, received: str) -> None:
    assert make(429, {"error": {"message": "Slow down"}}, retry_after=sent).headers == {
        "Retry-After": received
    }


def test_other_errors_pass_on_a_wait_only_if_the_vendor_names_one() -> None:
    assert make(503, b"", retry_after="5").headers == {"Retry-After": "5"}
    assert make(503, b"").headers == {}


def test_the_vendors_request_id_is_kept() -> None:
    error = make(400, b"{}", cf_ray="8f-FRA", x_request_id="req_abc")
    assert error.metadata is not None
    assert error.metadata["request_id"] == "req_abc"
    assert "request_id" not in (make(400, b"{}", x_request_id="two words").metadata or {})


@pytest.mark.parametrize(
    "needle",
    [
        SECRET,
        "sk-abcdef123456",
        "sk-or-v1-0123456789abcdef",
        "sk-ab********cdef",
        "****-key",
        "gsk_0123456789abcdef",
        "xai-0123456789abcdef",
        "rk_live_0123456789abcdef",
        "AIzaSyA0123456789abcdef",
        "hf_0123456789abcdef",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
        "org-Ab1234567890",
    ],
)
@pytest.mark.parametrize("place", ["{}", "key {}.", "<{}>", "?key={}&x=1", "Bearer {}", '"api_key={}"'])
def test_t66_no_secret_survives(needle: str, place: str) -> None:
    body = {"error": {"message": place.format(needle), "type": needle, "code": needle, "param": needle}}
    for status in (400, 401, 500):
        error = make(status, body, x_request_id="req_1")
        assert needle.encode() not in envelope(error, "req_1")
    page = f"<html>{place.format(needle)}</html>".encode()
    assert needle.encode() not in envelope(make(502, page), "req_1")


def test_t66_a_secret_at_the_cut_is_not_left_in_part() -> None:
    error = make(400, {"error": {"message": "x" * 2040 + SECRET}})
    assert "sk-" not in error.message


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4o` does not exist.",
        "Invalid value for 'tool_choice': keyboard-interrupt, user-provided skateboards, **bold**.",
        "Missing required parameter: 'messages[0].content'. See https://platform.openai.com/docs/api-reference",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert scrub(text, SECRET) == text


def test_control_characters_do_not_reach_logs_or_terminals() -> None:
    assert scrub("a\x1b[31mb\nc\u2028d\x00") == "a [31mb c d "


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "sk-" * 7_000, "eyJ-" * 5_000, "*a" * 10_000, "<head" * 4_000]
)
def test_scrubbing_takes_linear_time(text: str) -> None:
    started = time.perf_counter()
    make(500, text.encode())
    make(500, {"error": {"message": text}})
    assert time.perf_counter() - started < 1


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "type", "param", "loc", "msg"]), inner
        )
    ),
    max_leaves=15,
)


@given(body=st.binary(max_size=100) | SHAPES.map(msgspec.json.encode), status=st.integers(400, 599))
def test_any_reply_becomes_an_error(body: bytes, status: int) -> None:
    error = refuse("main", ReplyHead(status, {}), body, SECRET)
    assert error.message
    assert isinstance(error.code, str)
    assert error.param is None or isinstance(error.param, str)
    envelope(error, "req_1")
    read_error(body)
