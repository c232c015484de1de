"""What a function gave, as Google's `functionResponse`: an object, named after the function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from raven_proxy import hub

from .media import write_file, write_image
from .models import Traits

__all__ = ["write_result"]

# `response` is a protobuf Struct, whose numbers are doubles: larger ones would come out changed.
_LARGE_NUMBER = re.compile(r"\d{16}")

Json = dict[str, Any]


def write_result(
    result: hub.ToolResult, names: Mapping[str, str], traits: Traits, *, is_vertex: bool
) -> tuple[Json, list[Json]]:
    """Write a result; and beside it what Google wants behind all results (images, for older models)."""
    texts: list[str] = []
    inside: list[Json] = []
    beside: list[Json] = []
    for part in result.content:
        if isinstance(part, hub.Text):
            texts.append(part.text)
        elif isinstance(part, hub.Image | hub.File):
            written = (
                write_image(part, is_vertex=is_vertex)
                if isinstance(part, hub.Image)
                else write_file(part, is_vertex=is_vertex)
            )
            if "text" in written:
                texts.append(written["text"])
            elif traits.is_third and "inlineData" in written:
                inside.append(written)
            else:
                beside.append(written)
    inner: Json = {
        "name": result.name or names.get(result.call_id, ""),
        "response": _respond("".join(texts), is_error=result.is_error),
    }
    if traits.is_third and result.call_id:
        inner["id"] = result.call_id
    if inside:
        inner["parts"] = inside
    return {"functionResponse": inner}, beside


def _respond(text: str, *, is_error: bool) -> Json:
    """Wrap text in the object that Google wants: its "output" and "error" have a meaning there."""
    if is_error:
        return {"error": text}
    if text.lstrip().startswith("{") and not _LARGE_NUMBER.search(text):
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            found = {}
        if found and not found.keys() & {"output", "error"}:
            return found
    return {"output": text}
