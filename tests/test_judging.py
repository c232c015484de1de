"""Judging bodies: `raven_proxy.judging`."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.errors import InvalidRequest
from raven_proxy.judging import Limit, ModelName, check_model, judge


class _Turn(msgspec.Struct):
    role: str


class _Body(msgspec.Struct):
    model: ModelName
    turns: list[_Turn] = []
    limit: Limit | None = None


decode = msgspec.json.Decoder(_Body).decode


def refusal(body: bytes, **remedies: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        judge(decode, body, {name.replace("_", "[]."): text for name, text in remedies.items()})
    return caught.value


def test_a_good_body_is_decoded() -> None:
    assert judge(decode, b'{"model":"m","turns":[{"role":"user"}],"else":1}').turns[0].role == "user"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"turns":[]}', "model"),
        (b'{"model":""}', "model"),
        (b'{"model":7}', "model"),
        (b'{"model":"m","turns":[{"role":"a"},{"role":1}]}', "turns[1].role"),
        (b'{"model":"m","turns":[{}]}', "turns[0].role"),
        (b'{"model":"m","limit":-1}', "limit"),
        (b'{"model":"m","limit":NaN}', None),
        (b"[", None),
    ],
)
def test_a_bad_body_is_a_400_that_names_the_place(body: bytes, param: str | None) -> None:
    error = refusal(body)
    assert (error.status, error.param) == (400, param)


def test_the_remedy_of_the_place_is_in_the_message() -> None:
    error = refusal(b'{"model":"m","turns":[{"role":1}]}', turns_role="Use a word.")
    assert error.message.endswith("Use a word.")


@pytest.mark.parametrize("text", [rb"\ud800", rb"a\uDBFFb", rb"\\\\\ud83d!"])
def test_a_lone_surrogate_is_called_one(text: bytes) -> None:
    """Not "truncated": nothing is missing at the end."""
    body = b'{"model":"' + text + b'","limit":1}'
    for whole in (body, body[: body.index(b",")] + b"}"):
        place = whole.index(rb"\u")
        assert refusal(whole).message == f"The body is not valid JSON at byte {place}: a lone surrogate."
    assert "lone" not in refusal(b'{"model":"a').message


def test_deep_nesting_is_a_400() -> None:
    class Anything(msgspec.Struct):
        value: object = None

    with pytest.raises(InvalidRequest):
        judge(msgspec.json.Decoder(Anything).decode, b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_model_with_a_control_character_is_refused() -> None:
    assert check_model("org/model:free") == "org/model:free"
    with pytest.raises(InvalidRequest):
        check_model("a\nb")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_400(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        judge(decode, body)


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner = msgspec.field(default_factory=Inner)


def test_a_field_that_is_not_known_is_the_param() -> None:
    decode = msgspec.json.Decoder(Outer).decode
    for body, param in ((b'{"colour":1}', "colour"), (b'{"inner":{"colour":1}}', "inner.colour")):
        with pytest.raises(InvalidRequest) as caught:
            judge(decode, body)
        assert caught.value.param == param
        assert caught.value.message == f"{param}: there is no such field. Correct it or leave it out."
