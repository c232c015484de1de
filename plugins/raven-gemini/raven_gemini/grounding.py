"""Citations: what Google says a text rests on, as the hub's annotations.

`groundingMetadata` has sources (`groundingChunks`) and which stretch of the text rests on which of
them (`groundingSupports`); offsets are in bytes of UTF-8 and are made offsets of characters here.
A stretch that rests on three sources gives three annotations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from raven_proxy.hub import Annotation

__all__ = ["read_citations"]


class _Source(msgspec.Struct, rename="camel"):
    uri: str | None = None
    title: str | None = None
    text: str | None = None
    document_name: str | None = None
    file_search_store: str | None = None


class _Chunk(msgspec.Struct, rename="camel"):
    web: _Source | None = None
    maps: _Source | None = None
    retrieved_context: _Source | None = None


class _Segment(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    text: str | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    grounding_chunks: list[_Chunk] | None = None
    grounding_supports: list[_Support] | None = None


class _Citation(msgspec.Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None
    license: str | None = None


class _Citations(msgspec.Struct, rename="camel"):
    citation_sources: list[_Citation] | None = None  # AI Studio
    citations: list[_Citation] | None = None  # Vertex AI


def read_citations(grounding: Any, citations: Any, texts: Sequence[str]) -> Iterator[tuple[int, Annotation]]:
    """Give each citation with the index of the text in `texts` that it belongs to."""
    if grounding is not None:
        yield from _read_grounding(msgspec.convert(grounding, _Grounding), texts)
    if citations is not None:
        found = msgspec.convert(citations, _Citations)
        for one in (*(found.citation_sources or ()), *(found.citations or ())):
            index, start, end = _locate(one.start_index, one.end_index, None, texts)
            native = {"citation": msgspec.to_builtins(one)}
            yield index, Annotation(url=one.uri, title=one.title, start=start, end=end, native=native)


def _read_grounding(grounding: _Grounding, texts: Sequence[str]) -> Iterator[tuple[int, Annotation]]:
    sources = grounding.grounding_chunks or []
    used: set[int] = set()
    for support in grounding.grounding_supports or ():
        segment = support.segment or _Segment()
        index, start, end = _locate(segment.start_index, segment.end_index, segment.text, texts)
        for number in support.grounding_chunk_indices or ():
            if 0 <= number < len(sources):
                used.add(number)
                yield index, _annotate(sources[number], segment.text, start, end)
    if grounding.grounding_supports:
        return
    for number, source in enumerate(sources):  # sources without a word on what rests on them
        if number not in used:
            yield max(0, len(texts) - 1), _annotate(source, None, None, None)


def _annotate(chunk: _Chunk, text: str | None, start: int | None, end: int | None) -> Annotation:
    source = chunk.web or chunk.maps or chunk.retrieved_context or _Source()
    native: dict[str, Any] = {"groundingChunk": _without_nothing(msgspec.to_builtins(chunk))}
    is_page = chunk.retrieved_context is None
    return Annotation(
        kind="url" if is_page else "document",
        url=source.uri,
        title=source.title or source.document_name or source.file_search_store,
        cited_text=text if is_page else source.text or text,
        start=start,
        end=end,
        native=native,
    )


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    return value


def _locate(
    start: int, end: int | None, text: str | None, texts: Sequence[str]
) -> tuple[int, int | None, int | None]:
    """Find a stretch: (which text, first character, the one behind the last); None where it is not there.

    Bytes count over all texts of the answer, or within one: what `text` says decides.
    """
    if end is None:
        return max(0, len(texts) - 1), None, None
    before = 0
    for index, whole in enumerate(texts):
        encoded = whole.encode("utf-8", "replace")
        for shift in (before, 0):
            piece = encoded[max(0, start - shift) : max(0, end - shift)].decode("utf-8", "replace")
            if start >= shift and piece and (piece == text if text is not None else shift == before):
                first = len(encoded[: start - shift].decode("utf-8", "replace"))
                return index, first, first + len(piece)
        before += len(encoded)
    for index, whole in enumerate(texts):
        place = whole.find(text) if text else -1
        if place >= 0:
            return index, place, place + len(text or "")
    return max(0, len(texts) - 1), None, None
