"""The provider: Anthropic's API, and the vendors that serve its Messages, told apart by `presets`.

Makes requests and reads replies as bytes; sends nothing. Where the client's dialect is the vendor's,
both pass byte for byte, but for the model's name where an alias was used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raven_proxy import translation
from raven_proxy.errors import InvalidRequest, UpstreamRefused
from raven_proxy.exchange import Candidate, Credential, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.hub import ChatRequest
from raven_proxy.metering import WholeTap
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import refuse
from raven_proxy.upstream import Upstream

from . import requests
from .bodies import build_body
from .content import FAMILY
from .dialect import COUNT_TOKENS, MESSAGES, find_raw_face
from .errors import read_refusal
from .listing import read_listing, write_target
from .models import KNOWN_MODELS, abilities_of
from .presets import Preset
from .provider_side import PROVIDER_SIDE, AnthropicSide
from .taps import StreamTap

__all__ = ["VERSION", "AnthropicProvider"]

VERSION = "2023-06-01"
_ADJUSTED = "X-Raven-Adjusted"
_NOTE = "anthropic"  # the key in `exchange.notes`: how the reply to this attempt is read


class AnthropicProvider:
    """Anthropic and its lookalikes. `presets` has a row for each name, "anthropic" among them."""

    name = "anthropic"

    def __init__(self, presets: Mapping[str, Preset]) -> None:
        self._presets = dict(presets)

    def preset_names(self) -> tuple[str, ...]:
        """List the names beside "anthropic"."""
        return tuple(name for name in self._presets if name != self.name)

    def base_url(self, preset: str) -> str | None:
        """Give the vendor's usual base URL, without a trailing slash; None if it has none."""
        return self._presets[preset].base_url

    def needs_key(self, preset: str) -> bool:
        """Say whether calling this vendor without a key is pointless."""
        return self._presets[preset].needs_key

    def counts_tokens(self, preset: str) -> bool:
        """Say whether this vendor answers `/messages/count_tokens`: see `counting`."""
        return self._presets[preset].counts_tokens

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List Anthropic's own models of late, so that their bare names are found."""
        return KNOWN_MODELS if preset == self.name else ()

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Ask for the vendor's list of models, or its next page; None where it has none."""
        preset = self._presets[upstream.preset]
        if not preset.lists_models:
            return None
        headers = {"anthropic-version": VERSION, **_authorize(preset, upstream.credential)}
        return Outgoing("GET", write_target(upstream.base_path, page), headers, b"")

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read one page of the list. Raises ValueError for anything else."""
        return read_listing(body, upstream.preset)

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks; None where it is not known here."""
        return find_raw_face(method, endpoint)

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the vendor's request: the client's own, or written from the hub.

        Raises InvalidRequest for what cannot be said in Messages.
        """
        candidate, face = _candidate(exchange), exchange.face
        preset = self._presets[candidate.upstream.preset]
        exchange.notes.pop(_NOTE, None)  # left by an attempt at another vendor, like the header
        exchange.response_headers.pop(_ADJUSTED, None)
        headers = self._headers(exchange, preset)
        base = candidate.upstream.base_path
        _, mark, query = exchange.request.raw_path.partition("?")
        if face.raw:
            endpoint = exchange.params["endpoint"]
            if base.endswith("/v1"):  # clients put /v1 behind any base URL
                endpoint = endpoint.removeprefix("v1/")
            target = f"{base}/{endpoint}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        headers.setdefault("content-type", "application/json")
        if face.dialect.name in (MESSAGES.name, COUNT_TOKENS.name):
            target = f"{base}/{face.endpoint}{mark}{query}"
            body = build_body(exchange, signs_thinking=preset.signs_thinking)
            return Outgoing("POST", target, headers, body)
        return Outgoing("POST", f"{base}/messages", headers, self._translate(exchange, preset, headers))

    def _headers(self, exchange: Exchange, preset: Preset) -> dict[str, str]:
        headers = forward_request(exchange.headers)
        headers.setdefault("anthropic-version", VERSION)
        return headers | _authorize(preset, exchange.credential)

    def _translate(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> bytes:
        request = translation.read_request(exchange, ChatRequest)
        limit = _candidate(exchange).upstream.describe(request.model).max_tokens
        limit = limit or abilities_of(request.model).max_tokens
        written = requests.write(request, default_max_tokens=limit, unsigned=not preset.signs_thinking)
        translation.refuse_dropped(exchange, request.dropped)
        if written.adjusted:
            names = [request.names.get(name, name) for name in written.adjusted]
            exchange.response_headers[_ADJUSTED] = ", ".join(names)
        if written.betas:
            theirs = headers.get("anthropic-beta")
            headers["anthropic-beta"] = ",".join([theirs, *written.betas] if theirs else written.betas)
        exchange.notes[_NOTE] = AnthropicSide(written.reading)
        return requests.encode(written, model=request.model, stream=exchange.stream)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Give up: nothing is known that would make a refused request a good one."""
        del exchange, head, body
        return None

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the error that the client will see; see `refusals`."""
        secret = exchange.credential.value if exchange.credential is not None else ""
        name = _candidate(exchange).upstream.name
        return refuse(name, head, body, secret, theirs=read_refusal(body))

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that makes the client's dialect of the reply; None passes bytes untouched."""
        side = exchange.notes.get(_NOTE)
        if side is None or exchange.face.raw:
            return None
        return translation.open_translation(exchange, side, streamed=_is_streamed(exchange, head))

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of the reply; None where nothing is used, or nothing is known."""
        if exchange.face.dialect.name != FAMILY and not exchange.face.opaque:
            return None
        if _is_streamed(exchange, head):
            return StreamTap(exchange, PROVIDER_SIDE.open_reader())
        return WholeTap(exchange, PROVIDER_SIDE.read_reply)


def _authorize(preset: Preset, credential: Credential | None) -> dict[str, str]:
    if credential is None or not credential.value:
        return {}
    if preset.auth == "bearer":
        return {"authorization": f"Bearer {credential.value}"}
    return {"x-api-key": credential.value}


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise InvalidRequest("An upstream must be chosen first.")
    return exchange.candidate


def _is_streamed(exchange: Exchange, head: ReplyHead) -> bool:
    """Judge by what came: a vendor may answer a streamed request with one JSON document."""
    kind = head.headers.get("content-type", "")
    if "event-stream" in kind:
        return True
    return exchange.stream and not kind.startswith("application/json")
