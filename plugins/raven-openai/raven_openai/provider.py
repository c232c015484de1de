"""The provider: OpenAI's API, and every vendor that copies it, told apart by `presets`.

Makes requests and reads replies as bytes; sends nothing. Where the client's dialect is the vendor's,
requests and replies pass byte for byte, but for what `bodies` and `replies` name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from raven_proxy.errors import InvalidRequest, UpstreamRefused
from raven_proxy.exchange import Candidate, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import refuse

from .bodies import build_body
from .calls import StreamCall
from .dialect import CHAT, COMPLETIONS, EMBEDDINGS, find_raw_face
from .presets import Preset
from .replies import open_stage
from .taps import Metering, StreamTap, WholeTap

__all__ = ["OpenAIProvider"]

_DIALECTS = (CHAT, COMPLETIONS, EMBEDDINGS)
_HIDES_USAGE = "openai"  # the key in `exchange.notes`; there while the usage chunk is ours to hide


class OpenAIProvider:
    """OpenAI and its lookalikes. `presets` has a row for each name, "openai" among them."""

    name = "openai"

    def __init__(self, presets: Mapping[str, Preset]) -> None:
        self._presets = dict(presets)
        rows = presets.values()
        self._usual_endpoints = {theirs: usual for row in rows for usual, theirs in row.endpoints.items()}

    def preset_names(self) -> tuple[str, ...]:
        """List the names beside "openai"."""
        return tuple(name for name in self._presets if name != self.name)

    def base_url(self, preset: str) -> str | None:
        """Give the vendor's usual base URL, without a trailing slash; None if it has none."""
        return self._presets[preset].base_url

    def needs_key(self, preset: str) -> bool:
        """Say whether calling this vendor without a key is pointless."""
        return self._presets[preset].needs_key

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: vendors change their models faster than this package is published."""
        del preset
        return ()

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks; None where it is not known here."""
        return find_raw_face(method, self._usual_endpoints.get(endpoint, endpoint))

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the vendor's request.

        A raw face sends the client's body, path and query as they are. Otherwise see `bodies`; a client
        whose dialect is not OpenAI's is refused (InvalidRequest).
        """
        candidate, face = _candidate(exchange), exchange.face
        preset = self._presets[candidate.upstream.preset]
        headers = forward_request(exchange.headers)
        if exchange.credential is not None and exchange.credential.value:
            headers["authorization"] = f"Bearer {exchange.credential.value}"
        exchange.notes.pop(_HIDES_USAGE, None)  # left by an attempt at another vendor
        base = candidate.upstream.base_path
        if face.raw:
            _, mark, query = exchange.request.raw_path.partition("?")
            target = f"{base}/{exchange.params['endpoint']}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        if face.dialect not in _DIALECTS:
            raise InvalidRequest(
                f"{candidate.upstream.name} does not speak {face.dialect.name}; choose another model.",
                param="model",
            )
        headers.setdefault("content-type", "application/json")
        call = exchange.call
        ask_usage = (
            preset.usage_in_stream == "asked"
            and isinstance(call, StreamCall)
            and call.stream
            and not call.include_usage
        )
        body = build_body(exchange, preset, ask_usage=ask_usage)
        if ask_usage:
            exchange.notes[_HIDES_USAGE] = True
        endpoint = preset.endpoints.get(face.endpoint, face.endpoint)
        return Outgoing("POST", f"{base}/{endpoint}", headers, body)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a stream request again without `stream_options`, if it was ours and is what was refused."""
        is_about_it = b"stream_options" in body or b"include_usage" in body
        if head.status not in {400, 422} or not is_about_it or exchange.outgoing is None:
            return None
        if exchange.notes.pop(_HIDES_USAGE, None) is None:
            return None
        preset = self._presets[_candidate(exchange).upstream.preset]
        plain = build_body(exchange, preset, ask_usage=False)
        return msgspec.structs.replace(exchange.outgoing, body=plain)

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the error that the client will see; see `refusals`."""
        return refuse(_candidate(exchange).upstream.name, head, body, _secret(exchange))

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that hides the usage chunk or sets finish reasons right; mostly None."""
        face = exchange.face
        if face.raw or face.dialect is EMBEDDINGS:
            return None
        words = self._presets[_candidate(exchange).upstream.preset].finish_words
        is_hiding = _HIDES_USAGE in exchange.notes
        if words is None and not is_hiding:
            return None
        return open_stage(streamed=_is_streamed(exchange, head), hide_usage=is_hiding, words=words)

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of the reply; None for endpoints whose dialect is not known here."""
        dialect = exchange.face.dialect
        if dialect not in _DIALECTS:
            return None
        preset = self._presets[_candidate(exchange).upstream.preset]
        metering = Metering(
            exchange.body,
            dialect is CHAT,
            dialect is EMBEDDINGS,
            preset.ends_with_done,
            preset.reasoning_apart,
            preset.finish_words or {},
            _secret(exchange),
        )
        return StreamTap(metering) if _is_streamed(exchange, head) else WholeTap(metering)


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate


def _secret(exchange: Exchange) -> str:
    return exchange.credential.value if exchange.credential is not None else ""


def _is_streamed(exchange: Exchange, head: ReplyHead) -> bool:
    """Judge by what came: some vendors answer a streamed request with one JSON document."""
    kind = head.headers.get("content-type", "")
    if "event-stream" in kind:
        return True
    return exchange.stream and not kind.startswith("application/json")
