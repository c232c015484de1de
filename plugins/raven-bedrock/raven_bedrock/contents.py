"""Writes the hub's parts as Converse's content blocks.

Images, documents and sound go as bytes (base64) or as S3 addresses; a link is a 400 that says how to have
it fetched. Documents get neutral names: Bedrock shows the name to the model.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .citations import write_redacted
from .models import Model

__all__ = ["Block", "Blocks", "tool_id"]

Block = dict[str, Any]

_IMAGES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_SOUNDS = frozenset("mp3 opus wav aac flac mp4 ogg mkv mka x-aac m4a mpeg mpga pcm webm".split())
_ENDINGS = {"htm": "html", "text": "txt", "markdown": "md"}
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NO_OUTPUT = "(no output)"  # Bedrock refuses blank text, and a result without content


class Blocks:
    """Writes the blocks of one request; `titles` are the documents' own names by those they got."""

    def __init__(self, request: hub.ChatRequest, model: Model) -> None:
        self._request = request
        self._model = model
        self._places = _find_places(request)
        self.titles: dict[str, str] = {}

    def write_turn(self, message: hub.Message) -> list[Block]:
        """Write a turn. Raises InvalidRequest that names the part as it stood in the client's list."""
        blocks: list[Block] = []
        for part in message.parts:
            made = self._write(part, self._places.get(id(part), "messages"))
            if made is not None:
                blocks += [made, *self.cache_point(getattr(part, "cache", None))]
        return blocks

    def cache_point(self, mark: hub.CacheMark | None) -> list[Block]:
        """Give the block that follows a marked part; none where the model cannot cache."""
        if mark is None:
            return []
        if not self._model.takes_cache_points:
            self._request.drop("cache_control")
            return []
        return [{"cachePoint": {"type": "default", **({"ttl": mark.ttl} if mark.ttl == "1h" else {})}}]

    def _write(self, part: hub.Part, where: str) -> Block | None:
        if isinstance(part, hub.Text | hub.Refusal):
            return {"text": part.text} if part.text.strip() else None
        if isinstance(part, hub.Image):
            return self._write_image(part.media, where)
        if isinstance(part, hub.File):
            return self._write_file(part, where)
        if isinstance(part, hub.Audio):
            return self._write_audio(part, where)
        if isinstance(part, hub.ToolCall):
            given = {"input": part.arguments} if part.custom else hub.parse_arguments(part.arguments)
            return {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": given}}
        if isinstance(part, hub.ToolResult):
            return self._write_result(part, where)
        if isinstance(part, hub.Reasoning):
            return self._write_reasoning(part)
        return None  # what a server's tool did stays with the server

    def _write_image(self, media: hub.Media, where: str) -> Block:
        kind = (media.media_type or hub.sniff(media.data or "") or "").lower()
        if media.url is not None and media.url.startswith("s3://"):
            kind = kind or f"image/{media.url.rpartition('.')[2].lower()}"
        source = _source(media, where, "image")
        if kind not in _IMAGES:
            raise InvalidRequest(
                f"{where}: Bedrock takes images as png, jpeg, gif or webp, not as {kind or 'unknown bytes'}.",
                param=where,
            )
        return {"image": {"format": _IMAGES[kind], "source": source}}

    def _write_file(self, part: hub.File, where: str) -> Block:
        form = "txt" if part.text is not None else _document_format(part)
        if form in _IMAGES.values():
            return self._write_image(part.media, where)
        if form is None:
            what = part.media.media_type or part.filename or "a document of an unknown type"
            raise InvalidRequest(
                f"{where}: Bedrock takes documents as {', '.join(_DOCUMENTS.values())}, not {what!r}.",
                param=where,
            )
        name = f"document-{len(self.titles) + 1}"
        self.titles[name] = part.filename or name
        source = {"text": part.text} if part.text is not None else _source(part.media, where, "document")
        document: Block = {"format": form, "name": name, "source": source}
        if part.citations:
            document["citations"] = {"enabled": True}
        return {"document": document}

    def _write_audio(self, part: hub.Audio, where: str) -> Block | None:
        if part.media.data is None and part.media.url is None:
            return {"text": part.transcript} if part.transcript else None  # what a model said
        form = (part.format or (part.media.media_type or "").rpartition("/")[2]).lower()
        if form not in _SOUNDS:
            raise InvalidRequest(f"{where}: Bedrock does not take audio as {form!r}.", param=where)
        return {"audio": {"format": form, "source": _source(part.media, where, "audio")}}

    def _write_result(self, part: hub.ToolResult, where: str) -> Block:
        content = [block for one in part.content if (block := self._write(one, where)) is not None]
        marks = [one.cache for one in part.content if getattr(one, "cache", None) is not None]
        if marks and part.cache is None:
            part.cache = marks[-1]  # a point may not stand inside a result, so it comes behind it
        result: Block = {"toolUseId": tool_id(part.call_id), "content": content or [{"text": _NO_OUTPUT}]}
        if part.is_error and (self._model.is_claude or self._model.is_nova):
            result["status"] = "error"
        return {"toolResult": result}

    def _write_reasoning(self, part: hub.Reasoning) -> Block | None:
        """Write thinking whose issuer is this model's family; unsigned thinking is refused, so left out."""
        ours = self._model.reasoning_format
        if part.format != ours:
            return None
        if part.data is not None:
            return {"reasoningContent": {"redactedContent": write_redacted(part.data, ours)}}
        if part.signature is None:
            return None
        return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}


def tool_id(text: str) -> str:
    """Give a call's id as Bedrock takes it: as it is, or the same substitute for the same id."""
    return text if _ID.fullmatch(text) else f"call_{sha256(text.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _find_places(request: hub.ChatRequest) -> dict[int, str]:
    """Name each part as the client would, before turns are merged and moved."""
    has_system_apart = request.family not in ("", "openai.chat")
    places: dict[int, str] = {}
    index = 0
    for message in request.messages:
        if has_system_apart and message.role == "system":
            continue
        for place, part in enumerate(message.parts):
            places[id(part)] = f"messages[{index}].content[{place}]"
        index += 1
    return places


def _document_format(part: hub.File) -> str | None:
    kind = (part.media.media_type or "").partition(";")[0].strip().lower()
    found = _DOCUMENTS.get(kind) or _IMAGES.get(kind)
    if found is None and part.filename and "." in part.filename:
        ending = part.filename.rpartition(".")[2].lower()
        ending = _ENDINGS.get(ending, ending)
        found = ending if ending in _DOCUMENTS.values() else None
    if found is None and (sniffed := hub.sniff(part.media.data or "")) is not None:
        found = _DOCUMENTS.get(sniffed) or _IMAGES.get(sniffed)
    return found


def _source(media: hub.Media, where: str, what: str) -> Block:
    if media.data:
        data = media.data.replace("-", "+").replace("_", "/")
        return {"bytes": data.rstrip("=") + "=" * (-len(data.rstrip("=")) % 4)}
    if media.url is not None and media.url.startswith("s3://"):
        return {"s3Location": {"uri": media.url}}
    if media.url is not None:
        remedy = "send a data: URL, or have the gateway fetch links with the upstream's option fetch_images"
        raise InvalidRequest(f"{where}: Bedrock takes no {what} by its link; {remedy}.", param=where)
    if media.file_id is not None:
        raise InvalidRequest(f"{where}: Bedrock has no file ids; send the {what} as base64.", param=where)
    raise InvalidRequest(f"{where}: the {what} is empty.", param=where)
