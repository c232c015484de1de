"""The stage of a stream: frames wait until their texts are decided, and go out as they came if clean.

Frames keep their order. Where another channel goes on while one is waiting, frames pile up behind it: after
16 of them, or `max_held_bytes`, the text that waits is decided as if it were over. Should it go on all the
same and become a match, its beginning is out by then; the match still ends the stream, or loses its rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

import structlog

from raven_proxy import GatewayError

from .channels import Channel
from .frames import Frame, Framer
from .judging import RuleSet
from .passages import check_lengths, judge_passages
from .replies import drop_logprobs
from .report import Report
from .shapes import Key, Reading, Shape
from .texts import list_passages

__all__ = ["MOST_COPIED", "Copying", "Hold", "Holding", "Watching", "write"]

MOST_COPIED = 2**20
"""Bytes of a stream that are looked at afterwards; longer ones are not judged by who only looks at wholes."""
_PATIENCE = 16  # frames without a piece of a channel, after which it counts as over
_log = structlog.get_logger("raven_guardrails")


class Hold:
    """Judges frames, and gives them back in order as soon as nothing of them is undecided."""

    def __init__(
        self,
        rules: RuleSet,
        report: Report,
        shape: Shape,
        *,
        cap: int,
        max_held_bytes: int,
        keeps: bool = False,
    ) -> None:
        self.channels: dict[Key, Channel] = {}
        self._rules = rules
        self._report = report
        self._shape = shape
        self._cap = cap
        self._max_held_bytes = max_held_bytes
        self._keeps = keeps
        self._queue: deque[Frame] = deque()
        self._held_bytes = 0
        self._characters = 0
        self._number = 0  # of the frame

    def take(self, frame: Frame) -> Iterable[Frame]:
        """Judge the next frame; give those that can go out now. Raises Forbidden (`guardrail_blocked`)."""
        self._number += 1
        if frame.document is not None:
            self._judge(frame)
        queue = self._queue
        if not queue and not frame.waiting:
            return (frame,)
        queue.append(frame)
        self._held_bytes += len(frame.raw)
        for channel in self.channels.values():
            if channel.is_waiting and self._number - channel.touched >= _PATIENCE:
                channel.settle(self._rules, self._report, is_over=True)
        if self._held_bytes > self._max_held_bytes:
            self._end(())
        return self._release()

    def close(self) -> Iterable[Frame]:
        """The stream is over: decide all that waits."""
        self._end(())
        return self._release()

    def _judge(self, frame: Frame) -> None:
        rules, report = self._rules, self._report
        report.has_watched = True
        reading = self._shape.read(frame.document, frame.name)
        self._judge_rest(frame, reading)
        if rules.lengths:
            self._characters += sum(len(piece.slot.text) for piece in reading.pieces)
            check_lengths(rules, self._characters, report)
        touched: dict[Key, Channel] = {}
        for piece in reading.pieces:
            channel = self.channels.get(piece.key)
            if channel is None:
                channel = Channel(self._cap, is_json=piece.is_json, keeps=self._keeps)
                self.channels[piece.key] = channel
            channel.add(piece.slot, frame)
            channel.touched = self._number
            touched[piece.key] = channel
        for key, channel in touched.items():
            is_over = any(key[: len(end)] == end for end in reading.ended)
            channel.settle(rules, report, is_over=is_over)
        for end in reading.ended:
            self._end(end)

    def _judge_rest(self, frame: Frame, reading: Reading) -> None:
        """Judge the texts that are in no channel: they are whole."""
        places: set[tuple[Hashable, ...]] = set()
        if self._shape.is_known:
            places = {piece.slot.place for piece in reading.pieces}
        passages = [
            passage
            for passage in list_passages(frame.document)
            if not any(slot.place in places for slot in passage)
        ]
        if judge_passages(self._rules, passages, self._report):
            frame.changed = True
            for piece in reading.pieces:  # the same strings, where the dialect is not known
                piece.slot.refresh()

    def _end(self, beginning: Key) -> None:
        for key, channel in self.channels.items():
            if channel.is_waiting and key[: len(beginning)] == beginning:
                channel.settle(self._rules, self._report, is_over=True)

    def _release(self) -> list[Frame]:
        queue = self._queue
        free: list[Frame] = []
        while queue and not queue[0].waiting:
            frame = queue.popleft()
            self._held_bytes -= len(frame.raw)
            free.append(frame)
        return free


class Holding:
    """A stage that lets frames through when they are decided."""

    def __init__(self, framer: Framer, hold: Hold) -> None:
        self._framer = framer
        self._hold = hold

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; give those of frames that are decided."""
        return self._write(frame for one in self._framer.feed(data) for frame in self._hold.take(one))

    def close(self) -> bytes:
        """Give the rest."""
        rest = self._write(frame for one in self._framer.close() for frame in self._hold.take(one))
        return rest + self._write(self._hold.close())

    def _write(self, frames: Iterable[Frame]) -> bytes:
        return b"".join([write(frame) for frame in frames])


class Watching:
    """A stage for guardrails that only look: the bytes go on at once, as they are."""

    def __init__(self, framer: Framer, hold: Hold) -> None:
        self._stage: Holding | None = Holding(framer, hold)

    def feed(self, data: bytes) -> bytes:
        """Look at the next bytes."""
        if self._stage is not None:
            try:
                _ = self._stage.feed(data)
            except (GatewayError, ValueError) as error:
                self._drop(error)
        return data

    def close(self) -> bytes:
        """Look at what is left."""
        if self._stage is not None:
            try:
                _ = self._stage.close()
            except (GatewayError, ValueError) as error:
                self._drop(error)
        return b""

    def _drop(self, error: Exception) -> None:
        self._stage = None
        _log.error("a stream cannot be watched", reason=str(error))


class Copying:
    """A stage around another that keeps a copy of what goes out, for who looks at the whole afterwards."""

    def __init__(self, inner: Holding | Watching, copy: bytearray) -> None:
        self._inner = inner
        self._copy = copy
        self._room = MOST_COPIED

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes."""
        return self._keep(self._inner.feed(data))

    def close(self) -> bytes:
        """Give the rest."""
        return self._keep(self._inner.close())

    def _keep(self, data: bytes) -> bytes:
        self._copy += data[: self._room]
        self._room -= min(self._room, len(data))
        return data


def write(frame: Frame) -> bytes:
    """Give a frame's bytes; the tokens that would spell what was redacted are left out."""
    if frame.changed:
        drop_logprobs(frame.document)
    return frame.to_bytes()
