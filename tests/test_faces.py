"""Faces and dialects: what the core must write itself, its errors."""

from __future__ import annotations

import msgspec
import pytest

from raven_proxy import Face, InvalidRequest, read_nothing
from raven_proxy.faces import ENVELOPE, NO_CALL, UNROUTED


def test_the_plain_envelope_is_the_same_in_a_stream_and_out_of_one() -> None:
    error = InvalidRequest("No.")
    whole = ENVELOPE.render_error(error, "req_1")
    assert ENVELOPE.render_stream_error is not None
    assert ENVELOPE.render_stream_error(error, "req_1") == b"data: " + whole + b"\n\n"
    assert msgspec.json.decode(whole)["error"]["request_id"] == "req_1"


def test_a_body_that_need_not_be_understood_is_a_call_without_a_model() -> None:
    for call in (read_nothing(b"\xff"), NO_CALL):
        assert (call.model, call.stream, dict(call.members)) == (None, False, {})


def test_a_face_is_fixed_once_it_is_made() -> None:
    face = Face(name="x", path="/x", read_call=read_nothing)
    assert (face.methods, face.scope, face.public, face.raw) == (("POST",), None, False, False)
    with pytest.raises(AttributeError):
        face.scope = "chat:write"  # type: ignore[misc]


def test_what_found_no_face_is_answered_without_a_key_and_served_nothing() -> None:
    assert UNROUTED.public
    assert UNROUTED.serve is None
