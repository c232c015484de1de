"""Forms are read strictly, in linear time and without a copy; only a changed field's bytes change."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_openai.media.calls import read_recording
from raven_openai.media.forms import FormCall, check_form, put_field, read_form

from raven_proxy.errors import InvalidRequest

WANTED = ("model", "stream", "n")
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"----x1") -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--" + boundary + b"--\r\n"


def text(name: str, value: str) -> tuple[bytes, bytes]:
    return f'Content-Disposition: form-data; name="{name}"'.encode(), value.encode()


def test_the_wanted_fields_are_found_wherever_they_stand() -> None:
    body = form((FILE, b"\x00\r\n--\r\n----\r\n" * 3), text("model", "whisper-1"), text("other", "x"))
    found = read_form(body, WANTED)
    assert found.boundary == "----x1"
    assert {name: field.text for name, field in found.fields.items()} == {"model": "whisper-1"}
    assert body[slice(*found.fields["model"].span)] == b"whisper-1"


def test_an_empty_field_is_there_and_empty() -> None:
    body = form((FILE, b""), text("stream", ""), text("model", "m"))
    fields = read_form(body, WANTED).fields
    assert fields["stream"].text == ""
    assert fields["model"].text == "m"


def test_a_field_with_line_ends_in_it_is_read_whole() -> None:
    value = "a\r\nb\r\n--c\r\n"
    body = form(text("model", value))
    found = read_form(body, WANTED).fields["model"]
    assert found.text == value
    assert put_field(body, found, "m") == form(text("model", "m"))


@pytest.mark.parametrize("new", ["m", "whisper-large-v3-turbo", "ünï"])
def test_another_model_changes_no_other_byte(new: str) -> None:
    sound = os.urandom(4096)
    body = form((FILE, sound), text("model", "alias"), text("language", "en"))
    expected = form((FILE, sound), text("model", new), text("language", "en"))
    assert put_field(body, read_form(body, WANTED).fields["model"], new) == expected


def test_a_part_that_states_its_length_states_the_new_one() -> None:
    head = b'Content-Disposition: form-data; name="model"\r\nContent-Length: '
    body = form((head + b"5", b"alias"))
    assert put_field(body, read_form(body, WANTED).fields["model"], "a-longer-one") == form(
        (head + b"12", b"a-longer-one")
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"{}", "body"),
        (b"--x\r\n", "body"),
        (b"\r\n" + form(text("model", "m")), "body"),
        (form(text("model", "m")).replace(b"\r\n", b"\n"), "body"),
        (form(text("model", "m"))[:-6], "body"),
        (form(text("model", "m")) + b"more", "body"),
        (form(text("model", "m")) + form(text("model", "m")), "body"),
        (form((FILE, b"a\r\n------x1--\r\nb"), text("model", "m")), "body"),
        (form((FILE, b"a\n------x1\nb"), text("model", "m")), "body"),
        (form((FILE, b"a\r\n------x12"), text("model", "m")), "body"),
        (form((b"X-A: b", b"1"), text("model", "m")), "body"),
        (form((b"Content-Disposition: attachment; name=model", b"m")), "body"),
        (form((b'Content-Disposition: form-data; name="a"; name="model"', b"m")), "body"),
        (form((b"Content-Disposition: form-data; name=\"a\"; name*=UTF-8''model", b"m")), "body"),
        (form((text("a", "")[0] + b"\r\n" + text("model", "")[0], b"m")), "body"),
        (form(*[text("a", "b")] * 300), "body"),
        (form((text("a", "")[0] + b"\r\nX: y" * 20, b"m")), "body"),
        (form((text("a", "")[0] + b"\r\nX: " + b"y" * 9000, b"m")), "body"),
        (form(text("model", "m"), text("model", "m")), "model"),
        (form(text("model", "m" * 5000)), "model"),
        (form((text("model", "")[0], b"\xff\xfe")), "model"),
        (form((text("model", "")[0] + b'; filename="a"', b"m")), "model"),
        (form((text("model", "")[0] + b"\r\nContent-Transfer-Encoding: base64", b"bQ==")), "model"),
        (form((text("model", "")[0] + b"\r\nContent-Type: text/plain; charset=utf-16", b"m")), "model"),
        (form(text("stream", "true")), "model"),
        (form(text("model", "")), "model"),
        (form(text("model", "a\nb")), "model"),
        (form(text("model", "m"), text("stream", "maybe")), "stream"),
        (form(text("model", "m"), text("n", "-1")), "n"),
        (form(text("model", "m"), text("n", "²")), "n"),
    ],
)
def test_what_is_wrong_or_could_be_read_in_two_ways_is_a_400(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_recording(body)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Disposition: form-data; name=model",
        b'content-disposition:form-data;name="model"',
        b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=UTF-8',
        b'Content-Type: text/plain\r\ncontent-disposition: form-data; name="model"',
        b'Content-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name="model"',
    ],
)
def test_usual_spellings_of_a_field_are_understood(head: bytes) -> None:
    assert read_recording(form((head, b"m"))).model == "m"


@pytest.mark.parametrize("pattern", [b"\r\n", b"\r\n--", b"\r\n------x", b"\r", b"-", b"x------x1"])
def test_the_cost_is_linear_whatever_the_file_holds(pattern: bytes) -> None:
    body = form((FILE, pattern * (8 * 2**20 // len(pattern))), text("model", "m"))
    begun = time.process_time()
    assert read_form(body, WANTED).fields["model"].text == "m"
    assert time.process_time() - begun < 2.0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_are_a_500(data: bytes) -> None:
    for body in (data, b"------x1\r\n" + data, form((FILE, data), text("model", "m")), form((data, b"m"))):
        try:
            call = read_recording(body)
        except InvalidRequest:
            continue
        assert call.model


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_a_form_is_a_500_or_changes_what_is_outside_the_model(data: Any) -> None:
    whole = form((FILE, b"sound\r\n--"), text("model", "alias"), text("n", "2"))
    at = data.draw(st.integers(0, len(whole)))
    body = whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + data.draw(st.integers(0, 6)) :]
    try:
        call = read_recording(body)
    except InvalidRequest:
        return
    assert isinstance(call, FormCall)
    assert call.form is not None
    start, end = call.form.fields["model"].span
    assert put_field(body, call.form.fields["model"], "other") == body[:start] + b"other" + body[end:]


@pytest.mark.parametrize(
    ("sent", "is_good"),
    [
        ("multipart/form-data; boundary=----x1", True),
        ('Multipart/Form-Data; charset=utf-8; Boundary="----x1"', True),
        ("multipart/form-data; boundary=----x1; charset=utf-8", True),
        ("multipart/form-data", False),
        ("multipart/form-data; boundary=other", False),
        ("multipart/form-data; boundary=----x1; boundary=other", False),
        ("multipart/form-data; boundary=other; x=y; boundary=----x1", False),
        ("multipart/form-data; boundary*=utf-8''other; boundary=----x1", False),
        ("multipart/form-data, multipart/form-data; boundary=----x1", False),
        ("application/json", False),
        ("multipart/mixed; boundary=----x1", False),
        ("", False),
    ],
)
def test_the_header_has_to_name_the_bodys_own_boundary(sent: str, is_good: bool) -> None:
    exchange: Any = SimpleNamespace(
        call=read_recording(form(text("model", "m"))), headers={"content-type": sent} if sent else {}
    )
    if is_good:
        check_form(exchange)
        return
    with pytest.raises(InvalidRequest) as caught:
        check_form(exchange)
    assert caught.value.param == "Content-Type"


def test_recorded_forms_of_real_clients_are_read(recorded: Callable[[str], list[dict[str, Any]]]) -> None:
    for recording in recorded("openai/audio-transcriptions*"):
        request = recording["request"]
        body = base64.b64decode(request["body_b64"])
        call = read_recording(body)
        assert call.model == "gpt-4o-transcribe-diarize"
        assert call.stream
        exchange: Any = SimpleNamespace(call=call, headers=request["headers"])
        check_form(exchange)
    for recording in recorded("*/files-files-*"):
        if recording["request"].get("body_b64"):
            body = base64.b64decode(recording["request"]["body_b64"])
            assert read_form(body, ("purpose",)).boundary
