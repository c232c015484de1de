"""A vendor's stream of chat completion chunks → the hub's events.

Each chunk is decoded once. A chunk that holds nothing but text, as most do, takes the short way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from raven_openai import finish
from raven_openai.presets import Preset
from raven_proxy import hub
from raven_proxy.dialects import SSEReader
from raven_proxy.exchange import Usage
from raven_proxy.sse import Event

from . import answers
from .calling import Calls

__all__ = ["ChunkReader", "Counter"]

Counter = Callable[[answers.Document, int], Usage | None]
"""Reads a document's usage, given the length of the model's words so far; None where it has none."""


class _Choice:
    """What must be known of a choice while it comes in."""

    __slots__ = ("blocks", "calls", "finish", "native", "thought", "was_thinking")

    def __init__(self, index: int, reply_id: str) -> None:
        self.calls = Calls(index, reply_id)
        self.blocks: dict[Any, int] = {}  # the vendor's reasoning block → ours
        self.thought = 0  # the block of plain thinking
        self.was_thinking = False
        self.finish: str | None = None  # the vendor's word, once it said one
        self.native: str | None = None  # the word of the vendor behind it


class ChunkReader:
    """Reads one stream; give `reader()` to the translation."""

    def __init__(self, preset: Preset, count: Counter) -> None:
        self._words = preset.finish_words or {}
        self._ends_with_done = preset.ends_with_done
        self._count = count
        self._choices: dict[int, _Choice] = {}
        self._has_started = self._is_over = False
        self._id = ""
        self._written = 0  # characters
        self._citations: list[hub.Annotation] = []

    def reader(self, whole: Callable[[bytes], Iterable[hub.Event]] | None = None) -> SSEReader:
        """Give the reader of bytes; `whole` reads a document that came in the place of a stream."""
        return SSEReader(self.read, self.end, whole)

    def read(self, event: Event) -> Iterable[hub.Event]:
        """Take an event that has data."""
        data = event.data or b""
        if self._is_over or not data.strip():
            return ()
        if data.strip() == b"[DONE]":
            return self._finish_all()
        if event.name == b"error":
            self._is_over = True
            return (answers.read_failure(msgspec.json.decode(data)),)
        document = answers.decode(data)
        found = document.choices
        if found is not None and len(found) == 1 and document.usage is None and document.error is None:
            answer = found[0]
            delta = answer.delta
            if (
                delta is not None
                and type(delta.content) is str
                and self._has_started
                and answer.finish_reason is None
                and answer.index == 0
                and 0 in self._choices
                and _is_plain(answer, delta)
            ):
                if not delta.content:
                    return ()
                self._written += len(delta.content)
                self._choices[0].was_thinking = False
                return (hub.TextDelta(delta.content),)
        return self._read(document)

    def end(self) -> Iterable[hub.Event]:
        """The bytes ended: that is an end only where the vendor has no other."""
        if self._is_over or self._ends_with_done or not self._choices:
            return ()
        if any(choice.finish is None for choice in self._choices.values()):
            return ()
        return self._finish_all()

    def _read(self, document: answers.Document) -> Iterator[hub.Event]:
        failure = answers.find_failure(document)
        if failure is not None:
            self._is_over = True
            yield failure
            return
        found = document.choices or ()
        if not self._has_started and (found or document.id):  # Azure's first chunk has neither
            self._has_started = True
            started = document.started()
            self._id = started.id
            yield started
        if document.citations is not None or document.search_results is not None:
            self._citations = answers.read_citations(document) or self._citations
        for place, answer in enumerate(found):
            index = answer.index if type(answer.index) is int and 0 <= answer.index < 256 else place
            choice = self._choices.get(index)
            whole = answer.message if choice is None else None
            if choice is None:
                choice = self._choices[index] = _Choice(index, self._id)
            delta = answer.delta or whole  # one event may hold all of it
            if delta is not None:
                yield from self._read_delta(delta, choice, index)
            if answer.logprobs is not None and any(answer.logprobs.values()):
                yield hub.LogprobsAdded(answer.logprobs, index)
            if answer.finish_reason:  # told at the end: Together says it after each call
                choice.finish = answer.finish_reason
                choice.native = answer.native_finish_reason or choice.native
        usage = self._count(document, self._written)
        if usage is not None:
            yield hub.UsageReported(usage)

    # -- one delta ------------------------------------------------------------------------

    def _read_delta(self, delta: answers.Message, choice: _Choice, index: int) -> Iterator[hub.Event]:
        if delta.reasoning_details or delta.reasoning_content or delta.reasoning:
            yield from self._read_thinking(delta, choice, index)
        content = delta.content
        if content:
            if isinstance(content, str):
                self._written += len(content)
                choice.was_thinking = False
                yield hub.TextDelta(content, index)
            else:
                yield from self._read_list(content, choice, index)
        if delta.refusal:
            self._written += len(delta.refusal)
            yield hub.RefusalDelta(delta.refusal, index)
        if delta.tool_calls:
            choice.was_thinking = False
            for call in delta.tool_calls:
                yield from choice.calls.read(call)
        if delta.function_call is not None:
            yield from choice.calls.read(answers.Call(index=-1, function=delta.function_call))
        if delta.annotations:
            for item in delta.annotations:
                if (annotation := answers.read_annotation(item)) is not None:
                    yield hub.AnnotationAdded(annotation, index)
        if delta.images:
            for item in delta.images:
                if (image := answers.read_image(item)) is not None:
                    yield hub.PartMade(image, index)
        if (audio := answers.read_audio(delta.audio)) is not None:
            audio_id, data, transcript, expires_at = audio
            self._written += len(transcript)
            yield hub.AudioDelta(
                id=audio_id, data=data, transcript=transcript, expires_at=expires_at, choice=index
            )

    def _read_list(self, content: list[Any], choice: _Choice, index: int) -> Iterator[hub.Event]:
        for kind, piece in answers.read_content(content):
            if kind == "text" and piece:
                self._written += len(piece)
                choice.was_thinking = False
                yield hub.TextDelta(piece, index)
            elif kind == "thinking":
                yield self._think(piece[0], choice, index, signature=piece[1])
            elif kind == "image":
                yield hub.PartMade(piece, index)

    def _read_thinking(self, delta: answers.Message, choice: _Choice, index: int) -> Iterator[hub.Event]:
        said = False
        for key, part in answers.read_details(delta.reasoning_details or []):
            is_googles = part.kind == "encrypted" and part.format == "google"
            if is_googles and part.data and any(call.id == part.id for call in delta.tool_calls or ()):
                choice.calls.signatures[part.id or ""] = part.data
                continue
            block = choice.blocks.setdefault(key, len(choice.blocks))
            said = said or bool(part.text)
            self._written += len(part.text)
            yield hub.ReasoningDelta(
                part.text, index, block, part.kind, part.signature, part.data, part.format, part.id
            )
        if not said and (text := answers.thinking_text(delta)):
            yield self._think(text, choice, index)

    def _think(
        self, text: str, choice: _Choice, index: int, signature: str | None = None
    ) -> hub.ReasoningDelta:
        if not choice.was_thinking:  # thinking that goes on after an answer began is another block
            choice.was_thinking = True
            choice.thought = choice.blocks[object()] = len(choice.blocks)
        self._written += len(text)
        return hub.ReasoningDelta(text, index, choice.thought, signature=signature)

    # -- ends ----------------------------------------------------------------------------

    def _finish(self, choice: _Choice, index: int) -> Iterator[hub.Event]:
        native = choice.finish or "stop"  # some say that they are done, but not why
        word = finish.normalize(native, self._words)
        yield from choice.calls.finish()
        if index == 0:
            for annotation in self._citations:
                yield hub.AnnotationAdded(annotation, 0)
        if (choice.calls and word == "stop") or word == "function_call":
            word = "tool_calls"
        yield hub.Finished(
            finish=word,  # type: ignore[arg-type]
            native=choice.native or (native if native != word else None),
            choice=index,
        )

    def _finish_all(self) -> Iterator[hub.Event]:
        self._is_over = True
        for index, choice in self._choices.items():
            yield from self._finish(choice, index)
        yield hub.Ended()


def _is_plain(answer: answers.Answer, delta: answers.Message) -> bool:
    """Say whether a delta holds nothing but its content."""
    return not (
        delta.tool_calls
        or delta.reasoning_content
        or delta.reasoning
        or delta.reasoning_details
        or delta.refusal
        or delta.annotations
        or delta.images
        or delta.audio
        or delta.function_call
        or answer.logprobs
        or answer.error
        or answer.usage
    )
