"""Pieces of a vendor's Responses reply in the hub's terms: citations, probabilities, images, errors."""

from __future__ import annotations

from typing import Any

from raven_proxy import hub
from raven_proxy.refusals import describe

from .found import Item

__all__ = ["annotation_of", "failure_of", "family_of", "image_of", "logprobs_of"]

_STATUSES = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
}


def family_of(kind: str) -> str | None:
    """Say who can read a thought: plain text is anybody's."""
    return None if kind == "text" else "openai"


def image_of(item: Item) -> list[hub.Event]:
    """Give the image that the model drew, if it is there."""
    if not item.result:
        return []
    media_type = f"image/{item.output_format}" if item.output_format else hub.sniff(item.result)
    media = hub.Media(data=item.result, media_type=media_type)
    return [hub.PartMade(hub.Image(media=media))]


def annotation_of(native: dict[str, Any]) -> hub.Annotation:
    """Give a citation; what the vendor said is kept."""
    url, title = native.get("url"), native.get("title") or native.get("filename")
    start, end = native.get("start_index"), native.get("end_index")
    return hub.Annotation(
        kind="url" if isinstance(url, str) else "document",
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        start=start if isinstance(start, int) else None,
        end=end if isinstance(end, int) else None,
        native=native,
    )


def logprobs_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give log probabilities as a chat has them: there no key may be missing."""
    return [
        {
            "token": one.get("token", ""),
            "logprob": one.get("logprob"),
            "bytes": one.get("bytes"),
            "top_logprobs": [
                {"token": top.get("token", ""), "logprob": top.get("logprob"), "bytes": top.get("bytes")}
                for top in one.get("top_logprobs") or ()
            ],
        }
        for one in found
    ]


def failure_of(said: dict[str, Any]) -> hub.Failed:
    """Give the failure that an error object tells of."""
    theirs = describe(said)
    message = theirs.message or "The provider reported an error."
    code = theirs.code
    return hub.Failed(message=message, type=theirs.type, code=code, status=_STATUSES.get(code or ""))
