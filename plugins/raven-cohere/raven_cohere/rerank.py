"""Rerank in the dialect that Cohere and Jina share: the clients' half, and the vendor's.

Clients get one shape from every vendor: `results` with `index` and `relevance_score`, the best first.
Sources: Cohere's API reference, v2/rerank; Jina's, v1/rerank.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.dialects import Reader, Writer
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.hub import Ranked, RerankReply, RerankRequest
from raven_proxy.judging import judge

from .calls import REMEDIES, decode_rerank
from .usage import Spent, usage_of

__all__ = ["RerankClient", "RerankVendor"]

_KNOWN = frozenset({"model", "query", "documents", "top_n", "top_k", "return_documents"})
_decode_members = msgspec.json.Decoder(dict[str, Any]).decode


class _Result(msgspec.Struct):
    index: int
    relevance_score: float
    document: str | dict[str, Any] | None = None


class _Tokens(msgspec.Struct):
    total_tokens: int | None = None
    prompt_tokens: int | None = None


class _Reply(msgspec.Struct):
    results: list[_Result]
    id: str | None = None
    model: str | None = None
    meta: Spent | None = None
    usage: _Tokens | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class RerankClient:
    """What the face `/v1/rerank` reads and writes. Stateless."""

    def read_request(self, exchange: Exchange) -> RerankRequest:
        """Read a request. Raises InvalidRequest with `param`."""
        body = judge(decode_rerank, exchange.body, REMEDIES)
        members = judge(_decode_members, exchange.body)
        candidate = exchange.candidate
        return RerankRequest(
            model=(candidate.model if candidate is not None else None) or body.model,
            query=body.query,
            documents=body.documents,
            top_n=body.top_n if body.top_n is not None else body.top_k,
            return_documents=body.return_documents,
            extra={n: v for n, v in members.items() if n not in _KNOWN and v is not None},
        )

    def write_reply(self, reply: RerankReply, exchange: Exchange) -> bytes:
        """Write a whole reply."""
        asked = exchange.hub_request
        results = reply.results
        if isinstance(asked, RerankRequest):
            results = results[: asked.top_n]
        document: dict[str, Any] = {
            "id": reply.id or exchange.id,
            "model": reply.model or (asked.model if isinstance(asked, RerankRequest) else exchange.model),
            "results": [_write_result(one, asked) for one in results],
        }
        meta: dict[str, Any] = {"api_version": {"version": "2"}}
        if reply.search_units is not None:
            meta["billed_units"] = {"search_units": reply.search_units}
        document["meta"] = meta
        if reply.usage is not None:
            usage = reply.usage
            document["usage"] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
        return msgspec.json.encode(document)

    def open_writer(self, exchange: Exchange) -> Writer:
        """There are no streams of rankings."""
        raise ValueError(f"{exchange.face.name}: rankings are not streamed")


class RerankVendor:
    """Reads what Cohere and its lookalikes answer."""

    def read_reply(self, body: bytes) -> RerankReply:
        """Read a whole reply."""
        reply = _decode(body)
        results = [Ranked(index=r.index, score=r.relevance_score, document=r.document) for r in reply.results]
        units = reply.meta.billed_units.search_units if reply.meta and reply.meta.billed_units else None
        return RerankReply(
            id=reply.id or "",
            model=reply.model or "",
            results=sorted(results, key=lambda one: -one.score),
            usage=usage_of(reply.meta) or _usage(reply.usage),
            search_units=int(units) if units is not None else None,
        )

    def open_reader(self) -> Reader:
        """There are no streams of rankings."""
        raise ValueError("rankings are not streamed")


def _write_result(one: Ranked, asked: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"index": one.index, "relevance_score": one.score}
    document = one.document
    wants = isinstance(asked, RerankRequest) and asked.return_documents
    if document is None and wants and 0 <= one.index < len(asked.documents):
        document = asked.documents[one.index]
    if document is not None:
        result["document"] = {"text": document} if isinstance(document, str) else document
    return result


def _usage(tokens: _Tokens | None) -> Usage | None:
    if tokens is None:
        return None
    total = tokens.total_tokens if tokens.total_tokens is not None else tokens.prompt_tokens
    if total is None or not 0 <= total <= 10**8:
        return None
    return Usage(prompt_tokens=total, total_tokens=total)
