"""Reading Google's replies: whole ones, streams with `alt=sse`, and streams that are one array.

There is no word for the end of a stream: it has ended well if every candidate said why it ended, or if
the prompt was blocked. So a candidate's end is told at the end of the bytes, with the last usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import UpstreamError

from .finish import finish_word
from .framing import DocumentReader
from .reading import CandidateReader, Known, Remember
from .usage import read_usage
from .wire import Problem, Response

__all__ = ["GenerateReader", "GenerateSide"]

_decode = msgspec.json.Decoder(Response).decode
_decode_array = msgspec.json.Decoder(list[Response]).decode


class GenerateSide:
    """The provider's half of `gemini.generate`.

    `remember` is told the signatures of function calls. `custom` are the functions that stand for tools
    which take free text.
    """

    __slots__ = ("_known",)

    def __init__(self, remember: Remember | None = None, custom: frozenset[str] = frozenset()) -> None:
        self._known = Known(remember, custom)

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole reply, or the array that an unframed stream is. Raises UpstreamError for an error."""
        is_array = body.lstrip()[:1] == b"["
        reader = GenerateReader(self._known)
        events: list[hub.Event] = []
        for response in _decode_array(body) if is_array else (_decode(body),):
            events += reader.read(response)
        for event in events:
            if isinstance(event, hub.Failed):
                raise UpstreamError(event.message)
        return hub.gather([*events, *reader.end(is_whole=True)])

    def open_reader(self) -> _StreamReader:
        """Begin a stream."""
        return _StreamReader(GenerateReader(self._known))


class _StreamReader:
    __slots__ = ("_documents", "_reader")

    def __init__(self, reader: GenerateReader) -> None:
        self._documents = DocumentReader()
        self._reader = reader

    def feed(self, data: bytes) -> Iterable[hub.Event]:
        return self._read(self._documents.feed(data))

    def close(self) -> Iterable[hub.Event]:
        yield from self._read(self._documents.close())
        yield from self._reader.end()

    def _read(self, documents: Iterable[bytes]) -> Iterator[hub.Event]:
        for document in documents:
            yield from self._reader.read(_decode(document))


class GenerateReader:
    """Makes events of decoded chunks."""

    __slots__ = ("_blocked", "_candidates", "_has_started", "_known")

    def __init__(self, known: Known) -> None:
        self._known = known
        self._candidates: dict[int, CandidateReader] = {}
        self._blocked: str | None = None
        self._has_started = False

    def read(self, response: Response) -> list[hub.Event]:
        """Give the events of one chunk."""
        if response.error is not None:
            return [_fail(response.error)]
        events: list[hub.Event] = []
        if not self._has_started:
            self._has_started = True
            events.append(
                hub.Started(
                    id=response.response_id or "",
                    model=response.model_version or "",
                    created=_seconds(response.create_time),
                )
            )
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason:
            self._blocked = finish_word(feedback.block_reason) or "BLOCKED"
        for candidate in response.candidates or ():
            index = candidate.index or 0
            (self._candidates.get(index) or self._open(index)).read(candidate, events)
        if response.usage_metadata is not None:
            usage = read_usage(response.usage_metadata)
            if usage is not None:
                events.append(hub.UsageReported(usage))
        return events

    def end(self, *, is_whole: bool = False) -> Iterator[hub.Event]:
        """The bytes ended. A whole reply has ended by that; a stream only if Google said why."""
        candidates = self._candidates
        if self._blocked is not None and not candidates:
            yield hub.Finished(finish="content_filter", native=self._blocked)
            yield hub.Ended()
            return
        if is_whole and not candidates:
            yield hub.Finished(finish="error")
        elif not is_whole and (not candidates or not all(one.reason for one in candidates.values())):
            return
        for index in sorted(candidates):
            yield candidates[index].finish()
        yield hub.Ended()

    def _open(self, index: int) -> CandidateReader:
        if not 0 <= index < 64:
            raise ValueError("a candidate's index is out of range")
        found = self._candidates[index] = CandidateReader(index, self._known)
        return found


def _fail(problem: Problem) -> hub.Failed:
    status: Any = problem.code
    return hub.Failed(
        message=problem.message or "The provider reported an error.",
        type=problem.status,
        status=status if type(status) is int and 400 <= status < 600 else None,
    )


def _seconds(time: str | None) -> int:
    if not time:
        return 0
    try:
        return int(msgspec.convert(time, datetime).timestamp())
    except msgspec.ValidationError:
        return 0
