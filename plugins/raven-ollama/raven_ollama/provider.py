"""The provider: requests to Ollama's own API as bytes, and its replies as the client's dialect wants them.

Sends nothing but, where an upstream's `options.fetch_images` allows it, requests for images by link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

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

from .dialect import CHAT, EMBED, find_raw_face
from .images import fetch_images
from .requests import write_chat, write_embeddings

__all__ = ["OllamaProvider", "Options"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`options` of an upstream.

    `fetch_images` gets images that clients send as links, of at most `max_image_bytes`, within
    `fetch_timeout_s`; from private addresses only with `fetch_private`.
    """

    fetch_images: bool = False
    fetch_private: bool = False
    max_image_bytes: Annotated[int, Meta(ge=1)] = 20 * 2**20
    fetch_timeout_s: Annotated[float, Meta(gt=0)] = 10.0


class OllamaProvider:
    """Ollama's own API, on this machine or (with a key) at ollama.com."""

    name = "ollama_native"
    stored_options = frozenset({"fetch_images", "max_image_bytes", "fetch_timeout_s"})

    def base_url(self, preset: str) -> str | None:
        """Give the address where Ollama listens by default."""
        del preset
        return "http://127.0.0.1:11434"

    def needs_key(self, preset: str) -> bool:
        """Need no key."""
        del preset
        return False

    def known_models(self, preset: str) -> Sequence[ModelInfo]:
        """List nothing: what is there is what was pulled."""
        del preset
        return ()

    def check_options(self, preset: str, options: Mapping[str, Any]) -> None:
        """Judge an upstream's `options`. Raises ConfigError."""
        del preset
        decode_table(dict(options), Options, "options")

    def build_listing(self, upstream: Upstream, page: str | None) -> Outgoing | None:
        """Ask which models were pulled."""
        del page
        return Outgoing("GET", f"{upstream.base_path}/api/tags", _authorize({}, upstream.credential), b"")

    def read_listing(self, upstream: Upstream, body: bytes) -> tuple[Sequence[ModelInfo], str | None]:
        """Read the list, which has one page."""
        found = msgspec.json.decode(body, type=_Tags).models
        return [ModelInfo(id=one.name, owned_by=upstream.preset) for one in found], None

    def find_face(self, method: str, endpoint: str) -> Face | None:
        """Name the face whose dialect this endpoint speaks; None where it is not known here."""
        return find_raw_face(method, endpoint)

    async def prepare(self, exchange: Exchange) -> None:
        """Fetch images by link, where the upstream's options allow it."""
        options = msgspec.convert(_candidate(exchange).upstream.options, Options)
        if not options.fetch_images or exchange.face.raw or _is_embeddings(exchange):
            return
        await fetch_images(
            translation.read_request(exchange, ChatRequest),
            max_bytes=options.max_image_bytes,
            timeout_s=options.fetch_timeout_s,
            allow_private=options.fetch_private,
        )

    def build_request(self, exchange: Exchange) -> Outgoing:
        """Make Ollama's request of a raw one, a chat or embeddings. Raises InvalidRequest."""
        base = _candidate(exchange).upstream.base_path
        headers = _authorize(forward_request(exchange.headers), exchange.credential)
        if exchange.face.raw:
            _, mark, query = exchange.request.raw_path.partition("?")
            target = f"{base}/{exchange.params['endpoint']}{mark}{query}"
            return Outgoing(exchange.request.method, target, headers, exchange.body)
        headers["content-type"] = "application/json"
        if _is_embeddings(exchange):
            vectors = translation.read_request(exchange, EmbeddingsRequest)
            endpoint, body, dropped = "api/embed", write_embeddings(vectors), vectors.dropped
        else:
            chat = translation.read_request(exchange, ChatRequest)
            endpoint, body, dropped = "api/chat", write_chat(chat), chat.dropped
        translation.refuse_dropped(exchange, dropped)
        return Outgoing("POST", f"{base}/{endpoint}", headers, body)

    def revise_request(self, exchange: Exchange, head: ReplyHead, body: bytes) -> Outgoing | None:
        """Send a chat again without `think`, if the model is one that cannot and the client is not strict."""
        outgoing = exchange.outgoing
        if outgoing is None or exchange.face.raw or translation.is_strict(exchange):
            return None
        if head.status != 400 or b"does not support thinking" not in body:
            return None
        members = splice.scan(outgoing.body)
        if "think" not in members:
            return None
        return msgspec.structs.replace(outgoing, body=splice.remove(outgoing.body, members, "think"))

    def read_refusal(self, exchange: Exchange, head: ReplyHead, body: bytes) -> UpstreamRefused:
        """Turn `{"error": "text"}` into the error that the client will see."""
        secret = exchange.credential.value if exchange.credential is not None else ""
        found = read_error(body)
        theirs: VendorError | None = None
        if head.status == 404 and "model" in found.message:
            theirs = msgspec.structs.replace(found, code="model_not_found", param="model")
        return refuse(_candidate(exchange).upstream.name, head, body, secret, theirs=theirs)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the translation into the client's dialect; None for raw paths."""
        if exchange.face.raw:
            return None
        dialect = EMBED if isinstance(exchange.hub_request, EmbeddingsRequest) else CHAT
        side: ProviderSide = dialect.provider_side
        return translation.open_translation(exchange, side, streamed=_is_streamed(exchange, head))

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Give a reader of a reply that passes untouched; None for endpoints that are not known here."""
        dialect = CHAT if exchange.face.opaque else exchange.face.dialect
        side: ProviderSide | None = dialect.provider_side
        if side is None or not dialect.name.startswith("ollama."):
            return None
        if _is_streamed(exchange, head):
            return EventTap(exchange, side.open_reader())
        return WholeTap(exchange, side.read_reply)


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


def _authorize(headers: dict[str, str], credential: Any) -> dict[str, str]:
    if credential is not None and credential.value:
        headers["authorization"] = f"Bearer {credential.value}"
    return headers


def _is_embeddings(exchange: Exchange) -> bool:
    return exchange.face.dialect.name.endswith(".embeddings")


def _candidate(exchange: Exchange) -> Candidate:
    if exchange.candidate is None:
        raise RuntimeError("an upstream must be chosen first")
    return exchange.candidate


def _is_streamed(exchange: Exchange, head: ReplyHead) -> bool:
    kind = head.headers.get("content-type", "")
    return "ndjson" in kind or (exchange.stream and not kind.startswith("application/json"))
