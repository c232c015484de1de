"""Judges a stream that was collected: for schemas and webhooks, which need the whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable

from .answers import has_tools
from .consulting import Asker, consult
from .frames import Frame, Framer
from .judging import RuleSet
from .replies import judge_answers
from .report import Report
from .shapes import Key, Shape
from .slots import Slot
from .stage import Hold, write

__all__ = ["judge_stream"]

_BREATH = 100  # frames judged before others get their turn


async def judge_stream(
    body: bytes,
    framer: Framer,
    hold: Hold,
    shape: Shape,
    rules: RuleSet,
    report: Report,
    asker: Asker,
    *,
    answers: bool,
) -> bytes:
    """Judge a whole stream; give it as it may go out. `hold` keeps its texts, `answers` says whether it is a
    model's answer. Raises Forbidden.
    """
    frames: list[Frame] = []
    for number, frame in enumerate((*framer.feed(body), *framer.close())):
        frames += hold.take(frame)
        if number % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
    frames += hold.close()
    texts = {key: _Joined(channel.slots or ()) for key, channel in hold.channels.items()}
    if rules.webhooks and await consult(rules, list(texts.values()), asker, report):
        _mark(frames, texts.values())
    if rules.schemas and answers:
        await asker.threads.run(judge_answers, _answers(shape, texts, frames), rules, report)
    return b"".join(map(write, frames))


class _Joined(Slot):
    """All pieces of a channel as one text; what is written stands in the first of them."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Iterable[Slot]) -> None:
        self.pieces = list(pieces)
        super().__init__(None, None, "".join(piece.text for piece in self.pieces))

    def write(self, text: str) -> None:
        """Put a text in the place of all pieces."""
        if text == self.text:
            return
        self.text = text
        self.changed = True
        for piece in self.pieces:
            piece.write(text)
            text = ""


def _mark(frames: Iterable[Frame], texts: Iterable[_Joined]) -> None:
    """Have those frames written anew in which a webhook changed something."""
    changed = {piece.holder for text in texts if text.changed for piece in text.pieces}
    for frame in frames:
        frame.changed = frame.changed or bool(changed & _holders(frame.document))


def _holders(value: object) -> set[int]:
    found: set[int] = set()
    if isinstance(value, dict):
        found.add(id(value))
        found.update(*map(_holders, value.values()))
    elif isinstance(value, list):
        found.add(id(value))
        found.update(*map(_holders, value))
    return found


def _answers(shape: Shape, texts: dict[Key, _Joined], frames: Iterable[Frame]) -> list[str] | None:
    if not shape.is_known:
        return None
    answers: dict[Hashable, str] = {}
    for key, text in texts.items():
        choice = shape.answer(key)
        if choice is not None:
            answers[choice] = answers.get(choice, "") + text.text
    if not answers and not has_tools(frame.raw for frame in frames):
        return [""]
    return list(answers.values())
