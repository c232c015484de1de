"""Images, speech, recordings and moderation, passed to vendors that have OpenAI's endpoints for them.

Requests keep every byte but the model's where an alias stands for it; replies pass untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raven_openai.dialect import render_stream_error
from raven_openai.operations import Operation
from raven_openai.presets import Preset
from raven_proxy import splice
from raven_proxy.errors import envelope
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead, Usage
from raven_proxy.faces import Dialect, Stage
from raven_proxy.providers import UsageTap

from . import usage
from .calls import DEFAULT_MODERATION_MODEL
from .forms import FormCall, put_field
from .taps import Document, DocumentTap, EventsTap, SilentTap, TextTap

__all__ = ["IMAGES", "MODERATIONS", "OPERATIONS", "SPEECH", "TRANSCRIPTIONS", "TRANSLATIONS"]

IMAGES = Dialect("openai.images", envelope, render_stream_error)
SPEECH = Dialect("openai.audio.speech", envelope, render_stream_error)
TRANSCRIPTIONS = Dialect("openai.audio.transcriptions", envelope, render_stream_error)
TRANSLATIONS = Dialect("openai.audio.translations", envelope, render_stream_error)
MODERATIONS = Dialect("openai.moderations", envelope)

_TapOpener = Callable[[Exchange, str, str], UsageTap | None]
"""Opens a tap for an exchange, the reply's media type, and the secret to keep out of messages."""


class _Input(msgspec.Struct):
    input: str = ""


_decode_input = msgspec.json.Decoder(_Input).decode


class _Passing:
    """One of the dialects."""

    def __init__(self, dialect: Dialect, open_tap: _TapOpener) -> None:
        self.dialect = dialect
        self._open_tap = open_tap

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself."""
        return self.dialect.name not in preset.lacks

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request: the client's body with the model's own name in it."""
        candidate = exchange.candidate
        assert candidate is not None
        endpoint = exchange.face.endpoint
        endpoint = preset.endpoints.get(endpoint, endpoint)
        return Outgoing("POST", f"{candidate.upstream.base_path}/{endpoint}", headers, _body(exchange))

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give nothing: replies pass untouched."""
        del exchange, head, preset
        return None

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter the reply by what it is."""
        del preset
        kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        secret = exchange.credential.value if exchange.credential is not None else ""
        return self._open_tap(exchange, kind, secret)


def _body(exchange: Exchange) -> bytes:
    call, candidate, body = exchange.call, exchange.candidate, exchange.body
    if candidate is None or candidate.model is None:
        return body
    form = call.form if isinstance(call, FormCall) else None
    if form is not None:
        field = form.fields["model"]
        return body if field.text == candidate.model else put_field(body, field, candidate.model)
    if "model" not in call.members:  # moderations: OpenAI itself takes the same default
        if candidate.model == DEFAULT_MODERATION_MODEL and candidate.upstream.preset == "openai":
            return body
    elif candidate.model == call.model and body[slice(*call.members["model"])] != b"null":
        return body
    return splice.put(body, call.members, "model", candidate.model)


def _tap_images(exchange: Exchange, kind: str, secret: str) -> UsageTap | None:
    del exchange

    def measure(document: Document) -> Usage:
        images = document.count_data()
        return usage.read_table(document.usage, images=images) or usage.count_images(images)

    def measure_stream(table: Any, results: int, written: int) -> Usage:
        del written
        return usage.read_table(table, images=results) or usage.count_images(results)

    return EventsTap(measure_stream, secret) if kind == "text/event-stream" else DocumentTap(measure, secret)


def _tap_speech(exchange: Exchange, kind: str, secret: str) -> UsageTap | None:
    def guess() -> Usage:
        try:
            return usage.guess_speech(_decode_input(exchange.body).input)
        except (msgspec.MsgspecError, ValueError, RecursionError):  # a raw path's own form of it
            return Usage(estimated=True)

    def measure_stream(table: Any, results: int, written: int) -> Usage:
        del results, written
        return usage.read_table(table) or guess()

    if kind == "text/event-stream":
        return EventsTap(measure_stream, secret)
    if kind == "application/json":  # Mistral answers so, with base64 in it
        return DocumentTap(lambda document: usage.read_table(document.usage) or guess(), secret)
    return SilentTap(guess())


def _tap_recording(exchange: Exchange, kind: str, secret: str) -> UsageTap | None:
    del exchange

    def measure(document: Document) -> Usage:
        written = len(memoryview(document.text))
        return usage.read_table(document.usage) or usage.guess_recording(written, document.duration)

    def measure_stream(table: Any, results: int, written: int) -> Usage:
        del results
        return usage.read_table(table) or usage.guess_recording(written)

    if kind == "text/event-stream":
        return EventsTap(measure_stream, secret)
    return DocumentTap(measure, secret) if kind == "application/json" else TextTap()


def _tap_moderation(exchange: Exchange, kind: str, secret: str) -> UsageTap | None:
    del exchange, kind
    return DocumentTap(lambda document: usage.read_table(document.usage) or Usage(), secret)


OPERATIONS: tuple[Operation, ...] = (
    _Passing(IMAGES, _tap_images),
    _Passing(SPEECH, _tap_speech),
    _Passing(TRANSCRIPTIONS, _tap_recording),
    _Passing(TRANSLATIONS, _tap_recording),
    _Passing(MODERATIONS, _tap_moderation),
)
