"""A whole reply, put together from the events of a stream."""

from __future__ import annotations

from typing import Any

from .parts import Audio, Media, Part, Reasoning, Refusal, Text, ToolCall
from .replies import (
    AnnotationAdded,
    AudioDelta,
    ChatReply,
    Choice,
    Event,
    Finished,
    LogprobsAdded,
    PartMade,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)

__all__ = ["Gatherer"]


class Gatherer:
    """Takes events in any number; `reply` gives what they add up to so far."""

    def __init__(self) -> None:
        self._reply = ChatReply()
        self._open: dict[tuple[int, str, int], Any] = {}  # (choice, kind, index) → the part being made
        self._pieces: dict[int, list[str]] = {}  # id of a part → its text so far: joined once

    def add(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, Started):
            reply = self._reply
            reply.id, reply.model, reply.created = event.id, event.model, event.created
            reply.service_tier, reply.system_fingerprint = event.service_tier, event.system_fingerprint
            reply.usage = event.usage
        elif isinstance(event, UsageReported):
            self._reply.usage = event.usage
        elif isinstance(event, Finished):
            choice = self._choice(event.choice)
            choice.finish, choice.native_finish = event.finish, event.native
            choice.stop_sequence = event.stop_sequence
        elif isinstance(event, LogprobsAdded):
            self._add_logprobs(self._choice(event.choice), event.logprobs)
        elif isinstance(event, PartMade):
            self._choice(event.choice).parts.append(event.part)
        else:
            self._add_delta(event)

    def reply(self) -> ChatReply:
        """Give the reply; safe to call once."""
        for part in self._open.values():
            text = "".join(self._pieces[id(part)])
            if isinstance(part, ToolCall):
                part.arguments = text
            elif isinstance(part, Audio):
                part.media.data = text
            else:
                part.text = text
        return self._reply

    def _add_delta(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._piece(event.choice, "text", event.part, Text(text="")).append(event.text)
        elif isinstance(event, ReasoningDelta):
            self._add_reasoning(event)
        elif isinstance(event, RefusalDelta):
            self._piece(event.choice, "refusal", 0, Refusal(text="")).append(event.text)
        elif isinstance(event, ToolCallStarted):
            call = ToolCall(id=event.id, name=event.name, arguments="", custom=event.custom)
            call.signature, call.format = event.signature, event.format
            self._piece(event.choice, "call", event.index, call)
        elif isinstance(event, ToolCallDelta):
            new = ToolCall(id="", name="", arguments="")
            self._piece(event.choice, "call", event.index, new).append(event.arguments)
        elif isinstance(event, AnnotationAdded):
            self._piece(event.choice, "text", event.part, Text(text=""))
            self._open[event.choice, "text", event.part].annotations.append(event.annotation)
        elif isinstance(event, AudioDelta):
            self._add_audio(event)

    def _add_reasoning(self, event: ReasoningDelta) -> None:
        self._piece(event.choice, "reasoning", event.part, Reasoning()).append(event.text)
        part: Reasoning = self._open[event.choice, "reasoning", event.part]
        part.kind = event.kind
        for name in ("signature", "data"):
            if (more := getattr(event, name)) is not None:
                setattr(part, name, (getattr(part, name) or "") + more)
        part.format = event.format or part.format
        part.id = event.id or part.id

    def _add_audio(self, event: AudioDelta) -> None:
        self._piece(event.choice, "audio", 0, Audio(media=Media(data=""))).append(event.data)
        part: Audio = self._open[event.choice, "audio", 0]
        part.id = event.id or part.id
        part.transcript = (part.transcript or "") + event.transcript
        part.expires_at = event.expires_at or part.expires_at

    def _piece(self, choice: int, kind: str, index: int, new: Part) -> list[str]:
        key = (choice, kind, index)
        part = self._open.get(key)
        if part is None:
            self._open[key] = part = new
            self._choice(choice).parts.append(new)
            self._pieces[id(new)] = []
        return self._pieces[id(part)]

    def _choice(self, index: int) -> Choice:
        choices = self._reply.choices
        while len(choices) <= index:
            choices.append(Choice())
        return choices[index]

    def _add_logprobs(self, choice: Choice, more: dict[str, Any]) -> None:
        known = choice.logprobs = choice.logprobs or {}
        for name, values in more.items():
            known[name] = [*(known.get(name) or []), *values] if isinstance(values, list) else values
