"""Turns and parts of the hub, written as messages and content blocks of Anthropic's.

Consecutive turns of one speaker become one message, tool results first, as Anthropic wants them right
behind the calls. What Anthropic refuses and what says nothing (empty texts) is left out.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import CacheMark, ChatRequest, Media, Message, Part

from .signatures import is_ours

__all__ = ["FAMILY", "FILES_BETA", "ContentWriter", "mark", "tool_id"]

FAMILY = "anthropic.messages"
FILES_BETA = "files-api-2025-04-14"
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_USUAL = {"image": "image/png", "document": "application/pdf"}
_STANDARD = str.maketrans("-_", "+/")  # some clients send base64 as URLs have it
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")

Block = dict[str, Any]


def tool_id(call_id: str) -> str:
    """Fit another vendor's id to the letters that Anthropic takes; its own ids stay as they are."""
    return _NOT_IN_AN_ID.sub("_", call_id) or "call"


def mark(block: Block, cache: CacheMark | None) -> Block:
    """Mark a block for the cache, if the client asked for it."""
    if cache is not None:
        ttl = {"ttl": cache.ttl} if cache.ttl in ("5m", "1h") else {}
        block["cache_control"] = {"type": "ephemeral", **ttl}
    return block


class ContentWriter:
    """Writes one request's turns. `betas` are what the blocks need switched on.

    With `unsigned` thinking goes back without a signature too: to vendors that do not sign.
    """

    def __init__(self, request: ChatRequest, *, unsigned: bool) -> None:
        self._request = request
        self._unsigned = unsigned
        self.betas: set[str] = set()

    def system(self, texts: Iterable[hub.Text]) -> list[Block]:
        """Write the top-level system prompt."""
        return [mark({"type": "text", "text": one.text}, one.cache) for one in texts if one.text.strip()]

    def messages(self, turns: list[Message]) -> list[dict[str, Any]]:
        """Write the conversation. Raises InvalidRequest for what Anthropic has no block for."""
        self._refuse_audio()
        written: list[dict[str, Any]] = []
        for message in hub.merge_neighbours(turns):
            write = self._assistant if message.role == "assistant" else self._user
            blocks = [block for part in message.parts for block in write(part)]
            if not blocks:
                continue
            if written and written[-1]["role"] == message.role:  # what stood between them said nothing
                written[-1]["content"] += blocks
            else:
                written.append({"role": message.role, "content": blocks})
        if written and written[-1]["role"] == "assistant":
            _trim_end(written)
        return written

    def _refuse_audio(self) -> None:
        for index, message in enumerate(self._request.messages):
            if message.role != "assistant" and any(isinstance(part, hub.Audio) for part in message.parts):
                param = f"messages[{index}].content"
                raise InvalidRequest(
                    f"{param}: this model takes no audio. Send text, or choose a model that listens.",
                    param=param,
                )

    def _assistant(self, part: Part) -> Iterator[Block]:
        if isinstance(part, hub.Text | hub.Refusal):
            if part.text.strip():
                yield mark({"type": "text", "text": part.text}, getattr(part, "cache", None))
        elif isinstance(part, hub.Reasoning):
            yield from self._reasoning(part)
        elif isinstance(part, hub.ToolCall):
            block: Block = {"type": "tool_use", "id": tool_id(part.id), "name": part.name}
            # A custom tool is told as one with a single text argument: see `requests`.
            block["input"] = {"input": part.arguments} if part.custom else hub.parse_arguments(part.arguments)
            yield mark(block, part.cache)
        elif isinstance(part, hub.ServerTool):
            if part.dialect == FAMILY:
                yield part.native
        elif isinstance(part, hub.Audio):
            if part.transcript and part.transcript.strip():
                yield {"type": "text", "text": part.transcript}
        else:  # an image or file that a model made: only users may show such
            self._request.drop("messages[].content[]")

    def _reasoning(self, part: hub.Reasoning) -> Iterator[Block]:
        """Write thinking that its own vendor can check; other vendors' is not Anthropic's to read."""
        if self._unsigned:
            if part.text:
                signature = part.signature if is_ours(part) else None
                yield {"type": "thinking", "thinking": part.text, "signature": signature or ""}
        elif is_ours(part):
            if part.data is not None:
                yield {"type": "redacted_thinking", "data": part.data}
            elif part.signature:
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}

    def _user(self, part: Part) -> Iterator[Block]:
        if isinstance(part, hub.ToolResult):
            yield self._result(part)
        elif isinstance(part, hub.Text):
            if part.text.strip():
                yield mark({"type": "text", "text": part.text}, part.cache)
        elif isinstance(part, hub.Image):
            yield mark(self._media(part.media, "image"), part.cache)
        elif isinstance(part, hub.File):
            yield self._document(part)
        elif isinstance(part, hub.ServerTool) and part.dialect == FAMILY:
            yield part.native

    def _result(self, result: hub.ToolResult) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": tool_id(result.call_id)}
        content = [one for part in result.content for one in self._user(part)]
        if len(content) == 1 and content[0].keys() == {"type", "text"}:
            block["content"] = content[0]["text"]
        elif content:
            block["content"] = content
        if result.is_error:
            block["is_error"] = True
        return mark(block, result.cache)

    def _document(self, file: hub.File) -> Block:
        if file.text is not None:
            source: Block = {"type": "text", "media_type": "text/plain", "data": file.text}
            block: Block = {"type": "document", "source": source}
        else:
            block = self._media(file.media, "document")
        if block["type"] == "document":
            if file.filename:
                block["title"] = file.filename
            if file.citations:
                block["citations"] = {"enabled": True}
        return mark(block, file.cache)

    def _media(self, media: Media, usual: str) -> Block:
        """Write bytes, a link or an uploaded file as the block that its type asks for."""
        kind = media.media_type
        if media.file_id is not None:
            self.betas.add(FILES_BETA)
            return {"type": usual, "source": {"type": "file", "file_id": media.file_id}}
        if media.url is not None:
            if not media.url.startswith(("https://", "http://")):
                raise _wrong("only http(s) links can be read by this model; send the bytes in a data: URL")
            is_document = kind == "application/pdf" or usual == "document"
            return {
                "type": "document" if is_document else "image",
                "source": {"type": "url", "url": media.url},
            }
        data = (media.data or "").translate(_STANDARD)
        kind = (kind or hub.sniff(data) or _USUAL[usual]).partition(";")[0].strip()
        if kind == "image/jpg":
            kind = "image/jpeg"
        source = {"type": "base64", "media_type": kind, "data": data}
        if kind == "application/pdf":
            return {"type": "document", "source": source}
        if kind in _IMAGES:
            return {"type": "image", "source": source}
        if kind.startswith("text/"):
            source = {"type": "text", "media_type": "text/plain", "data": _decode_text(data)}
            return {"type": "document", "source": source}
        raise _wrong(f"{kind} is not a type that this model reads; send jpeg, png, gif, webp, pdf or text")


def _decode_text(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        raise _wrong("a text file is not valid base64; encode it again") from None


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"messages: {what}.", param="messages")


def _trim_end(written: list[dict[str, Any]]) -> None:
    """A last turn of the assistant's may not end in white space."""
    last = written[-1]["content"][-1]
    if last["type"] == "text":
        last["text"] = last["text"].rstrip()
