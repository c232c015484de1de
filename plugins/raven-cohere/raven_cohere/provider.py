"""The provider: requests to Cohere's API as bytes, and its replies as the client's dialect wants them.

Sends nothing. Clients of Cohere's own dialects (raw paths, `/v1/rerank`) pass byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from raven_proxy import splice, translation
from raven_proxy.config import decode_table
from raven_proxy.dialects import ProviderSide
from raven_proxy.errors import UpstreamRefused
from raven_proxy.exchange import Candidate, Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Face, Stage
from raven_proxy.headers import forward_request
from raven_proxy.hub import ChatRequest, EmbeddingsRequest
from raven_proxy.metering import EventTap, WholeTap
from raven_proxy.providers import ModelInfo, UsageTap
from raven_proxy.refusals import VendorError, read_error, refuse
from raven_proxy.upstream import Upstream

from .dialect import CHAT, RERANK, find_raw_face
from .embeddings import Embeddings, write_embeddings
from .requests import write_chat

__all__ = ["CohereProvider"]

_EMBEDDINGS = Embeddings()
_BLOCKED = 498  # Cohere's own: a deny-listed token in the request or the reply


class CohereProvider:
    """Cohere's API, of which v2 is spoken and v1 passed on."""

    name = "cohere"

    def base_url(self, preset: str) -> str | None:
        """Give Cohere's address."""
        del preset
        return "https://api.cohere.com"

    def needs_key(self, preset: str) -> bool:
        """Need a key."""
        del preset
        return True

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: Cohere takes models out of service faster than this package is published."""
        del preset
        return ()

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Take no `options`. Raises ConfigError for any."""
        del preset
        decode_table(dict(options), _NoOptions, "options")

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Ask for the models, a thousand a page."""
        headers = {}
        if upstream.credential is not None:
            headers["authorization"] = f"Bearer {upstream.credential.value}"
        token = f"&page_token={quote(page, safe='')}" if page else ""
        return Outgoing("GET", f"{upstream.base_path}/v1/models?page_size=1000{token}", headers, b"")

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read one page, and the token of the next."""
        found = msgspec.json.decode(body, type=_Models)
        models = [
            ModelInfo(
                id=one.name,
                owned_by=upstream.preset,
                context_window=int(one.context_length) if one.context_length else None,
            )
            for one in found.models
        ]
        return models, found.next_page_token or None

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks; None where it is not known here."""
        return find_raw_face(method, endpoint)

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make Cohere's request of a raw one, a ranking, a chat or embeddings. Raises InvalidRequest."""
        candidate, face = _candidate(exchange), exchange.face
        base = candidate.upstream.base_path
        headers = forward_request(exchange.headers)
        if exchange.credential is not None and exchange.credential.value:
            headers["authorization"] = f"Bearer {exchange.credential.value}"
        if face.raw:
            _, mark, query = exchange.request.raw_path.partition("?")
            target = f"{base}/{exchange.params['endpoint']}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        headers["content-type"] = "application/json"
        if face.dialect.name == RERANK.name:
            return Outgoing("POST", f"{base}/v2/rerank", headers, _name_model(exchange, candidate))
        endpoint, body, dropped = _translate(exchange)
        translation.refuse_dropped(exchange, dropped)
        return Outgoing("POST", f"{base}/{endpoint}", headers, body)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a chat again without `thinking`, if that is what was refused and the client is not strict."""
        outgoing = exchange.outgoing
        if outgoing is None or not outgoing.target.endswith("/v2/chat"):
            return None
        if exchange.face.raw or translation.is_strict(exchange):
            return None
        if head.status not in {400, 422} or b"thinking" not in body:
            return None
        members = splice.scan(outgoing.body)
        if "thinking" not in members:
            return None
        return msgspec.structs.replace(outgoing, body=splice.remove(outgoing.body, members, "thinking"))

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn `{"id", "message"}` into the error that the client will see."""
        secret = exchange.credential.value if exchange.credential is not None else ""
        found = read_error(body)
        theirs: VendorError | None = None
        if head.status == 404 and "model" in found.message:
            theirs = msgspec.structs.replace(found, code="model_not_found", param="model")
        status = 400 if head.status == _BLOCKED else None
        return refuse(_candidate(exchange).upstream.name, head, body, secret, status=status, theirs=theirs)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the translation into the client's dialect; None where that is Cohere's."""
        side = _side(exchange)
        if side is None:
            return None
        return translation.open_translation(exchange, side, streamed=_is_streamed(exchange, head))

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of a reply that passes untouched; None for endpoints that are not known here."""
        dialect = CHAT if exchange.face.opaque else exchange.face.dialect
        side: ProviderSide | None = dialect.provider_side
        if side is None or not dialect.name.startswith("cohere."):
            return None
        if _is_streamed(exchange, head):
            return EventTap(exchange, side.open_reader())
        return WholeTap(exchange, side.read_reply)


class _NoOptions(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _Model(msgspec.Struct):
    name: str
    context_length: float | None = None


class _Models(msgspec.Struct):
    models: list[_Model]
    next_page_token: str | None = None


def _translate(exchange: Exchange) -> tuple[str, bytes, list[str]]:
    """Give endpoint, body, and what was lost."""
    if exchange.face.dialect.name.endswith(".embeddings"):
        vectors = translation.read_request(exchange, EmbeddingsRequest)
        return "v2/embed", write_embeddings(vectors), vectors.dropped
    chat = translation.read_request(exchange, ChatRequest)
    return "v2/chat", write_chat(chat), chat.dropped


def _side(exchange: Exchange) -> ProviderSide | None:
    if exchange.face.raw or exchange.face.dialect.name == RERANK.name:
        return None
    if isinstance(exchange.hub_request, EmbeddingsRequest):
        return _EMBEDDINGS
    side: ProviderSide = CHAT.provider_side
    return side


def _name_model(exchange: Exchange, candidate: Candidate) -> bytes:
    model, call = candidate.model, exchange.call
    if model is None or model == call.model:
        return exchange.body
    return splice.put(exchange.body, call.members, "model", model)


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate


def _is_streamed(exchange: Exchange, head: ReplyHead) -> bool:
    kind = head.headers.get("content-type", "")
    if "stream" in kind:  # text/event-stream; v1's application/stream+json
        return True
    return exchange.stream and not kind.startswith("application/json")
