"""Rerank for the vendors of this package: clients speak Cohere's and Jina's dialect, most vendors too.

The face and its dialect belong to whatever plugin registers them; the operation is found by the dialect's
name. `_VENDORS` says how a vendor differs. Sources: the rerank pages of the vendors' API references.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from raven_proxy import errors, splice, translation
from raven_proxy.dialects import Reader
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead, Usage
from raven_proxy.faces import Call, Dialect, Face, Stage
from raven_proxy.hub import Ranked, RerankReply
from raven_proxy.judging import ModelName, check_model, judge
from raven_proxy.metering import WholeTap
from raven_proxy.providers import UsageTap

from .presets import Preset
from .usage import read_usage

__all__ = ["OPERATIONS", "Rankings", "find_raw_face"]


class _Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """How one vendor differs from Cohere and Jina.

    `renames` maps parameters to the vendor's names; `unsupported` are dropped. `is_alike` says that
    replies have `results` with `relevance_score`, so that they pass untouched. `texts_only` vendors take
    no objects as documents.
    """

    endpoint: str = "rerank"
    renames: Mapping[str, str] = MappingProxyType({})
    unsupported: frozenset[str] = frozenset()
    is_alike: bool = True
    texts_only: bool = False


_USUAL = _Vendor()
_VENDORS: Mapping[str, _Vendor] = MappingProxyType(
    {
        "voyage": _Vendor(
            renames={"top_n": "top_k"},
            unsupported=frozenset({"max_tokens_per_doc", "max_chunks_per_doc", "rank_fields", "priority"}),
            is_alike=False,
            texts_only=True,
        ),
        "tei": _Vendor(
            renames={"documents": "texts", "return_documents": "return_text"},
            unsupported=frozenset(
                {"model", "top_n", "top_k", "max_tokens_per_doc", "max_chunks_per_doc", "rank_fields"}
            ),
            is_alike=False,
            texts_only=True,
        ),
        "fireworks": _Vendor(is_alike=False, texts_only=True),
        "llamacpp": _Vendor(texts_only=True),
        "openrouter": _Vendor(texts_only=True),
        "vllm": _Vendor(texts_only=True),
    }
)
_SERVES_NONE = frozenset(
    "openai azure_openai cerebras deepseek gemini_openai github groq mistral moonshot ollama ollama_cloud "
    "perplexity xai cohere_openai".split()
)


class _Result(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None
    document: str | dict[str, Any] | None = None
    text: str | None = None


class _Reply(msgspec.Struct):
    results: list[_Result] | None = None
    data: list[_Result] | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Reply | list[_Result]).decode
_decode_documents = msgspec.json.Decoder(list[str | dict[str, Any]]).decode


class Rankings:
    """Reads a vendor's reply: `results`, `data` or a bare list; `relevance_score` or `score`."""

    def read_reply(self, body: bytes) -> RerankReply:
        """Read a whole reply. Raises ValueError for one without rankings."""
        reply = _decode(body)
        if isinstance(reply, list):
            reply = _Reply(results=reply)
        found = reply.results if reply.results is not None else reply.data
        if found is None:
            raise ValueError("there are no rankings in it")
        results = [
            Ranked(index=one.index, score=_score(one), document=one.document or one.text) for one in found
        ]
        return RerankReply(
            id=reply.id or "",
            model=reply.model or "",
            results=sorted(results, key=lambda one: -one.score),
            usage=_usage(reply.usage),
        )

    def open_reader(self) -> Reader:
        """There are no streams of rankings."""
        raise ValueError("rankings are not streamed")


