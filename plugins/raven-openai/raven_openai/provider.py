"""The provider: OpenAI's API, and every vendor that copies it, told apart by `presets`.

Makes requests and reads replies as bytes; sends nothing. Where the client's dialect is the vendor's,
an `Operation` passes requests and replies; another dialect is translated through the hub by a `Vendor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from raven_proxy import splice, translation
from raven_proxy.config import decode_table
from raven_proxy.errors import UpstreamRefused
from raven_proxy.exchange import Candidate, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.hub import ChatRequest
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import refuse
from raven_proxy.upstream import Upstream

from .bodies import build_body
from .listing import build_listing, read_listing
from .operations import Operation
from .passing import HIDES_USAGE, is_streamed
from .presets import Preset
from .registry import OPERATIONS, RESPONSES, VENDORS, find_raw_face, serving
from .vendors import Vendor

__all__ = ["OpenAIProvider", "Options"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of an upstream. With `api = "responses"` every chat goes to `responses` instead."""

    api: Literal["chat", "responses"] = "chat"


class _Row(msgspec.Struct, frozen=True):
    preset: Preset
    operations: dict[str, Operation]


class OpenAIProvider:
    """OpenAI and its lookalikes. `presets` has a row for each name, "openai" among them."""

    name = "openai"
    stored_options = frozenset({"api"})

    def __init__(self, presets: Mapping[str, Preset]) -> None:
        self._rows = {name: _Row(preset, serving(preset)) for name, preset in presets.items()}
        rows = presets.values()
        self._usual_endpoints = {theirs: usual for row in rows for usual, theirs in row.endpoints.items()}

    def preset_names(self) -> tuple[str, ...]:
        """List the names beside "openai"."""
        return tuple(name for name in self._rows if name != self.name)

    def base_url(self, preset: str) -> str | None:
        """Give the vendor's usual base URL, without a trailing slash; None if it has none."""
        return self._rows[preset].preset.base_url

    def needs_key(self, preset: str) -> bool:
        """Say whether calling this vendor without a key is pointless."""
        return self._rows[preset].preset.needs_key

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: vendors change their models faster than this package is published."""
        del preset
        return ()

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge an upstream's `options`. Raises ConfigError with the nearest known key."""
        del preset
        decode_table(dict(options), Options, "options")

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Ask for the vendor's models; a vendor without a list says 404."""
        del page
        return build_listing(upstream)

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read the list, which has one page."""
        return read_listing(upstream, body), None

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks; None where it is not known here."""
        return find_raw_face(method, self._usual_endpoints.get(endpoint, endpoint))

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make the vendor's request.

        A raw face sends the client's body, path and query as they are. A dialect that the vendor has is
        passed on by its operation, another is translated; InvalidRequest where it cannot be.
        """
        candidate, face = _candidate(exchange), exchange.face
        upstream = candidate.upstream
        row = self._rows[upstream.preset]
        headers = forward_request(exchange.headers)
        if exchange.credential is not None and exchange.credential.value:
            headers["authorization"] = f"Bearer {exchange.credential.value}"
        exchange.notes.pop(HIDES_USAGE, None)  # left by an attempt at another vendor
        if face.raw:
            _, mark, query = exchange.request.raw_path.partition("?")
            target = f"{upstream.base_path}/{exchange.params['endpoint']}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        operation = row.operations.get(face.dialect.name)
        if operation is None or (upstream.options and _is_elsewhere(exchange)):
            return _translate(exchange, row.preset, headers)
        return operation.build(exchange, row.preset, headers)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a stream request again without `stream_options`, if it was ours and is what was refused."""
        is_about_it = b"stream_options" in body or b"include_usage" in body
        if head.status not in {400, 422} or not is_about_it or exchange.outgoing is None:
            return None
        if exchange.hub_request is not None:  # translated: whatever stands there is ours
            sent = exchange.outgoing.body
            plain = splice.remove(sent, splice.scan(sent), "stream_options")
            return msgspec.structs.replace(exchange.outgoing, body=plain) if plain != sent else None
        if exchange.notes.pop(HIDES_USAGE, None) is None:
            return None
        preset = self._preset(exchange)
        plain = build_body(exchange, preset, ask_usage=False)
        return msgspec.structs.replace(exchange.outgoing, body=plain)

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the error that the client will see; see `refusals`."""
        secret = exchange.credential.value if exchange.credential is not None else ""
        return refuse(_candidate(exchange).upstream.name, head, body, secret)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the operation's stage (mostly None), or the translation into the client's dialect."""
        face = exchange.face
        if face.raw:
            return None
        preset = self._preset(exchange)
        request = exchange.hub_request
        if request is not None:
            side = _vendor(exchange, request).provider_side(exchange, preset)
            return translation.open_translation(exchange, side, streamed=is_streamed(exchange, head))
        operation = OPERATIONS.get(face.dialect.name)
        return operation.open_stage(exchange, head, preset) if operation is not None else None

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of the reply; None where nothing is metered. What nobody knows may be like a chat."""
        name = "openai.chat" if exchange.face.opaque else exchange.face.dialect.name
        operation = OPERATIONS.get(name)
        return operation.open_tap(exchange, head, self._preset(exchange)) if operation is not None else None

    def _preset(self, exchange: Exchange) -> Preset:
        return self._rows[_candidate(exchange).upstream.preset].preset


def _translate(exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
    kind: Any = tuple(VENDORS)
    request = translation.read_request(exchange, kind)
    vendor = _vendor(exchange, request)
    body = vendor.write_request(request, exchange, preset)
    translation.refuse_dropped(exchange, request.dropped)
    headers["content-type"] = "application/json"
    endpoint = preset.endpoints.get(vendor.endpoint, vendor.endpoint)
    return Outgoing("POST", f"{_candidate(exchange).upstream.base_path}/{endpoint}", headers, body)


def _vendor(exchange: Exchange, request: Any) -> Vendor:
    if isinstance(request, ChatRequest) and _speaks_responses(exchange):
        return RESPONSES
    return VENDORS[type(request)]


def _is_elsewhere(exchange: Exchange) -> bool:
    """Say whether a chat that the vendor could take as it is has to go to Responses."""
    return exchange.face.dialect.name in {"openai.chat", "openai.completions"} and _speaks_responses(exchange)


def _speaks_responses(exchange: Exchange) -> bool:
    return _candidate(exchange).upstream.options.get("api") == "responses"


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate
