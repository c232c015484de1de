"""Whole replies of Cohere's v2 chat, read into the hub; and the pieces that streams share with them.

Source: Cohere's API reference, v2/chat.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.errors import UpstreamError
from raven_proxy.hub import Annotation, ChatReply, Choice, Part, Reasoning, Text, ToolCall
from raven_proxy.refusals import scrub

from .usage import Spent, finish_of, usage_of

__all__ = [
    "Citation",
    "Content",
    "Function",
    "Logprob",
    "VendorCall",
    "annotation_of",
    "logprobs_of",
    "read_reply",
]


class Content(msgspec.Struct, gc=False):
    """A block of text or of thinking, or more of one."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class Function(msgspec.Struct, frozen=True, gc=False):
    """What is called; `arguments` is JSON text."""

    name: str | None = None
    arguments: str | None = None


class VendorCall(msgspec.Struct, gc=False):
    """A tool call, or more of one."""

    id: str | None = None
    function: Function | None = None


class _Source(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    document: dict[str, Any] | None = None
    tool_output: dict[str, Any] | None = None


class Citation(msgspec.Struct):
    """A span of the answer, and where it comes from. Only spans of the text itself have a place there."""

    start: int | None = None
    end: int | None = None
    text: str | None = None
    sources: list[_Source] | None = None
    content_index: int | None = None
    type: str | None = None

    @property
    def is_of_text(self) -> bool:
        """Whether the text is cited, and not the thinking or the tool plan."""
        return self.type in (None, "TEXT_CONTENT")


class Logprob(msgspec.Struct):
    """A run of text and the log probabilities of its tokens."""

    text: str | None = None
    logprobs: list[float] | None = None


class _Message(msgspec.Struct):
    content: list[Content] | str | None = None
    tool_plan: str | None = None
    tool_calls: list[VendorCall] | None = None
    citations: list[Citation] | None = None


class _Reply(msgspec.Struct):
    message: _Message | str
    id: str = ""
    finish_reason: str | None = None
    usage: Spent | None = None
    logprobs: list[Logprob] | None = None


_decode = msgspec.json.Decoder(_Reply).decode


def read_reply(body: bytes) -> ChatReply:
    """Read a whole reply. Raises UpstreamError for an error under a status of 200."""
    reply = _decode(body)
    message = reply.message
    if isinstance(message, str):
        raise UpstreamError(scrub(message)[:2048] or "The provider reported an error.")
    parts, places = _read_content(message)
    for citation in message.citations or ():
        _place(citation, parts, places)
    calls = [_call(call, reply.id, index) for index, call in enumerate(message.tool_calls or ())]
    choice = Choice(
        parts=[*parts, *calls],
        finish=finish_of(reply.finish_reason, has_calls=bool(calls)),
        native_finish=reply.finish_reason,
        logprobs=logprobs_of(reply.logprobs) if reply.logprobs else None,
    )
    return ChatReply(id=reply.id, choices=[choice], usage=usage_of(reply.usage))


def annotation_of(citation: Citation) -> Annotation:
    """Give a citation as an annotation: its first source, and all of it as `native`."""
    sources = citation.sources or ()
    source = sources[0] if sources else _Source()
    known = source.document or source.tool_output or {}
    is_of_text = citation.is_of_text
    return Annotation(
        kind="document",  # whatever its address: Cohere cites what it was sent
        url=_text(known, "url"),
        title=_text(known, "title") or source.id,
        cited_text=_text(known, "text") or _text(known, "snippet") or _text(known, "content"),
        start=citation.start if is_of_text else None,
        end=citation.end if is_of_text else None,
        native=msgspec.to_builtins(citation),
    )


def logprobs_of(items: list[Logprob]) -> dict[str, Any]:
    """Give log probabilities in OpenAI's shape; a run of several tokens has their sum."""
    return {
        "content": [
            {
                "token": item.text or "",
                "logprob": sum(item.logprobs or ()),
                "bytes": list((item.text or "").encode()),
                "top_logprobs": [],
            }
            for item in items
        ],
        "refusal": None,
    }


def _read_content(message: _Message) -> tuple[list[Part], dict[int, Text]]:
    """Give the parts, and which of them are texts, by Cohere's index of the block."""
    parts: list[Part] = []
    places: dict[int, Text] = {}
    if message.tool_plan:
        parts.append(Reasoning(text=message.tool_plan))
    content = message.content or ()
    for index, block in enumerate([Content(text=content)] if isinstance(content, str) else content):
        if block.thinking is not None:
            parts.append(Reasoning(text=block.thinking))
        elif block.text is not None:
            places[index] = text = Text(text=block.text)
            parts.append(text)
    return parts, places


def _place(citation: Citation, parts: list[Part], places: dict[int, Text]) -> None:
    if not places:
        if citation.is_of_text:
            places[0] = text = Text(text="")
            parts.append(text)
        else:  # a plan's or a thought's citation with no text beside it has no place in the hub
            return
    last = next(reversed(places.values()))
    index = citation.content_index
    text = places.get(index, last) if citation.is_of_text and index is not None else last
    text.annotations.append(annotation_of(citation))


def _call(call: VendorCall, reply_id: str, index: int) -> ToolCall:
    function = call.function or Function()
    return ToolCall(
        id=call.id or f"call_{reply_id}_{index}",
        name=function.name or "",
        arguments=function.arguments or "{}",
    )


def _text(table: dict[str, Any], name: str) -> str | None:
    found = table.get(name)
    return found if isinstance(found, str) and found else None