class _Reranking:
    """The operation."""

    dialect = Dialect("cohere.rerank", errors.envelope)

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor's row denies it; `build` knows those that are known by name."""
        return self.dialect.name not in preset.lacks

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Change what the vendor calls otherwise; every other byte stays. Raises InvalidRequest."""
        candidate = exchange.candidate
        assert candidate is not None
        upstream = candidate.upstream
        if upstream.preset in _SERVES_NONE:
            raise InvalidRequest(f"{upstream.name} does not rerank; choose another model.", param="model")
        vendor = _VENDORS.get(upstream.preset, _USUAL)
        headers.setdefault("content-type", "application/json")
        body = _fit(exchange, vendor, candidate.model)
        endpoint = preset.endpoints.get(exchange.face.endpoint, vendor.endpoint)
        return Outgoing("POST", f"{upstream.base_path}/{endpoint}", headers, body)

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give the stage that makes the clients' shape of a vendor's own; mostly None."""
        del head, preset
        candidate, client = exchange.candidate, exchange.face.dialect.client_side
        assert candidate is not None
        if client is None or _VENDORS.get(candidate.upstream.preset, _USUAL).is_alike:
            return None
        exchange.hub_request = client.read_request(exchange)
        return translation.open_translation(exchange, Rankings(), streamed=False)

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter the reply."""
        del head, preset
        return WholeTap(exchange, Rankings().read_reply)


OPERATIONS = (_Reranking(),)


class _Named(msgspec.Struct, gc=False):
    model: ModelName | None = None


_decode_named = msgspec.json.Decoder(_Named).decode


def _read_call(body: bytes) -> Call:
    members = splice.scan(body)
    model = judge(_decode_named, body).model
    return Call(check_model(model) if model else None, members=members)


_RAW = Face(
    name="rerank-raw",
    path="",
    dialect=_Reranking.dialect,
    scope="embeddings:write",
    endpoint="rerank",
    read_call=_read_call,
    raw=True,
)


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own rerank endpoint, so that raw requests are metered."""
    return _RAW if method.upper() == "POST" and endpoint.strip("/") == "rerank" else None


def _fit(exchange: Exchange, vendor: _Vendor, model: str | None) -> bytes:
    body, lost = exchange.body, list[str]()
    for name in exchange.call.members:
        spans = splice.scan(body)
        start, end = spans[name]
        value = body[start:end]
        if name == "model" and model is not None and model != exchange.call.model:
            body = splice.put(body, spans, name, model)
        if name == "documents" and vendor.texts_only:
            body = splice.put(body, spans, name, _write_texts(value))
        if name in vendor.unsupported:
            if value != b"null" and name != "model":
                lost.append(name)
            body = splice.remove(body, splice.scan(body), name)
        elif name in vendor.renames:
            body = _rename(body, name, vendor.renames[name])
    translation.refuse_dropped(exchange, _really_lost(lost))
    return body


def _really_lost(names: list[str]) -> list[str]:
    """The gateway itself cuts the ranking to `top_n` where the vendor cannot."""
    return [name for name in names if name not in {"top_n", "top_k"}]


def _rename(body: bytes, name: str, new: str) -> bytes:
    spans = splice.scan(body)
    start, end = spans[name]
    value = body[start:end]
    body = splice.remove(body, spans, name)
    spans = splice.scan(body)
    return body if new in spans else splice.put(body, spans, new, value)


def _write_texts(documents: bytes) -> bytes:
    """Give each document's text; bytes stay where all are texts. Raises InvalidRequest."""
    found = _decode_documents(documents)
    if all(isinstance(one, str) for one in found):
        return documents
    texts = [one if isinstance(one, str) else one.get("text") for one in found]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(
            "documents: this model takes texts; send strings, or objects with a text.", param="documents"
        )
    return msgspec.json.encode(texts)


def _score(one: _Result) -> float:
    score = one.relevance_score if one.relevance_score is not None else one.score
    if score is None:
        raise ValueError("a ranking has no score")
    return score


def _usage(table: dict[str, Any] | None) -> Usage | None:
    """Read the usage, all of it the prompt's; None where there is none (Text Embeddings Inference)."""
    if not table or ("total_tokens" not in table and "prompt_tokens" not in table):
        return None
    return read_usage({"completion_tokens": 0, **table}, lambda: 0, lambda: 0)
