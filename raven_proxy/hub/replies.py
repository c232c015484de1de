"""What comes back from a chat: whole, or as events; and how one is made of the other.

A reader makes events of a vendor's stream, a writer makes a client's stream of events. Both are
state machines without I/O: what they give never depends on how the bytes were cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from raven_proxy.exchange import Usage

from .parts import Annotation, Audio, Image, Part, Reasoning, Refusal, ServerTool, Text, ToolCall

__all__ = [
    "AnnotationAdded",
    "AudioDelta",
    "ChatReply",
    "Choice",
    "Ended",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "LogprobsAdded",
    "PartMade",
    "Pinged",
    "ReasoningDelta",
    "RefusalDelta",
    "Started",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallStarted",
    "UsageReported",
    "events_of",
    "gather",
]

Finish = Literal["stop", "length", "tool_calls", "content_filter", "error"]


class Choice(msgspec.Struct, kw_only=True):
    """One answer; its parts are in the order in which the model made them.

    `native_finish` is the vendor's own word. `stop_sequence` is the one that was hit, if it is known.
    `logprobs` has OpenAI's shape (`{"content": […], "refusal": …}`).
    """

    parts: list[Part] = []
    finish: Finish = "stop"
    native_finish: str | None = None
    stop_sequence: str | None = None
    logprobs: dict[str, Any] | None = None


class ChatReply(msgspec.Struct, kw_only=True):
    """A whole reply. `id` is the vendor's, `created` in Unix seconds; 0 and "" where it has none."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


# Events carry `choice`, the index of the answer they belong to, which is 0 but for `n` > 1.


class Started(msgspec.Struct, kw_only=True, gc=False):
    """The reply begins; once a stream, before anything else. `usage` is of the prompt."""

    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


class TextDelta(msgspec.Struct, gc=False):
    """More text. `part` counts the text parts of a choice where the vendor tells them apart."""

    text: str
    choice: int = 0
    part: int = 0


class ReasoningDelta(msgspec.Struct, gc=False):
    """More thinking: any of text, signature, opaque data. Another `part` begins another block."""

    text: str = ""
    choice: int = 0
    part: int = 0
    kind: Literal["text", "summary", "encrypted"] = "text"
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None


class RefusalDelta(msgspec.Struct, gc=False):
    """More of a refusal."""

    text: str
    choice: int = 0


class ToolCallStarted(msgspec.Struct, gc=False):
    """The model calls a function; `index` counts the client's calls of a choice from 0."""

    index: int
    id: str
    name: str
    choice: int = 0
    custom: bool = False
    signature: str | None = None
    format: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """More of a call's arguments (JSON text). A call whose arguments never come has `{}`: readers say so."""

    index: int
    arguments: str
    choice: int = 0


class AnnotationAdded(msgspec.Struct):
    """A citation in the text so far."""

    annotation: Annotation
    choice: int = 0
    part: int = 0


class AudioDelta(msgspec.Struct, kw_only=True):
    """More sound: base64 data, transcript, or the id at its beginning."""

    id: str | None = None
    data: str = ""
    transcript: str = ""
    expires_at: int | None = None
    choice: int = 0


class PartMade(msgspec.Struct):
    """A part that comes whole: an image that the model made, something that a server tool did."""

    part: Image | ServerTool
    choice: int = 0


class LogprobsAdded(msgspec.Struct):
    """Log probabilities in OpenAI's shape."""

    logprobs: dict[str, Any]
    choice: int = 0


class Finished(msgspec.Struct, kw_only=True, gc=False):
    """A choice is complete."""

    finish: Finish
    native: str | None = None
    stop_sequence: str | None = None
    choice: int = 0


class UsageReported(msgspec.Struct, gc=False):
    """What was used so far, cumulative: the last one counts."""

    usage: Usage


class Failed(msgspec.Struct, kw_only=True, gc=False):
    """The vendor says inside the stream that it failed. Nothing follows. Nothing is scrubbed yet."""

    message: str
    type: str | None = None
    code: str | None = None
    status: int | None = None  # what it would have been outside a stream, if the vendor's word tells


class Pinged(msgspec.Struct, gc=False):
    """The vendor shows that it is alive."""


class Ended(msgspec.Struct, gc=False):
    """The dialect's own end was seen. A stream without it is broken off."""


Event = (
    Started | TextDelta | ReasoningDelta | RefusalDelta | ToolCallStarted | ToolCallDelta | AnnotationAdded
    | AudioDelta | PartMade | LogprobsAdded | Finished | UsageReported | Failed | Pinged | Ended
)  # fmt: skip


def events_of(reply: ChatReply) -> Iterator[Event]:
    """Tell a whole reply as a stream: for a client that asked for one and a vendor that gave none."""
    yield Started(
        id=reply.id,
        model=reply.model,
        created=reply.created,
        service_tier=reply.service_tier,
        system_fingerprint=reply.system_fingerprint,
    )
    for index, choice in enumerate(reply.choices):
        yield from _events_of_parts(choice.parts, index)
        if choice.logprobs is not None:
            yield LogprobsAdded(choice.logprobs, index)
        yield Finished(
            finish=choice.finish,
            native=choice.native_finish,
            stop_sequence=choice.stop_sequence,
            choice=index,
        )
    if reply.usage is not None:
        yield UsageReported(reply.usage)
    yield Ended()


def _events_of_parts(parts: Iterable[Part], choice: int) -> Iterator[Event]:
    texts = thoughts = calls = 0
    for part in parts:
        if isinstance(part, Text):
            yield TextDelta(part.text, choice, texts)
            for annotation in part.annotations:
                yield AnnotationAdded(annotation, choice, texts)
            texts += 1
        elif isinstance(part, Reasoning):
            yield ReasoningDelta(
                part.text, choice, thoughts, part.kind, part.signature, part.data, part.format, part.id
            )
            thoughts += 1
        elif isinstance(part, ToolCall):
            yield ToolCallStarted(calls, part.id, part.name, choice, part.custom, part.signature, part.format)
            yield ToolCallDelta(calls, part.arguments, choice)
            calls += 1
        elif isinstance(part, Refusal):
            yield RefusalDelta(part.text, choice)
        elif isinstance(part, Audio):
            yield AudioDelta(
                id=part.id,
                data=part.media.data or "",
                transcript=part.transcript or "",
                expires_at=part.expires_at,
                choice=choice,
            )
        elif isinstance(part, Image | ServerTool):
            yield PartMade(part, choice)


def gather(events: Iterable[Event]) -> ChatReply:
    """Make a whole reply of a stream: for a client that asked for no stream. `Failed` is not looked at."""
    from .gathering import Gatherer  # the two know each other

    gatherer = Gatherer()
    for event in events:
        gatherer.add(event)
    return gatherer.reply()
