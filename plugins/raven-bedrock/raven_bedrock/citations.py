"""Citations and opaque reasoning: what Converse's blocks carry besides text, as the hub has it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from raven_proxy import hub

__all__ = ["join_base64", "read_citation", "read_redacted", "write_redacted"]


def read_citation(citation: dict[str, Any], end: int, titles: Mapping[str, str]) -> hub.Annotation:
    """Read a citation of a text of `end` characters. `titles` are the documents' own names by ours."""
    location = citation.get("location")
    location = location if isinstance(location, dict) else {}
    web = location.get("web")
    sources = citation.get("sourceContent")
    texts = [
        part["text"]
        for part in (sources if isinstance(sources, list) else ())
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    title, url = _text(citation.get("title")), None
    if isinstance(web, dict):
        url = _text(web.get("url"))
    elif (source := _text(citation.get("source"))) is not None and source.startswith("http"):
        url = source
    return hub.Annotation(
        kind="url" if url is not None else "document",
        url=url,
        title=titles.get(title, title) if title is not None else None,
        cited_text="".join(texts) or None,
        start=0,
        end=end,
        native=citation,
    )


def read_redacted(blob: str, family_format: str) -> tuple[str, str]:
    """Read `redactedContent`; give the data and whose it is.

    For Claude the blob's bytes are the text that Anthropic's own API calls `data`.
    """
    if family_format == "anthropic":
        try:
            return base64.b64decode(blob, validate=True).decode("ascii"), "anthropic"
        except (binascii.Error, ValueError):
            pass
    return blob, "bedrock"


def write_redacted(data: str, family_format: str) -> str:
    """Make a `redactedContent` of what `read_redacted` gave."""
    return base64.b64encode(data.encode()).decode() if family_format == "anthropic" else data


def join_base64(pieces: list[str]) -> str:
    """Join bytes that came in pieces, each in base64 of its own. Raises ValueError (binascii's)."""
    if len(pieces) == 1:
        return pieces[0]
    return base64.b64encode(b"".join([base64.b64decode(piece) for piece in pieces])).decode()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
