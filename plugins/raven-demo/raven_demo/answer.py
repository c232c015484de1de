"""What an endpoint of the demo makes of a request, before it becomes bytes; and how requests are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from raven_proxy import InvalidRequest

from .models import CREATED

__all__ = ["Answer", "Json", "decode", "describe", "header"]

Json = dict[str, Any]
T = TypeVar("T")


class Answer(msgspec.Struct):
    """A reply in both forms. `chunks` are a stream's JSON objects in order, without `[DONE]`; None
    where the client asked for the whole.
    """

    whole: Json
    prompt_tokens: int
    completion_tokens: int = 0
    chunks: Iterable[Json] | None = None


def decode(body: bytes, kind: type[T]) -> T:
    """Read a request. Raises InvalidRequest with `param`; fields that `kind` lacks are ignored."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        what, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".")
        raise InvalidRequest(f"{param or 'The body'}: {what[:200]}.", param=param or None) from None


def header(prefix: str, kind: str, model: str, body: bytes) -> Json:
    """Make the fields that every object of a reply begins with."""
    digest = hashlib.sha256(body).hexdigest()[:24]
    return {"id": f"{prefix}-demo{digest}", "object": kind, "created": CREATED, "model": model}


def describe(prompt_tokens: int, completion_tokens: int) -> Json:
    """Write a usage object as OpenAI does."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
