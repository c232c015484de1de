"""Text in OpenAI's own dialects: chat, completions and embeddings for clients that speak them.

Requests and replies pass byte for byte, but for what `bodies`, `replies` and `vectors` name.
"""

from __future__ import annotations

from raven_proxy import splice
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Dialect, Stage
from raven_proxy.providers import UsageTap

from .bodies import build_body
from .calls import EmbeddingsCall, StreamCall
from .dialect import CHAT, COMPLETIONS, EMBEDDINGS
from .presets import Preset
from .replies import open_stage
from .taps import Metering, StreamTap, WholeTap
from .vectors import Recoding

__all__ = ["HIDES_USAGE", "OPERATIONS", "is_streamed"]

HIDES_USAGE = "openai"  # the key in `exchange.notes`; there while the usage chunk is ours to hide


class _Passing:
    """One of the dialects. `is_chat` and `is_embeddings` say where the model's words stand."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._is_chat = dialect is CHAT
        self._is_embeddings = dialect is EMBEDDINGS

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself."""
        return self.dialect.name not in preset.lacks

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request; see `bodies`."""
        candidate = exchange.candidate
        assert candidate is not None
        headers.setdefault("content-type", "application/json")
        call = exchange.call
        ask_usage = (
            preset.usage_in_stream == "asked"
            and isinstance(call, StreamCall)
            and call.stream
            and not call.include_usage
        )
        body = build_body(exchange, preset, ask_usage=ask_usage)
        if self._is_embeddings and preset.vectors == "int8" and "encoding_format" in call.members:
            body = splice.remove(body, splice.scan(body), "encoding_format")  # honoured by `vectors` instead
        if ask_usage:
            exchange.notes[HIDES_USAGE] = True
        endpoint = exchange.face.endpoint
        endpoint = preset.endpoints.get(endpoint, endpoint)
        return Outgoing("POST", f"{candidate.upstream.base_path}/{endpoint}", headers, body)

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give the stage that hides the usage chunk or sets finish reasons right; mostly None."""
        if self._is_embeddings:
            return _recode(exchange, preset)
        words = preset.finish_words
        is_hiding = HIDES_USAGE in exchange.notes
        if words is None and not is_hiding:
            return None
        return open_stage(streamed=is_streamed(exchange, head), hide_usage=is_hiding, words=words)

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter the reply."""
        credential = exchange.credential
        metering = Metering(
            exchange.body,
            self._is_chat,
            self._is_embeddings,
            preset.ends_with_done,
            preset.reasoning_apart,
            preset.finish_words or {},
            credential.value if credential is not None else "",
        )
        return StreamTap(metering) if is_streamed(exchange, head) else WholeTap(metering)


def _recode(exchange: Exchange, preset: Preset) -> Stage | None:
    call = exchange.call
    wants_base64 = isinstance(call, EmbeddingsCall) and call.wants_base64
    if preset.vectors == "int8":
        return Recoding(packed=wants_base64, code="b")
    return Recoding(packed=True, code="f") if wants_base64 and preset.vectors == "float" else None


OPERATIONS = (_Passing(CHAT), _Passing(COMPLETIONS), _Passing(EMBEDDINGS))


def is_streamed(exchange: Exchange, head: ReplyHead) -> bool:
    """Judge by what came: some vendors answer a streamed request with one JSON document."""
    kind = head.headers.get("content-type", "")
    if "event-stream" in kind:
        return True
    return exchange.stream and not kind.startswith("application/json")
