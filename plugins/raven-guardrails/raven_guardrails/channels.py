"""One text that comes in pieces: what of it may go out, what has to wait, and what gives way.

Nothing waits that could not be the beginning of a match: the end of the text is compared with the beginnings
of every pattern. What waits is at most `cap` characters. A longer match is still found, since as much of the
text that went out is remembered: it ends the stream, or its rest is redacted; its beginning is out by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from .frames import Frame
from .judging import MARK, Edit, Found, RuleSet, edit, edits_of
from .passages import note_found
from .report import Report
from .slots import Slot
from .views import views_of

__all__ = ["Channel"]


class _Waiting(msgspec.Struct, frozen=True, eq=False):
    """A piece whose text is not decided: where it ends in the channel, and where it stands."""

    end: int
    slot: Slot
    frame: Frame


class Channel:
    """A text from `_base` on; what is before `settled` is decided. Places count from its beginning."""

    __slots__ = (
        "_base", "_cap", "_edits", "_in_string", "_is_json", "_noted", "_text", "_waiting", "settled",
        "slots", "touched",
    )  # fmt: skip

    def __init__(self, cap: int, *, is_json: bool, keeps: bool) -> None:
        self.settled = 0
        self.slots: list[Slot] | None = [] if keeps else None  # all of them, for who wants the whole text
        self.touched = 0  # which frame the last piece stood in
        self._noted = 0  # up to where those that only look have been told
        self._cap = cap
        self._is_json = is_json
        self._base = 0
        self._text = ""
        self._in_string = False  # whether `_base` lies within a JSON string
        self._edits: list[Edit] = []
        self._waiting: deque[_Waiting] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether a piece is held back."""
        return bool(self._waiting)

    def add(self, slot: Slot, frame: Frame) -> None:
        """Take the next piece, which stands in a frame."""
        if self._is_json and not self._text and slot.text.strip():
            self._is_json = slot.text.lstrip()[:1] in ("{", "[")  # some tools take plain text
        self._text += slot.text
        self._waiting.append(_Waiting(self._base + len(self._text), slot, frame))
        frame.waiting += 1
        if self.slots is not None:
            self.slots.append(slot)

    def settle(self, rules: RuleSet, report: Report, *, is_over: bool) -> None:
        """Decide what can be decided; all of it, if the text is over. Raises Forbidden."""
        text = self._text
        views = views_of(text)
        before = self.settled - self._base
        until = len(text) if is_over else rules.undecided(text, views, self._cap, before)
        found = rules.find(text, views)
        decided: Sequence[Found] = ()
        if found:
            until, decided = self._decide(found, before, until, is_over=is_over)
            note_found(rules, decided, report)
        for one in edits_of(decided):
            self._add_edit(one, before, rules)
        self.settled = self._base + max(before, until)
        self._release()

    def _decide(
        self, found: Sequence[Found], before: int, until: int, *, is_over: bool
    ) -> tuple[int, Sequence[Found]]:
        """Give what was newly found for sure, and how far it decides the text."""
        enforced = [one for one in found if one.rule.enforces and one.end > before]
        decided = [one for one in enforced if is_over or one.start < until]
        until = max([until, *(one.end for one in decided)])
        # What only began within another match is decided when its own end is.
        decided += [one for one in enforced if one not in decided and one.end <= until]
        for one in found:
            # Of those that only look: at the very end more could follow that makes it none.
            is_new = not one.rule.enforces and self._base + one.end > self._noted
            if is_new and (is_over or one.end < len(self._text)):
                decided.append(one)
        watched = [one.end for one in decided if not one.rule.enforces]
        self._noted = max(self._noted, self._base + max(watched, default=0))
        return until, decided

    def _add_edit(self, one: Edit, before: int, rules: RuleSet) -> None:
        start = self._base + max(one.start, before)
        end = self._base + one.end
        replacement = one.replacement
        if not replacement.strip() and self._may_join(start, rules):
            replacement = MARK
        if self._edits and self._edits[-1].end == start and one.start < before:
            replacement = ""  # the rest of what was too long to wait for
        elif self._is_json and not _is_inside(self._text[: start - self._base], self._in_string):
            replacement = f'"{replacement}"'
        self._edits.append(Edit(start, end, replacement))

    def _may_join(self, start: int, rules: RuleSet) -> bool:
        """Say whether what goes out before a place could be a match together with what comes behind it."""
        edits = [Edit(one.start - self._base, one.end - self._base, one.replacement) for one in self._edits]
        (left,) = edit([self._text[: start - self._base]], [one for one in edits if one.end > 0])
        return rules.undecided(left, views_of(left), self._cap) < len(left)

    def _release(self) -> None:
        """Write the pieces that are decided, and forget what is no longer needed."""
        waiting = self._waiting
        while waiting and waiting[0].end <= self.settled:
            piece = waiting.popleft()
            slot = piece.slot
            start = piece.end - len(slot.text)
            if any(one.start < piece.end and one.end > start for one in self._edits):
                mine = [Edit(one.start - start, one.end - start, one.replacement) for one in self._edits]
                (text,) = edit([slot.text], mine)
                slot.write(text)
                piece.frame.changed = True
            piece.frame.waiting -= 1
        oldest = waiting[0].end - len(waiting[0].slot.text) if waiting else self.settled
        self._edits = [one for one in self._edits if one.end >= oldest]
        surplus = min(oldest, self.settled) - self._cap - self._base
        if surplus > self._cap:  # not at every piece: it copies
            if self._is_json:
                self._in_string = _is_inside(self._text[:surplus], self._in_string)
            self._text = self._text[surplus:]
            self._base += surplus


def _is_inside(text: str, in_string: bool) -> bool:
    """Say whether a JSON text that began inside a string, or did not, ends inside one."""
    place = 0
    while place < len(text):
        letter = text[place]
        if in_string and letter == "\\":
            place += 1
        elif letter == '"':
            in_string = not in_string
        place += 1
    return in_string
