"""What the gateway judges of requests for images, sound and moderation.

Only the named fields are looked at; all others pass unjudged and untouched. Whatever the bytes are, a
reader returns a call or raises InvalidRequest with `param`. The vendors let `model` be left out; the
gateway needs it to know where to send the request, and only moderations have a default here.

Shapes: OpenAI's API reference, images, audio/createSpeech, audio/createTranscription, moderations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from raven_proxy import splice
from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Call

from .forms import Form, FormCall, read_form

__all__ = [
    "DEFAULT_MODERATION_MODEL",
    "read_image_edit",
    "read_images",
    "read_moderation",
    "read_recording",
    "read_speech",
    "read_variation",
]

DEFAULT_MODERATION_MODEL = "omni-moderation-latest"
"""OpenAI's own default."""

T = TypeVar("T")
_LONGEST_MODEL = 512
_MOST_IMAGES = 1024
_Model = Annotated[str, Meta(min_length=1, max_length=_LONGEST_MODEL)]
_Count = Annotated[int, Meta(ge=1, le=_MOST_IMAGES)]
_REMEDIES = {
    "n": f"Send a whole number from 1 to {_MOST_IMAGES}.",
    "stream": "Send true or false.",
    "stream_format": 'Send "audio" or "sse".',
    "response_format": "Send a string.",
    "input": "Send a string.",
}
_TRUE = {"true": True, "1": True, "false": False, "0": False, "": False}


class _Images(msgspec.Struct, gc=False):
    model: _Model | None = None
    n: _Count | None = None
    stream: bool | None = None
    response_format: str | None = None


class _Speech(msgspec.Struct, gc=False):
    model: _Model | None = None
    input: str | None = None
    stream_format: str | None = None
    response_format: str | None = None


class _Moderation(msgspec.Struct, gc=False):
    model: _Model | None = None


_decode_images = msgspec.json.Decoder(_Images).decode
_decode_speech = msgspec.json.Decoder(_Speech).decode
_decode_moderation = msgspec.json.Decoder(_Moderation).decode


def read_images(body: bytes) -> Call:
    """Judge a request for new images (JSON). Raises InvalidRequest."""
    members = splice.scan(body)
    images = _decode(_decode_images, body, "gpt-image-1")
    return FormCall(
        model=_check_model(images.model, "gpt-image-1"),
        stream=images.stream is True,
        members=members,
        images=images.n or 1,
        response_format=images.response_format or "",
    )


def read_image_edit(body: bytes) -> Call:
    """Judge a request to edit images (a form or JSON). Raises InvalidRequest."""
    return read_images(body) if body[:64].lstrip()[:1] == b"{" else _read_form(body, "gpt-image-1")


def read_variation(body: bytes) -> Call:
    """Judge a request for variations of an image (a form). Raises InvalidRequest."""
    return _read_form(body, "dall-e-2")


def read_recording(body: bytes) -> Call:
    """Judge a request to transcribe or translate a recording (a form). Raises InvalidRequest."""
    return _read_form(body, "whisper-1")


def read_speech(body: bytes) -> Call:
    """Judge a request for speech (JSON). Raises InvalidRequest."""
    members = splice.scan(body)
    speech = _decode(_decode_speech, body, "gpt-4o-mini-tts")
    if speech.input is None:
        raise InvalidRequest("input: it is missing. Send the text to speak as a string.", param="input")
    return Call(_check_model(speech.model, "gpt-4o-mini-tts"), speech.stream_format == "sse", None, members)


def read_moderation(body: bytes) -> Call:
    """Judge a moderation request (JSON); without a model it is OpenAI's default. Raises InvalidRequest."""
    members = splice.scan(body)
    moderation = _decode(_decode_moderation, body, DEFAULT_MODERATION_MODEL)
    model = moderation.model or DEFAULT_MODERATION_MODEL
    return Call(_check_model(model, DEFAULT_MODERATION_MODEL), False, None, members)


def _read_form(body: bytes, example: str) -> FormCall:
    form = read_form(body, ("model", "stream", "n", "response_format"))
    return FormCall(
        model=_check_model(_field(form, "model"), example),
        stream=_flag(form, "stream"),
        form=form,
        images=_number(form, "n"),
        response_format=_field(form, "response_format") or "",
    )


def _field(form: Form, name: str) -> str | None:
    field = form.fields.get(name)
    return field.text if field is not None else None


def _flag(form: Form, name: str) -> bool:
    text = (_field(form, name) or "").strip().lower()
    if text not in _TRUE:
        raise InvalidRequest(f"{name}: {_REMEDIES[name]}", param=name)
    return _TRUE[text]


def _number(form: Form, name: str) -> int:
    text = (_field(form, name) or "1").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= _MOST_IMAGES):
        raise InvalidRequest(f"{name}: {_REMEDIES[name]}", param=name)
    return int(text)


def _check_model(model: str | None, example: str) -> str:
    if not model:
        raise InvalidRequest(
            f'model: it is missing. Name a model, for example "{example}": the gateway sends the request '
            "where the model is.",
            param="model",
        )
    # The name goes into a reply header and the logs.
    if len(model) > _LONGEST_MODEL or not model.isprintable():
        raise InvalidRequest(
            f"model: give a name of at most {_LONGEST_MODEL} printable characters.", param="model"
        )
    return model


def _decode(decode: Callable[[bytes], T], body: bytes, example: str) -> T:
    try:
        return decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", param="body") from None
    except (msgspec.MsgspecError, ValueError) as error:
        what, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".")
        if not param:
            raise InvalidRequest(f"The body cannot be read: {what[:200]}.", param="body") from None
        remedy = _REMEDIES.get(param, f'Name a model, for example "{example}".')
        said = f"{what[:1].lower()}{what[1:200].rstrip('.')}"
        raise InvalidRequest(f"{param}: {said}. {remedy}", param=param) from None
