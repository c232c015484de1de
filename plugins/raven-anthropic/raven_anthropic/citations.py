"""Citations of text blocks and the hub's annotations, both ways."""

from __future__ import annotations

from typing import Any

from raven_proxy.hub import Annotation

__all__ = ["read_citation", "write_citation"]

_OURS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    }
)


def read_citation(citation: dict[str, Any], length: int | None = None) -> Annotation:
    """Read a citation. It is of its whole block, whose `length` in characters is given if it is known."""
    url = citation.get("url")
    source = citation.get("source")
    if not isinstance(url, str) and isinstance(source, str) and source.startswith(("http://", "https://")):
        url = source
    title = citation.get("title") or citation.get("document_title")
    cited = citation.get("cited_text")
    return Annotation(
        kind="url" if isinstance(url, str) else "document",
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        cited_text=cited if isinstance(cited, str) else None,
        start=0 if length is not None else None,
        end=length,
        native=citation,
    )


def write_citation(annotation: Annotation) -> dict[str, Any]:
    """Write an annotation: as it was if it was Anthropic's, else as the nearest that clients can read.

    A document that another vendor cites has no index here; it is told as the first.
    """
    native = annotation.native
    if native is not None and native.get("type") in _OURS:
        return native
    cited = annotation.cited_text or ""
    if annotation.url is not None:
        return {
            "type": "web_search_result_location",
            "cited_text": cited,
            "encrypted_index": "",
            "title": annotation.title or annotation.url,  # strict clients want one
            "url": annotation.url,
        }
    return {
        "type": "char_location",
        "cited_text": cited,
        "document_index": 0,
        "document_title": annotation.title,
        "start_char_index": 0,
        "end_char_index": len(cited),
    }
