"""The provider: Gemini at AI Studio ("gemini") and at Vertex AI ("vertex").

Raw paths pass byte for byte; every other dialect is translated through the hub. Where requests go, and
with which credential, is `places`' affair; what is in them that of `requests` and `embeddings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from raven_proxy import hub, translation
from raven_proxy.errors import InvalidRequest, UpstreamRefused
from raven_proxy.exchange import Candidate, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.metering import EventTap, WholeTap
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.upstream import Upstream

from .claude import FETCHED, ClaudeOnVertex, is_claude, may_link, passes_untouched
from .contents import Conversation
from .counting import COUNTING, CountStage, write_count
from .embeddings import EmbeddingsSide, write_batch, write_prediction
from .links import fetch_links, has_links
from .listing import read_listing, write_listing
from .models import judge
from .native import COUNT, EMBED, GENERATE, find_native_face
from .options import VertexOptions, read_options, vertex_address
from .places import Place, find_place, full_name, raw_target
from .refusals import refuse_google
from .replies import GenerateSide
from .requests import write_request
from .signatures import SignatureMemory
from .tokens import TokenSource

__all__ = ["GeminiProvider"]

_STUDIO = "https://generativelanguage.googleapis.com/v1beta"
_TOKEN = "gemini_token"  # noqa: S105 - the key in `exchange.notes`
_NOT_GOOGLES = ("anthropic-", "openai-", "x-stainless-")


class GeminiProvider:
    """Google's models, at both of its doors."""

    name = "gemini"
    counts_tokens = True  # see `raven_anthropic.counting`
    stored_options = frozenset({"project", "location", "fetch_images"})  # `token_uri` is an address

    def __init__(self, tokens: TokenSource | None = None) -> None:
        self._tokens = tokens or TokenSource()
        self._signatures = SignatureMemory()
        self._claude = ClaudeOnVertex()

    def base_url(self, preset: str) -> str | None:
        """Give the usual base URL; Vertex AI's is told by `find_address`."""
        return vertex_address("global") if preset == "vertex" else _STUDIO

    def find_address(self, preset: str, options: Mapping[str, Any]) -> str | None:
        """Give the base URL of a Vertex AI upstream's `location`."""
        found = read_options(preset, options)
        return vertex_address(found.location) if isinstance(found, VertexOptions) else _STUDIO

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge an upstream's `options`. Raises ConfigError."""
        read_options(preset, options)

    def needs_key(self, preset: str) -> bool:
        """Say that a key is needed."""
        del preset
        return True

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: Google changes its models faster than this package is published."""
        del preset
        return ()

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Ask AI Studio for its models; Vertex AI has no list of what a project may call."""
        return write_listing(upstream, page) if upstream.preset != "vertex" else None

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read a page of that list."""
        del upstream
        return read_listing(body)

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face of one of Google's own endpoints; None where it is not known here."""
        return find_native_face(method, endpoint)

    async def prepare(self, exchange: Exchange) -> None:
        """Get what a request needs: Vertex AI's access token, and linked images if they are to be fetched."""
        candidate = _candidate(exchange)
        upstream = candidate.upstream
        if upstream.preset != "vertex" and not upstream.options:
            return
        options = read_options(upstream.preset, upstream.options)
        if isinstance(options, VertexOptions) and exchange.credential is not None:
            exchange.notes[_TOKEN] = await self._tokens.get(
                upstream.name, exchange.credential, options.token_uri
            )
        exchange.notes.pop(FETCHED, None)
        passes = passes_untouched(exchange)
        if options.fetch_images and not exchange.face.raw and (not passes or may_link(exchange)):
            request = translation.read_request(exchange, object)
            if isinstance(request, hub.ChatRequest):
                exchange.notes[FETCHED] = has_links(request)
                await fetch_links(request)

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make Google's request: the client's own on raw paths, else the translated one."""
        candidate = _candidate(exchange)
        place = find_place(candidate.upstream, exchange.credential, exchange.notes.pop(_TOKEN, None))
        headers = {**forward_request(exchange.headers), **place.headers}
        if exchange.face.raw:
            return raw_target(exchange, place, headers)
        headers["content-type"] = "application/json"
        if place.is_vertex and is_claude(candidate.model or ""):
            return self._claude.build_request(exchange, place, headers)
        headers = {name: value for name, value in headers.items() if not name.startswith(_NOT_GOOGLES)}
        verb, body, dropped = self._write(exchange, place)
        translation.refuse_dropped(exchange, dropped)
        target = place.target(candidate.model or "", verb)
        try:
            encoded = msgspec.json.encode(body)
        except RecursionError:  # a schema that could just be read, a few levels further in
            raise InvalidRequest("The body is nested too deeply.", param="body") from None
        return Outgoing("POST", target, headers, encoded)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Give up: there is nothing to try instead."""
        del exchange, head, body
        return None

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn an error reply into the error that the client will see."""
        secret = _secret(exchange)
        return refuse_google(_candidate(exchange).upstream.name, head, body, secret)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage that makes the client's dialect of the reply; None on raw paths."""
        if exchange.face.raw:
            return None
        candidate = _candidate(exchange)
        if candidate.upstream.preset == "vertex" and is_claude(candidate.model or ""):
            return self._claude.open_translator(exchange, head)
        if exchange.face.dialect.name == COUNTING:
            return CountStage(exchange)
        request = exchange.hub_request
        if isinstance(request, hub.EmbeddingsRequest):
            return translation.open_translation(exchange, EmbeddingsSide(exchange.body), streamed=False)
        organization = exchange.principal.organization_id if exchange.principal is not None else ""
        custom = frozenset(tool.name for tool in request.tools if tool.custom)
        side = GenerateSide(partial(self._signatures.remember, organization), custom)
        return translation.open_translation(exchange, side, streamed=exchange.stream)

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Meter raw paths; None where there is nothing to meter."""
        dialect = exchange.face.dialect
        if dialect is GENERATE or exchange.face.opaque:
            side = GenerateSide()
            if exchange.stream or "event-stream" in head.headers.get("content-type", ""):
                return EventTap(exchange, side.open_reader())
            return WholeTap(exchange, side.read_reply)
        if dialect is EMBED:
            return WholeTap(exchange, EmbeddingsSide(exchange.body).read_reply)
        if dialect is COUNT or dialect.name == COUNTING:
            return None
        return self._claude.open_usage_tap(exchange, head)

    def _write(self, exchange: Exchange, place: Place) -> tuple[str, dict[str, Any], list[str]]:
        """Write (verb, body, what was dropped)."""
        model = _candidate(exchange).model or ""
        request = translation.read_request(exchange, object)
        if isinstance(request, hub.EmbeddingsRequest):
            if place.is_vertex:
                return "predict", write_prediction(request), request.dropped
            return "batchEmbedContents", write_batch(request, full_name(model)), request.dropped
        chat = translation.read_request(exchange, hub.ChatRequest)
        organization = exchange.principal.organization_id if exchange.principal is not None else ""
        known = Conversation(judge(model), place.is_vertex, partial(self._signatures.recall, organization))
        body = write_request(chat, known)
        if exchange.face.dialect.name == COUNTING:
            return "countTokens", write_count(body, model, is_vertex=place.is_vertex), chat.dropped
        verb = "streamGenerateContent?alt=sse" if exchange.stream else "generateContent"
        return verb, body, chat.dropped


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate


def _secret(exchange: Exchange) -> str:
    """Give what was sent: an access token is not the key that it was made of."""
    outgoing = exchange.outgoing
    sent = outgoing.headers.get("authorization", "").removeprefix("Bearer ") if outgoing is not None else ""
    return sent or (exchange.credential.value if exchange.credential is not None else "")
