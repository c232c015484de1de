"""Content blocks of a client's request, read as parts of the hub.

Knows where each block stands (`messages[2].content[0]`), so that an error names it. Blocks of the
vendor's own tools keep their shape and mean nothing to other vendors.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import CacheMark, Media, Part

from .calls import explain
from .citations import read_citation
from .content import FAMILY
from .shapes import Block, CacheControl, Source
from .signatures import unpack_call, unpack_reasoning

__all__ = ["BlockReader", "decode", "read_cache"]

T = TypeVar("T")
_decode_block = msgspec.json.Decoder(Block)
_decode_native = msgspec.json.Decoder(dict[str, Any])


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, place: str) -> T:
    """Decode what stands at `place`. Raises InvalidRequest that names it."""
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise InvalidRequest(f"{place}: it is nested too deeply.", param=place or "body") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise explain(error, place) from None


def read_cache(control: CacheControl | None) -> CacheMark | None:
    """Read `cache_control`."""
    return CacheMark(control.ttl) if control is not None else None


class BlockReader:
    """Reads the blocks of one request. `dropped` names what the hub has no place for."""

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def read_all(self, content: str | list[msgspec.Raw] | None, place: str) -> list[Part]:
        """Read a message's or a tool result's content."""
        if content is None:
            return []
        if isinstance(content, str):
            return [hub.Text(text=content)]
        calls: dict[str, tuple[str, str]] = {}
        parts: list[Part] = []
        for index, raw in enumerate(content):
            parts += self._read(raw, f"{place}[{index}]", calls)
        for part in parts:
            if isinstance(part, hub.ToolCall) and part.id in calls:
                part.signature, part.format = calls[part.id]
        return parts

    def _read(self, raw: msgspec.Raw, place: str, calls: dict[str, tuple[str, str]]) -> list[Part]:
        block = decode(_decode_block, raw, place)
        cache = read_cache(block.cache_control)
        kind = block.type
        if kind == "text":
            text = _need(block.text, place, "text")
            citations = block.citations if isinstance(block.citations, list) else []
            notes = [read_citation(one, len(text)) for one in citations]
            return [hub.Text(text=text, annotations=notes, cache=cache)]
        if kind == "tool_use":
            return [
                hub.ToolCall(
                    id=_need(block.id, place, "id"),
                    name=_need(block.name, place, "name"),
                    arguments=msgspec.json.encode(block.input or {}).decode(),
                    cache=cache,
                )
            ]
        if kind == "tool_result":
            return [self._result(block, place, cache)]
        if kind == "image":
            source = _source(block, place)
            return [hub.Image(media=_media(source, f"{place}.source", "image"), cache=cache)]
        if kind == "document":
            return self._document(block, place, cache)
        if kind == "thinking":
            return [unpack_reasoning(block.thinking or "", block.signature or "", "signature")]
        if kind == "redacted_thinking":
            data = block.data or ""
            return [] if unpack_call(data, calls) else [unpack_reasoning("", data, "data")]
        return self._other(block, raw, place, cache)

    def _result(self, block: Block, place: str, cache: CacheMark | None) -> hub.ToolResult:
        content = _content(block, place)
        return hub.ToolResult(
            call_id=_need(block.tool_use_id, place, "tool_use_id"),
            content=self.read_all(content, f"{place}.content"),
            is_error=block.is_error is True,
            cache=cache,
        )

    def _document(self, block: Block, place: str, cache: CacheMark | None) -> list[Part]:
        source = _source(block, place)
        if block.context:
            self.dropped.append(f"{place}.context")
        wants = block.citations
        file = hub.File(
            media=Media(media_type="text/plain"),
            filename=block.title,
            citations=not isinstance(wants, list) and wants is not None and wants.enabled is True,
            cache=cache,
        )
        if source.type == "text":
            file.text = _need(source.data, f"{place}.source", "data")
            return [file]
        if source.type == "content":
            parts = self.read_all(source.content, f"{place}.source.content")
            file.text = "\n".join([part.text for part in parts if isinstance(part, hub.Text)])
            return [file, *(part for part in parts if isinstance(part, hub.Image))]
        file.media = _media(source, f"{place}.source", "document")
        return [file]

    def _other(self, block: Block, raw: msgspec.Raw, place: str, cache: CacheMark | None) -> list[Part]:
        if block.type == "search_result":
            content = _content(block, place)
            texts = [
                part.text for part in self.read_all(content, f"{place}.content") if isinstance(part, hub.Text)
            ]
            source = block.source if isinstance(block.source, str) else ""
            text = "\n".join([source, *texts] if source else texts)
            wants = block.citations
            cites = not isinstance(wants, list) and wants is not None and wants.enabled is True
            media = Media(media_type="text/plain")
            return [hub.File(media=media, text=text, filename=block.title, citations=cites, cache=cache)]
        if block.type == "tool_reference":
            return [hub.Text(text=f"Found the tool {block.tool_name or block.name or ''}.")]
        return [hub.ServerTool(native=decode(_decode_native, raw, place), dialect=FAMILY)]


def _need(value: str | None, place: str, name: str) -> str:
    if value is None:
        raise InvalidRequest(f"{place}.{name}: it is missing. Send a string.", param=f"{place}.{name}")
    return value


def _source(block: Block, place: str) -> Source:
    if not isinstance(block.source, Source):
        raise InvalidRequest(
            f"{place}.source: it is missing. Send an object with a type.", param=f"{place}.source"
        )
    return block.source


def _media(source: Source, place: str, usual: str) -> Media:
    if source.type == "base64":
        return Media(data=_need(source.data, place, "data"), media_type=source.media_type)
    if source.type == "url":
        media = hub.media_of_url(_need(source.url, place, "url"), param=f"{place}.url")
        if usual == "document" and media.media_type is None:
            media.media_type = "application/pdf"
        return media
    if source.type == "file":
        return Media(file_id=_need(source.file_id, place, "file_id"))
    raise InvalidRequest(
        f"{place}.type: {source.type!r} is not known. Use base64, url or file.", param=f"{place}.type"
    )


def _content(block: Block, place: str) -> str | list[msgspec.Raw] | None:
    if isinstance(block.content, dict):
        raise InvalidRequest(
            f"{place}.content: expected a string or an array, got an object. Send an array of blocks.",
            param=f"{place}.content",
        )
    return block.content
