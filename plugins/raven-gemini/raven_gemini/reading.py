"""Making events of Google's answers: each candidate's parts in order, then how it ended.

A whole reply is one chunk of the same shape, so one machine reads both. Signatures of thoughts come
on any part: on a function call they stay with the call, elsewhere they are a Reasoning of their own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from raven_proxy import hub

from .finish import finish_word, normalize
from .grounding import read_citations
from .logprobs import read_logprobs
from .wire import Blob, Candidate, FunctionCall, Part

__all__ = ["DIALECT", "GOOGLE", "CandidateReader", "Known", "Remember"]

DIALECT = "gemini.generate"
GOOGLE = "google"

Remember = Callable[[str, str], None]
"""Told a call's id and its signature."""

NOTHING = msgspec.Raw()
_format = msgspec.json.format
_decode = msgspec.json.decode
_SERVER_PARTS = (
    ("executable_code", "executableCode"),
    ("code_execution_result", "codeExecutionResult"),
    ("tool_call", "toolCall"),
    ("tool_response", "toolResponse"),
)


class Known(msgspec.Struct, frozen=True):
    """What a reader has to know of the request; see `replies.GenerateSide`."""

    remember: Remember | None = None
    custom: frozenset[str] = frozenset()


class CandidateReader:
    """One candidate of a reply, over all its chunks."""

    __slots__ = (
        "_calls",
        "_cited",
        "_index",
        "_kind",
        "_known",
        "_texts",
        "_thoughts",
        "reason",
    )

    def __init__(self, index: int, known: Known) -> None:
        self._index = index
        self._known = known
        self._kind = ""  # of the part before: "text", "thought" or another
        self._texts: list[list[str]] = []  # the pieces of each text, for citations
        self._thoughts = -1
        self._calls = 0
        self._cited: set[tuple[Any, ...]] = set()
        self.reason: str | None = None

    def read(self, candidate: Candidate, events: list[hub.Event]) -> None:
        """Append the events of what one chunk adds."""
        content = candidate.content
        if content is not None and content.parts:
            for part in content.parts:
                self._read_part(part, events)
        if candidate.grounding_metadata is not None or candidate.citation_metadata is not None:
            events += self._cite(candidate)
        if candidate.logprobs_result is not None:
            found = read_logprobs(candidate.logprobs_result)
            if found is not None:
                events.append(hub.LogprobsAdded(found, self._index))
        if candidate.finish_reason is not None:
            self.reason = finish_word(candidate.finish_reason) or self.reason

    def finish(self) -> hub.Finished:
        """Say how it ended."""
        return hub.Finished(
            finish=normalize(self.reason, has_calls=self._calls > 0), native=self.reason, choice=self._index
        )

    def _read_part(self, part: Part, events: list[hub.Event]) -> None:
        text, signature = part.text, part.thought_signature
        if text is not None and not part.thought:
            if text:
                events.append(self._write(text))
        elif part.function_call is not None:
            events += self._call(part.function_call, signature)
            return
        elif part.thought:
            if text or signature:
                events.append(self._think(text or "", signature))
            return
        elif part.inline_data is not None:
            events.append(self._show(part.inline_data))
        elif (made := self._serve(part)) is not None:
            events.append(made)
            return
        if signature:
            events.append(self._think("", signature))

    def _write(self, text: str) -> hub.TextDelta:
        if self._kind != "text":
            self._kind = "text"
            self._texts.append([])
        self._texts[-1].append(text)
        return hub.TextDelta(text, self._index, len(self._texts) - 1)

    def _think(self, text: str, signature: str | None) -> hub.ReasoningDelta:
        if self._kind != "thought":
            self._kind = "thought"
            self._thoughts += 1
        if not signature:
            return hub.ReasoningDelta(text, self._index, self._thoughts)
        self._kind = ""  # the signature closes the block
        return hub.ReasoningDelta(text, self._index, self._thoughts, signature=signature, format=GOOGLE)

    def _call(self, call: FunctionCall, signature: str | None) -> Iterator[hub.Event]:
        self._kind = "call"
        index, self._calls = self._calls, self._calls + 1
        call_id = call.id or f"call_{uuid.uuid4().hex[:24]}"
        if signature and self._known.remember is not None:
            self._known.remember(call_id, signature)
        custom = call.name in self._known.custom
        yield hub.ToolCallStarted(
            index,
            call_id,
            call.name,
            self._index,
            custom,
            signature,
            GOOGLE if signature else None,
        )
        arguments = _format(call.args, indent=-1).decode() if call.args != NOTHING else "{}"
        arguments = "{}" if arguments == "null" else arguments
        yield hub.ToolCallDelta(index, _unwrap(arguments) if custom else arguments, self._index)

    def _show(self, blob: Blob) -> hub.Event:
        self._kind = "blob"
        kind = blob.mime_type or ""
        if kind.startswith("audio/"):
            return hub.AudioDelta(data=blob.data or "", choice=self._index)
        media = hub.Media(data=blob.data or "", media_type=kind or None)
        return hub.PartMade(hub.Image(media=media), self._index)

    def _serve(self, part: Part) -> hub.Event | None:
        for name, key in _SERVER_PARTS:
            found = getattr(part, name)
            if found is not None:
                self._kind = "server"
                native: dict[str, Any] = {key: found}
                if part.thought_signature:
                    native["thoughtSignature"] = part.thought_signature
                return hub.PartMade(hub.ServerTool(native=native, dialect=DIALECT), self._index)
        return None

    def _cite(self, candidate: Candidate) -> Iterator[hub.Event]:
        texts = ["".join(pieces) for pieces in self._texts]
        for text, one in read_citations(candidate.grounding_metadata, candidate.citation_metadata, texts):
            key = (text, one.start, one.end, one.url, one.title, one.cited_text)
            if key not in self._cited:  # chunks may repeat what earlier ones said
                self._cited.add(key)
                yield hub.AnnotationAdded(one, self._index, text)


def _unwrap(arguments: str) -> str:
    """Take the free text out of the one argument that stands for it."""
    found = _decode(arguments)
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments
